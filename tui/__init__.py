"""The terminal client of Telex: the `telex` command and its Textual screens.

`cli` is what people start and stays light; `app` and what stands beside it load
Textual; `client/` does all of the talking. Nothing here knows a key or a socket.
"""
