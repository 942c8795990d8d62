"""Errors, and how they travel: RFC 9457 problem documents with a stable code.

    TelexError                  the root of every error of ours
    ├── AddressError            a name that cannot be an address
    ├── Malformed               bytes that are not what they should be
    ├── IdentityError           an account log or certificate that does not hold
    └── Refused                 a request refused, with a code, status and title
        └── (codes below)

`Refused` is what crosses the wire. A node raises a subclass, the HTTP edge turns
it into a problem document, a client turns the document back into the same class:
both sides speak of one table, `CODES`. A code never changes its meaning; a title
is one sentence that a person can read, `detail` says what was wrong this time.
Neither ever holds a key, a password or message text.
"""

from typing import ClassVar

import msgspec

from protocol.whole import Whole

__all__ = [
    "CODES",
    "AddressError",
    "IdentityError",
    "Malformed",
    "Problem",
    "Refused",
    "TelexError",
    "refusal",
]


class TelexError(Exception):
    """The root of every error of ours; `str()` of it is one sentence for people."""


class AddressError(TelexError):
    """A text that cannot be an address; says which rule it breaks."""


class Malformed(TelexError):
    """Bytes from outside that cannot be decoded."""


class IdentityError(TelexError):
    """An account log, certificate or node key log that does not verify."""


class Problem(msgspec.Struct, omit_defaults=True):
    """An RFC 9457 problem document (`application/problem+json`)."""

    code: str
    title: str
    status: Whole
    detail: str = ""
    type: str = "about:blank"
    retry_after: Whole | None = None
    """Seconds to wait before the same request can succeed."""
    server_time: Whole | None = None
    """Unix seconds at the node, so that a client with a wrong clock learns it."""
    epoch: Whole | None = None
    """The room's current MLS epoch, with `stale_epoch`."""


CODES: dict[str, type["Refused"]] = {}
"""Every refusal by its code; filled as the classes are defined."""


class Refused(TelexError):
    """A request refused by a node: the one family of errors that travels."""

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "The node refused this request."

    def __init_subclass__(cls) -> None:
        """Enter the class in `CODES`; two classes with one code are a mistake."""
        if cls.code in CODES:
            raise TypeError(f"two refusals share the code {cls.code!r}")
        CODES[cls.code] = cls

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after: int | None = None,
        server_time: int | None = None,
        epoch: int | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail
        self.retry_after = retry_after
        self.server_time = server_time
        self.epoch = epoch

    def __str__(self) -> str:
        """The title, with the detail behind it where there is one."""
        return f"{self.title} {self.detail}".rstrip()

    def problem(self) -> Problem:
        """This refusal as it goes over the wire."""
        return Problem(
            code=self.code,
            title=self.title,
            status=self.status,
            detail=self.detail,
            retry_after=self.retry_after,
            server_time=self.server_time,
            epoch=self.epoch,
        )


CODES[Refused.code] = Refused


def refusal(problem: Problem) -> Refused:
    """The error a problem document stands for; unknown codes become `Refused`."""
    kind = CODES.get(problem.code, Refused)
    error = kind(
        problem.detail if kind is not Refused else problem.detail or problem.title,
        retry_after=problem.retry_after,
        server_time=problem.server_time,
        epoch=problem.epoch,
    )
    return error


# --- who is asking -----------------------------------------------------------


class SignatureMissing(Refused):
    code, status = "signature_missing", 401
    title = "This request must be signed."


class SignatureInvalid(Refused):
    code, status = "signature_invalid", 401
    title = "The signature of this request does not hold."


class SignatureExpired(Refused):
    code, status = "signature_expired", 401
    title = "The time in this request's signature is too far from the node's clock."


class WrongDestination(Refused):
    code, status = "wrong_destination", 401
    title = "This request was signed for another node."


class DigestMismatch(Refused):
    code, status = "digest_mismatch", 401
    title = "The body of this request is not the one that was signed."


class Replayed(Refused):
    code, status = "replayed", 401
    title = "This request was already received once."


class UnknownKey(Refused):
    code, status = "unknown_key", 401
    title = "The node does not know the key that signed this request."


class DeviceRevoked(Refused):
    code, status = "device_revoked", 403
    title = "This device was revoked."


class DeviceExpired(DeviceRevoked):
    code, status = "device_expired", 403
    title = "This device's certificate has expired; log in again."


class AccountDisabled(Refused):
    code, status = "account_disabled", 403
    title = "This account was disabled by the node's admin."


class BadLogin(Refused):
    code, status = "bad_login", 403
    title = "The account or the password is wrong."


# --- what is asked -----------------------------------------------------------


class BadRequest(Refused):
    code, status = "bad_request", 400
    title = "The node could not read this request."


class BadAddress(Refused):
    code, status = "bad_address", 400
    title = "This is not an address Telex can use."


class TooLarge(Refused):
    code, status = "too_large", 413
    title = "This request is larger than the node takes."


class UnsupportedMedia(Refused):
    code, status = "unsupported_media", 415
    title = "Send application/msgpack or application/json."


class NotFound(Refused):
    code, status = "not_found", 404
    title = "There is nothing at this address."


class UnknownAccount(Refused):
    code, status = "unknown_account", 404
    title = "There is no such account."


class UnknownRoom(Refused):
    code, status = "unknown_room", 404
    title = "There is no such room, or you are not in it."


class AccountTaken(Refused):
    code, status = "account_taken", 409
    title = "This name is already taken."


class BadInvite(Refused):
    code, status = "bad_invite", 403
    title = "This invite is not valid or was already used; ask the admin for one."


class RegistrationClosed(Refused):
    code, status = "registration_closed", 403
    title = "This node takes no new accounts."


class BadIdentity(Refused):
    code, status = "bad_identity", 422
    title = "The account's keys or certificates do not hold."


class LogForked(Refused):
    code, status = "log_forked", 409
    title = "This does not continue the log the node has."


class BadRecovery(Refused):
    code, status = "bad_recovery", 403
    title = "The account or the recovery phrase is wrong."


class UnknownLink(Refused):
    code, status = "unknown_link", 404
    title = "There is no such link, or it has expired; begin again with a new code."


class LinkPending(Refused):
    code, status = "link_pending", 404
    title = "Nobody has answered this link yet; ask again."


class LinkTaken(Refused):
    code, status = "link_taken", 409
    title = "This link was used already; begin again with a new code."


class UnknownVault(Refused):
    code, status = "unknown_vault", 404
    title = "There is no such backup, or no such part of it, on the node."


class VaultConflict(Refused):
    code, status = "vault_conflict", 409
    title = "This does not continue the backup that the node has."


class QuotaExceeded(Refused):
    code, status = "quota_exceeded", 413
    title = "The node keeps no more backups for this account; delete an old one."


class UnknownBlob(Refused):
    code, status = "unknown_blob", 404
    title = "The node does not have this file; it may have expired."


class UploadConflict(Refused):
    code, status = "upload_conflict", 409
    title = "This does not continue the upload that the node has."


class BlobMismatch(Refused):
    code, status = "blob_mismatch", 422
    title = "The file that arrived is not the one that was announced; send it again."


class BlobQuotaExceeded(Refused):
    code, status = "blob_quota_exceeded", 413
    title = "The node keeps no more files for this account; delete an old one."


class RangeUnsatisfiable(Refused):
    code, status = "range_unsatisfiable", 416
    title = "The file does not reach as far as the part that was asked for."


# --- rooms -------------------------------------------------------------------


class NotAllowed(Refused):
    code, status = "not_allowed", 403
    title = "You may not do this in this room."


class StaleEpoch(Refused):
    code, status = "stale_epoch", 409
    title = "The room's keys have moved on; read the log and try again."


class InvalidCommit(Refused):
    code, status = "invalid_commit", 422
    title = "The room's hub refused this change of keys."


class NoKeyPackage(Refused):
    code, status = "no_key_package", 409
    title = "This person has no device that can be added right now."


# --- limits and trouble ------------------------------------------------------


class TooMany(Refused):
    code, status = "too_many", 429
    title = "Too many requests; wait and try again."


class NodeBusy(Refused):
    code, status = "node_busy", 503
    title = "The node is stopping or has too much to do; try again."


class NodeFault(Refused):
    code, status = "node_fault", 500
    title = "The node failed at this; its admin finds the cause in its log."


class StorageFull(Refused):
    code, status = "storage_full", 507
    title = "The node's disk is full, so it stored nothing; its admin has to make room."


class StorageFailed(Refused):
    code, status = "storage_failed", 503
    title = "The node's disk failed, so it stored nothing; its admin has to look."


class StorageReadOnly(StorageFailed):
    code, status = "storage_read_only", 503
    title = (
        "The node's disk is read-only, so it stored nothing; its admin has to make it "
        "writable."
    )


class StorageBusy(StorageFailed):
    code, status = "storage_busy", 503
    title = (
        "Another program holds the node's database, so it stored nothing; its admin "
        "has to end that."
    )


class StorageDamaged(StorageFailed):
    code, status = "storage_damaged", 503
    title = (
        "A part of the node's database is damaged, and this needs it; its admin has to "
        "restore a backup."
    )


class SessionReplaced(Refused):
    code, status = "session_replaced", 409
    title = "This device opened another session, which ends this one."


class PeerUnreachable(Refused):
    code, status = "peer_unreachable", 503
    title = "The other node cannot be reached right now."


class PeerRefused(Refused):
    code, status = "peer_refused", 502
    title = "The other node refused this."


class PeerUntrusted(Refused):
    code, status = "peer_untrusted", 403
    title = "The other node's keys changed without a signature of the old ones."


class PeerBlocked(Refused):
    code, status = "peer_blocked", 403
    title = "These two nodes do not talk to each other; an admin blocked it."


class BadCheckpoint(Refused):
    code, status = "bad_checkpoint", 422
    title = "These entries are not the ones that their checkpoint vouches for."


class VersionUnsupported(Refused):
    code, status = "version_unsupported", 400
    title = "The two sides speak no common version of the protocol."
