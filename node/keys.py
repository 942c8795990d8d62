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
from protocol.identity import KeyPair
from protocol.node_identity import NodeIdentity, begin_node_log, read_node_log

__all__ = ["KeyProblem", "NodeKeys", "create_keys", "load_keys", "write_private"]

KEY_FILE = "node.key"
LOG_FILE = "node-keys.json"


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
    try:
        seed = b64decode((directory / KEY_FILE).read_bytes(), validate=False)
        stored = msgspec.json.decode((directory / LOG_FILE).read_bytes(), type=_LogFile)
        identity = read_node_log(stored.name, stored.revisions)
    except FileNotFoundError as error:
        raise KeyProblem(
            f"The node's key is not in {directory}; run `telex-node init`, or put "
            "data_dir right."
        ) from error
    except (OSError, ValueError, msgspec.DecodeError, IdentityError) as error:
        raise KeyProblem(
            f"The node's key in {directory} cannot be read; restore {KEY_FILE} and "
            f"{LOG_FILE} from a backup."
        ) from error
    if stored.name != name:
        raise KeyProblem(
            f"The data in {directory} belongs to the node {stored.name}, but the "
            f"config says {name}; a node cannot change its name."
        )
    if len(seed) != 32 or KeyPair.from_seed(seed).public != identity.node_key:
        raise KeyProblem(
            f"{KEY_FILE} is not the key that {LOG_FILE} names; restore both from one "
            "backup."
        )
    return NodeKeys(identity, KeyPair.from_seed(seed), stored.revisions)


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
