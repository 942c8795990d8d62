"""Every limit of the wire, with its number and its reason.

A limit that only one side keeps stands beside the code that keeps it; here are
those on which two sides must agree, because one refuses what the other sends.
"""

BODY_MAX = 2 * 1024 * 1024
"""Bytes of a request's body: a commit bundle of 1 MiB with its Welcomes fits."""

SUBMISSION_MAX = 1024 * 1024 + 4096
"""Bytes of one submission: an MLS handshake of 1 MiB (a commit in a group of
4,000 leaves with all parents blank) and its envelope."""

MESSAGE_MAX = 64 * 1024
"""Bytes of one encrypted message: 16,000 Chinese characters with room to spare;
larger things are files."""

TEXT_MAX = 16 * 1024
"""Bytes of UTF-8 in one text that a person writes, before padding."""

BATCH_ENTRIES = 200
"""Entries in one stream of a push, and in one page of a log."""

BATCH_BYTES = 1024 * 1024
"""Bytes of entries in one push: a slow line of 1 Mbit/s moves it in ten seconds,
inside every timeout. A single larger entry goes alone."""

WINDOW_BYTES = 256 * 1024
"""Bytes sent to a device beyond its last ack; the rest it reads from the log."""

KEY_PACKAGES_MAX = 200
"""Single-use key packages kept for a device: 100 and a refill that crossed."""

KEY_PACKAGE_MAX = 4096
"""Bytes of a key package: 1 KiB of credential, keys, extensions and signature."""

KEY_PACKAGES_WANTED = 100
"""How many a device keeps at its node; it refills below half."""

CLAIM_ACCOUNTS = 100
"""Accounts in one claim of key packages: a larger group is made in steps."""

DEVICES_MAX = 32
"""Devices of an account that are valid at one time."""

ACCOUNT_LOG_ENTRIES = 1000
"""Entries in an account's log: 30 years of a new device each month, twice over."""

ACCOUNT_LOG_OPEN = 900
"""Entries that the account signing key may fill; behind them only the root key opens
room. So whoever stole the former cannot use up what a recovery needs."""

ACCOUNT_LOG_TERM = 8
"""Entries behind a rotation for which it opens room: as many as a node takes at once.
With them a hundred entries are eleven rotations, by a person with 24 words."""

MEMBERS_MAX = 1000
"""Accounts in a room (RFC 9420 costs grow with the devices: 4,000 leaves)."""

CLOCK_PAST = 300
CLOCK_FUTURE = 60
"""Seconds that a signature's time may lie before and after the receiver's clock."""

SIGNATURE_LIFETIME = 120
"""Seconds between `created` and `expires` in what we sign."""

LINK_MAX = 4096
"""Bytes of one half of a device link: keys, a root, a name, and room to spare."""

LINK_SECONDS = 600
"""Seconds that a link can be answered: to walk to the other device and type."""

SEGMENT_MAX = 1024 * 1024
"""Bytes of one segment of a vault: sent again whole when a line breaks."""

VAULTS_MAX = 16
"""Vaults of an account: a backup, the one it replaces, and devices being linked."""

BLOB_PART_MAX = 1024 * 1024
"""Bytes of one part of a blob's upload: sent again whole when a line breaks, and
held in memory until its digest is checked."""

NEWEST_ROOMS = 100
"""Rooms in one answer of those with the latest entries: what people see at first."""

NEWEST_BYTES = 64 * 1024
"""Bytes of entries of one of those rooms: no room leaves the others without."""

POLL_MAX = 60
"""Seconds that a poll waits for something to happen: as long as routers and proxies
let a connection be silent."""

POLL_GAP = 30
"""Seconds between two polls, after which the session is over: a device with a bad
network has come back by then, or begins anew."""
