"""Who is there and who types, as this account may know it; nothing of it is stored.

`audience` works out from rooms to whom this account shows itself, `choice` keeps what
its person chose on all of its devices, `presence` tells the node and listens to it.
"""
