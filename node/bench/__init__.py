"""`telex-node bench`: what a node does on this machine, measured from outside.

Three processes. `command` reads what was typed; `runner` makes a scratch node in a
directory of its own (`scratch`), fills its database (`seed`), starts it as
`telex-node run` and, on another core, `load`, which does the work over sockets and
counts what came out at the other end. Figures go back as JSON (`report`).

What is not real: nobody registered and no MLS group was made. `seed` writes the rows
that registrations and commits would have left (accounts without account logs, rooms
with a roster and an epoch but no ratchet tree), because making ten thousand people
takes longer than measuring them. Messages have the header of an MLS PrivateMessage and
random bytes for ciphertext, which is all that a node can see of a real one. Everything
that a node does for a message is done: signature at the upgrade, rights, idempotency,
hash chain, commit to disk, cursors.
"""
