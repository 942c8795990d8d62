"""Rooms and mailboxes: what comes in, the hub that orders it, who may read what."""
