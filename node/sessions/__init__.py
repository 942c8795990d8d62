"""Delivery to devices: one session for each WebSocket, reading logs from cursors."""
