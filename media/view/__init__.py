"""Pictures in a terminal: from RGB pixels to the bytes that draw them.

probe.py    what a terminal can, from its answers and the environment; loads no numpy
pace.py     when the next picture may go and how fine: a slow link drops, never queues
plan.py     how large a picture is drawn, and which pixels that takes; no numpy
shape.py    pixels and their scaling
blocks.py   half blocks, in 24 bit or 256 colours
braille.py  2 x 4 dots in a cell, in one colour
kitty.py    kitty's graphics protocol
sixel.py    DEC sixel

Everything here is a pure function of its arguments, or keeps no more than buffers.
"""
