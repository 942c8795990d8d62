"""Cameras, screens and files as sources of pictures; pictures for the screen.

camera.py   the one source of now, shared by all legs: newest picture wins
source.py   opens cameras, screens and files by PyAV, at real time's pace
devices.py  which cameras and screens there are
screen.py   what legs show, scaled to what the screen wants

Nothing here is loaded by the engine; PyAV is loaded by `source` and `screen` alone.
"""
