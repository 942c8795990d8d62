"""What does not work, why, and how it is made well.

`cause` is the table of all causes; `ailment` keeps what could not be read; `doctor`
looks at everything and repairs it. Asking others to send something again is
`rooms.resending`, coming back into a room is `rooms.rejoin`.
"""
