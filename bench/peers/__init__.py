"""`make bench-peers`: the node's work given to Prosody and ejabberd as well.

`server` installs and starts them, `xmpp` speaks to them, `load` does the work in a
process of its own, and `__main__` prints all of it beside Telex's own figures.
"""
