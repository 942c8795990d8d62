"""A Telex node: the server, its storage and its command `telex-node`.

    cli ── app ── api        HTTP and WebSocket: thin handlers, which call
     │      │      ├ accounts    account logs, devices, key packages, recovery, vaults
     │      │      ├ blobs       encrypted files, and copies of other nodes'
     │      │      ├ calls       STUN and TURN servers for devices; coturn's files
     │      │      ├ presence    who is there, who types: told, never stored
     │      │      ├ rooms       what comes in, the hub, who may read; mailboxes
     │      │      └ sessions    delivery to devices
     │      ├ peers          what `federation` needs of this node
     │      ├ storage        tables, migrations, one writer, the chain; its health
     │      └ watchdog       what holds up the event loop; told on `local`'s socket
     ├── admin, status      the commands besides `run`
     └── checkup            `storage.verify`: chains, rows and files, as stored

A node orders logs and carries bytes. It cannot read what people write: of `e2ee` it
imports `public_group` alone, which holds no secret.
"""
