"""Numbers of the MLS registries in one table (RFC 9420 section 17).

Draft and private numbers stand here and nowhere else, so that a number that moves
is changed in one place.
"""

from __future__ import annotations

from typing import Final

MLS10: Final = 1
"""ProtocolVersion mls10 (section 6)."""

# Wire formats (section 17.2).
PUBLIC_MESSAGE: Final = 1
PRIVATE_MESSAGE: Final = 2
WELCOME: Final = 3
GROUP_INFO: Final = 4
KEY_PACKAGE: Final = 5

# Content types (section 6).
APPLICATION: Final = 1
PROPOSAL: Final = 2
COMMIT: Final = 3
CONTENT_TYPE_NAMES: Final = {
    APPLICATION: "application",
    PROPOSAL: "proposal",
    COMMIT: "commit",
}

# Sender types (section 6).
MEMBER: Final = 1
EXTERNAL: Final = 2
NEW_MEMBER_PROPOSAL: Final = 3
NEW_MEMBER_COMMIT: Final = 4

# Node types (section 7.8) and leaf node sources (section 7.2).
LEAF: Final = 1
PARENT: Final = 2
SOURCE_KEY_PACKAGE: Final = 1
SOURCE_UPDATE: Final = 2
SOURCE_COMMIT: Final = 3

# Credential types (section 17.5).
BASIC: Final = 1
X509: Final = 2

# Proposal types (section 17.4).
ADD: Final = 1
UPDATE: Final = 2
REMOVE: Final = 3
PSK: Final = 4
REINIT: Final = 5
EXTERNAL_INIT: Final = 6
GROUP_CONTEXT_EXTENSIONS: Final = 7
DEFAULT_PROPOSALS: Final = frozenset(range(1, 8))
SELF_REMOVE: Final = 0x000A
"""`self_remove` (draft-ietf-mls-extensions): it may still move."""
PROPOSAL_NAMES: Final = {
    ADD: "add",
    UPDATE: "update",
    REMOVE: "remove",
    PSK: "psk",
    REINIT: "reinit",
    EXTERNAL_INIT: "external_init",
    GROUP_CONTEXT_EXTENSIONS: "group_context_extensions",
    SELF_REMOVE: "self_remove",
}
EXTERNAL_SENDER_PROPOSALS: Final = frozenset(
    {ADD, REMOVE, PSK, REINIT, GROUP_CONTEXT_EXTENSIONS}
)
"""What an `external` sender may propose (section 12.1.8)."""
PATH_REQUIRED_PROPOSALS: Final = frozenset(
    {UPDATE, REMOVE, EXTERNAL_INIT, GROUP_CONTEXT_EXTENSIONS, SELF_REMOVE}
)
"""What makes an UpdatePath necessary (section 12.4)."""

# ProposalOrRef (section 12.4).
BY_VALUE: Final = 1
BY_REFERENCE: Final = 2

# Extension types (section 17.3).
APPLICATION_ID: Final = 1
RATCHET_TREE: Final = 2
REQUIRED_CAPABILITIES: Final = 3
EXTERNAL_PUB: Final = 4
EXTERNAL_SENDERS: Final = 5
DEFAULT_EXTENSIONS: Final = frozenset(range(1, 6))

# PSK types and usages (section 8.4).
PSK_EXTERNAL: Final = 1
PSK_RESUMPTION: Final = 2
USAGE_APPLICATION: Final = 1
USAGE_REINIT: Final = 2
USAGE_BRANCH: Final = 3

# Drafts and private use: these may still move.
LAST_RESORT: Final = 0x000A
"""`last_resort_key_package` extension (draft-ietf-mls-extensions, older drafts)."""
APP_DATA_DICTIONARY: Final = 0x0006
"""`app_data_dictionary` extension (draft-ietf-mls-extensions)."""
LAST_RESORT_COMPONENT: Final = 0x0004
"""`last_resort_key_package` in that dictionary (the draft's present form)."""
TELEX_ROOM: Final = 0xF0A1
"""`telex_room` GroupContext extension (private use); opaque to `e2ee`."""

GREASE: Final = frozenset(0x0A0A + 0x1010 * i for i in range(15))
"""Values that must be ignored wherever unknown values are (section 13.5)."""
