"""Who is there and who types: told, never stored.

roll      this node's people: devices merged, leases, whom they show themselves to
tray      what goes out to people here: at most one frame a second, the last word wins
outlet    what other nodes are told, and when it is all said anew
hearsay   what other nodes told, for people who are here now
typists   who types in which room, not more often than anybody could see
typing    typing on its way: the members of a room, here and elsewhere
service   the wiring: sockets of devices, other nodes

All but the last two are pure: time comes in as an argument.
"""
