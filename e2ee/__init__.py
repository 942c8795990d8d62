"""MLS (RFC 9420) over NaCl: no socket, no clock, no database, no logging.

The public names stand here; everything else is a detail. The node may import
`e2ee.public_group` alone, which knows no secret.
"""

from __future__ import annotations

from e2ee.errors import E2eeError
from e2ee.extension import Extension, RequiredCapabilities
from e2ee.external_proposal import propose_externally, propose_joining
from e2ee.framing import Peek, peek
from e2ee.group import CommitResult, Decrypted, Group
from e2ee.group_context import GroupContext
from e2ee.key_package import (
    KeyPackageBundle,
    KeyPackageInfo,
    key_package_info,
    new_key_package,
)
from e2ee.member import (
    ALLOW_ALL,
    Action,
    CommitEffects,
    Member,
    ProposalReceived,
    UnsafeAllowAll,
    Validator,
)
from e2ee.public_group import PublicGroup
from e2ee.staged_commit import StagedCommit
from e2ee.suite import SUITE_3, CipherSuite

__all__ = [
    "ALLOW_ALL",
    "SUITE_3",
    "Action",
    "CipherSuite",
    "CommitEffects",
    "CommitResult",
    "Decrypted",
    "E2eeError",
    "Extension",
    "Group",
    "GroupContext",
    "KeyPackageBundle",
    "KeyPackageInfo",
    "Member",
    "Peek",
    "ProposalReceived",
    "PublicGroup",
    "RequiredCapabilities",
    "StagedCommit",
    "UnsafeAllowAll",
    "Validator",
    "key_package_info",
    "new_key_package",
    "peek",
    "propose_externally",
    "propose_joining",
]
