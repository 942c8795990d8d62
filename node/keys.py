"""The node's own key: two small files in the data directory.

`node.key` holds the key's seed and is readable by its owner alone. `node-keys.json`
is the public key log (`protocol.node_identity`), which peers pin: losing it is as bad
as losing the key. The recovery key, which can replace a lost or stolen node key, is
written once by `init` and belongs on paper or a stick, not on the server.
"""

import os
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from protocol.errors import IdentityError, TelexError
from protocol.key import KeyPair
from protocol.node_identity import (
    NodeIdentity,
    begin_node_log,
    next_revision,
    read_node_log,
)

__all__ = [
    "KeyProblem",
    "NodeKeys",
    "create_keys",
    "fingerprint",
    "load_keys",
    "read_recovery_key",
    "rotate_keys",
    "write_private",
]

KEY_FILE = "node.key"
LOG_FILE = "node-keys.json"
NEXT_FILE = "node.key.next"
"""The new key while a rotation is under way."""


class KeyProblem(TelexError):
    """The node's key cannot be used; says why and what to do."""


@dataclass(frozen=True, slots=True)
class NodeKeys:
    """The key in force and the log that says so."""

    identity: NodeIdentity
    key: KeyPair = field(repr=False)
    revisions: list[bytes] = field(repr=False)


class _LogFile(msgspec.Struct):
    name: str
    revisions: list[bytes]


def create_keys(directory: Path, name: str, now: int) -> bytes:
    """Make a node's first key.

    Args:
        directory: the data directory, which exists.
        name: the node's name.
        now: unix seconds.

    Returns:
        The recovery key's seed, which is kept nowhere else.
    """
    key, recovery = KeyPair.from_seed(os.urandom(32)), os.urandom(32)
    revision = begin_node_log(name, key, KeyPair.from_seed(recovery).public, now)
    write_private(directory / KEY_FILE, b64encode(key.seed) + b"\n")
    encoded = msgspec.json.encode(_LogFile(name, [revision]))
    write_private(directory / LOG_FILE, encoded + b"\n")
    return recovery


def load_keys(directory: Path, name: str) -> NodeKeys:
    """The key and the log of a node, held against each other.

    Raises:
        KeyProblem: a file is missing or damaged, or of another node.
    """
    identity, revisions = _read_log(directory, name)
    for file in (KEY_FILE, NEXT_FILE):
        key = _read_key(directory / file)
        if key is not None and key.public == identity.node_key:
            return NodeKeys(identity, key, revisions)
    if not (directory / KEY_FILE).exists():
        raise KeyProblem(
            f"The node's key is not in {directory}; restore {KEY_FILE} from a backup, "
            "or make a new one with `telex-node rotate-key --recovery-key FILE`."
        )
    raise KeyProblem(
        f"{KEY_FILE} is not the key that {LOG_FILE} names; restore both from one "
        "backup, or use `telex-node rotate-key --recovery-key FILE`."
    )


def rotate_keys(
    directory: Path, name: str, now: int, recovery: bytes | None = None
) -> NodeIdentity:
    """Put a new node key in force; the node must not run.

    A cut at any moment leaves a key that fits its log: the new key is on disk under
    another name before the log names it, and `load_keys` looks there too.

    Args:
        directory: the data directory.
        name: the node's name.
        now: unix seconds.
        recovery: the recovery key's seed, if the node key is lost or stolen.

    Raises:
        KeyProblem: no key here may sign for a new one; nothing was changed.
    """
    identity, revisions = _read_log(directory, name)
    if recovery is None:
        signer = load_keys(directory, name).key
    else:
        signer = KeyPair.from_seed(recovery)
        if signer.public != identity.recovery_key:
            raise KeyProblem(f"This is not the recovery key of {name}.")
    key = KeyPair.from_seed(os.urandom(32))
    revisions.append(
        next_revision(identity, signer, key.public, identity.recovery_key, now)
    )
    try:
        changed = read_node_log(name, revisions)
    except IdentityError as error:
        raise KeyProblem(f"No further key can be made: {error}") from error
    last = _read_key(directory / NEXT_FILE)
    if last is not None and last.public == identity.node_key:
        # The last rotation was cut off before its end.
        os.replace(directory / NEXT_FILE, directory / KEY_FILE)
    _replace(directory / NEXT_FILE, b64encode(key.seed) + b"\n")
    encoded = msgspec.json.encode(_LogFile(name, revisions))
    _replace(directory / LOG_FILE, encoded + b"\n")
    os.replace(directory / NEXT_FILE, directory / KEY_FILE)
    return changed


def read_recovery_key(path: Path) -> bytes:
    """The seed in a recovery key's file.

    Raises:
        KeyProblem: there is none.
    """
    try:
        seed = b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, ValueError) as error:
        raise KeyProblem(f"{path} cannot be read as a recovery key.") from error
    if len(seed) != 32:
        raise KeyProblem(f"{path} is no recovery key.")
    return seed


def fingerprint(identity: NodeIdentity) -> str:
    """What two admins read to each other: 32 hex digits over the whole key log, so
    that a recovery key that is not the node's own shows as well."""
    digits = identity.head[:16].hex()
    return " ".join(digits[i : i + 4] for i in range(0, len(digits), 4))


def _read_log(directory: Path, name: str) -> tuple[NodeIdentity, list[bytes]]:
    try:
        stored = msgspec.json.decode((directory / LOG_FILE).read_bytes(), type=_LogFile)
        identity = read_node_log(stored.name, stored.revisions)
    except FileNotFoundError as error:
        raise KeyProblem(
            f"The node's key is not in {directory}; run `telex-node init`, or put "
            "data_dir right."
        ) from error
    except (OSError, ValueError, msgspec.DecodeError, IdentityError) as error:
        raise KeyProblem(
            f"The node's key log in {directory} cannot be read; restore {LOG_FILE} "
            "from a backup."
        ) from error
    if stored.name != name:
        raise KeyProblem(
            f"The data in {directory} belongs to the node {stored.name}, but the "
            f"config says {name}; a node cannot change its name."
        )
    return identity, stored.revisions


def _read_key(path: Path) -> KeyPair | None:
    """The key in a file; None if there is none."""
    try:
        seed = b64decode(path.read_bytes().strip(), validate=True)
    except (OSError, ValueError):
        return None
    return KeyPair.from_seed(seed) if len(seed) == 32 else None


def _replace(path: Path, data: bytes) -> None:
    """Write a file anew in one step: after a cut it is the old one or the new one."""
    draft = path.with_name(f"{path.name}.draft")
    draft.unlink(missing_ok=True)
    write_private(draft, data)
    os.replace(draft, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, and make sure it is on disk.

    Raises:
        FileExistsError: there is one; it is not touched.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.write(descriptor, data)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
