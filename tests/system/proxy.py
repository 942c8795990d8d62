"""A proxy that ends TLS, keeps every byte that passes, and starts TLS again.

It stands where a node's public name points, so it sees what a provider in front
of the node would see: the requests of devices and of other nodes, in clear.
"""

import asyncio
import ssl
import threading
from pathlib import Path


class RecordingProxy:
    """Listens on `port` of loopback and passes everything on to `target`."""

    def __init__(self, port: int, target: int, certificate: Path, ca: Path) -> None:
        self.recorded = bytearray()
        self._port, self._target = port, target
        self._server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server_tls.load_cert_chain(certificate)
        self._client_tls = ssl.create_default_context(cafile=str(ca))
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> "RecordingProxy":
        """Listen, in a thread of its own."""
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def stop(self) -> None:
        """Stop listening and drop what is open."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.set_exception_handler(lambda loop, context: None)
        self._loop.run_until_complete(self._listen())
        self._ready.set()
        self._loop.run_forever()
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self._port, ssl=self._server_tls
        )

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            onward, back = await asyncio.open_connection(
                "localhost", self._target, ssl=self._client_tls
            )
        except OSError:
            writer.close()
            return
        await asyncio.gather(
            self._copy(reader, back), self._copy(onward, writer), return_exceptions=True
        )

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            while data := await reader.read(65536):
                self.recorded += data
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
