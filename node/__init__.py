"""A Telex node: the server, its storage and its command `telex-node`.

    cli ── app ── api        HTTP and WebSocket: thin handlers, which call
     │      │      ├ accounts    account logs, devices, key packages, recovery, vaults
     │      │      ├ blobs       encrypted files, and copies of other nodes'
     │      │      ├ rooms       what comes in, the hub, who may read; mailboxes
     │      │      └ sessions    delivery to devices
     │      ├ peers          what `federation` needs of this node
     │      └ storage        tables, migrations, one writer, the chain
     └── admin              the commands besides `run`

A node orders logs and carries bytes. It cannot read what people write: of `e2ee` it
imports `public_group` alone, which holds no secret.
"""
