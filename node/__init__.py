"""A Telex node: the server, its storage and its command `telex-node`.

    cli ── app ── api            HTTP and WebSocket: thin handlers
            │      └ account, key_package, submission, page, delivery   services
            │           └ hub ── room, group                            rooms
            │      └ peer_inbox, peer_log, peer_service                 for federation
            └ storage            tables, migrations, one writer, the chain

A node orders logs and carries bytes. It cannot read what people write: of `e2ee` it
imports `public_group` alone, which holds no secret.
"""
