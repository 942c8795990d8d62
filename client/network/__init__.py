"""The line to our node: signed requests, the session, and one session after another.

`sync` keeps a session open; `transport` and `session` carry bytes; `reading` brings
what comes into the database, and acks it.
"""
