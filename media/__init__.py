"""Calls: sound and picture, in a process of their own.

port.py        what the engine says and hears (values; loads nothing)
supervisor.py  the engine's side: asks, hears, keeps the settings
process.py     starts the process, watches it, ends it
ipc.py         how the two talk: MessagePack over a socket pair
child.py       the process: reads requests, answers, ends with the engine
desk.py        what it does: commands to legs, sound, cameras and screen

rtc/           a leg: ICE, DTLS and SRTP by aiortc; receiver, sender and rate are ours
audio/         Opus, jitter buffer, echo cancellation, sound devices
video/         cameras, screens and files; scaling
view/          pictures in a terminal: kitty, sixel, half blocks, braille

Only the process loads aiortc, PyAV and sound libraries. `port` and `supervisor` are
for the engine, `view` for the screen, `audio` for `telex audio`.
"""
