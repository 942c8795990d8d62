"""Calls: who rings whom, who takes part, and the legs between them.

record.py    what a room's log says of its calls: the same for all who read it
values.py    what the machine hears and wants
machine.py   the calls of one device, from what people do, the log, media and time
links.py     the legs to one other device: the first, and those after a way was lost
ledger.py    both in the database: what was heard, what is said, what is remembered
lines.py     a call's line in the timeline
ice.py       the servers that help to find a way, as our node names them
stage.py     what the machine wants of sound and picture, done in order
may.py       whether a room can be called
model.py     a call as the screens see it
view.py      makes that of a call as it is lived through
works.py     all of it put together, on the event loop
calls.py     what applications do with it: `client.calls`

`record`, `machine` and `links` are pure: no clock, no tasks, no randomness, no
database. Nothing in them counts to two: a call has legs, by device.
"""
