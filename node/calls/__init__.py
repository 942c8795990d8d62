"""Help for calls: which servers devices may use, and the files of a TURN server.

The node itself carries no sound and no picture.
"""
