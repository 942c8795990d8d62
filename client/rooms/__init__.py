"""Rooms, from both sides.

In: `inbound` takes the entries of a log one after the other; `reader` acts on those
of rooms, `letters` on messages, `welcomes` on invitations, `notices` says what
happened. Out: `actions` is what people do; `changes` and `settler` make commits,
`letters` and `posting` send what was written, `workers` wakes them. `groups` keeps the
MLS state, `ranking` says who does what anybody could.
"""
