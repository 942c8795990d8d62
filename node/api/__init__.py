"""The HTTP edge: handlers that read a request, call one service and answer."""
