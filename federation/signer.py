"""Everything that this node signs with its key: requests, answers, checkpoints."""

from federation.answer import sign_answer
from federation.ports import PendingStream
from protocol.codec import encode
from protocol.key import KeyPair, sign
from protocol.log import Checkpoint, LogId
from protocol.node_identity import key_id
from protocol.signature import Claim, sign_request
from protocol.wire import SignedCheckpoint, Stream

__all__ = ["NodeSigner"]


class NodeSigner:
    """The one holder of the node's key in federation."""

    def __init__(self, name: str, key: KeyPair) -> None:
        self.name = name
        self._key = key
        self._keyid = key_id(name, key.public)

    def __repr__(self) -> str:
        """The key's id, never the key."""
        return f"NodeSigner({self._keyid})"

    @property
    def keyid(self) -> str:
        """What stands as `keyid` in our signatures."""
        return self._keyid

    def use(self, key: KeyPair) -> None:
        """Sign with another key from now on; publish its revision first."""
        self._key = key
        self._keyid = key_id(self.name, key.public)

    def request(
        self,
        *,
        method: str,
        authority: str,
        path: str,
        query: str,
        content_type: str | None,
        body: bytes,
        destination: str,
        created: int,
        nonce: bytes,
    ) -> dict[str, str]:
        """The headers of a signed request to a node (`protocol.signature`)."""
        return sign_request(
            method=method,
            authority=authority,
            path=path,
            query=query,
            content_type=content_type,
            body=body,
            destination=destination,
            keyid=self._keyid,
            private_key=self._key.seed,
            created=created,
            nonce=nonce,
        )

    def answer(self, claim: Claim, status: int, body: bytes) -> str:
        """The value of `Telex-Answer` for our answer to a verified request."""
        return sign_answer(self._key, claim.keyid, claim.nonce, status, body)

    def checkpoint(
        self, log: LogId, term: int, seq: int, digest: bytes, now: float
    ) -> SignedCheckpoint:
        """Vouch for a log of ours up to `seq`, where its chain has this hash."""
        payload = encode(Checkpoint(log, term, seq, digest, int(now)))
        signature = sign("checkpoint", self._key, payload)
        return SignedCheckpoint(payload, self._keyid, signature)

    def stream(self, pending: PendingStream, now: float) -> Stream:
        """A run of entries as it is pushed, with its checkpoint."""
        seq = pending.after + len(pending.entries)
        return Stream(
            log=pending.log,
            after=pending.after,
            previous=pending.previous,
            entries=pending.entries,
            head=pending.head,
            checkpoint=self.checkpoint(
                pending.log, pending.term, seq, pending.last_hash, now
            ),
            floor=pending.floor,
        )
