"""Headless Chromium at our page, and the signalling between that and a Media."""

import asyncio
import os
import shutil
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from aiohttp import web

__all__ = ["CHROMIUM", "Met", "Page", "chromium"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
PAGE = Path(__file__).with_name("page.html")
PATIENCE = 30.0
"""Seconds for anything to happen, on a machine that does much else."""

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--mute-audio",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)

T = TypeVar("T")


class Met(msgspec.Struct):
    """What the page had in its last second."""

    packets: int
    """Of sound, in all."""
    energy: float
    """`totalAudioEnergy`: of what was decoded, in all."""
    concealed: float
    """Share of this second's samples that were made up."""
    pitch: float
    """Hz: the loudest."""
    pictures: int
    """Decoded, in all."""
    colours: tuple[tuple[int, int, int], tuple[int, int, int]]
    """In the middle of the left and of the right half."""
    heard: list[list[int]]
    """What came by the data channel."""


class Page:
    """The page's side of the signalling: what it says, and what it is told."""

    def __init__(self) -> None:
        self._queues: dict[str, asyncio.Queue[Any]] = {}
        self._replies: dict[str, asyncio.Queue[Any]] = {}
        self._failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def said(self, path: str) -> Any:
        """What the page posts next at a path; AssertionError if the page failed."""
        said = asyncio.create_task(self._of(self._queues, path).get())
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait(
                {said, self._failed}, return_when=asyncio.FIRST_COMPLETED
            )
        assert said.done(), f"the page failed: {self._failed.result()}"
        return said.result()

    def reply(self, path: str, value: object) -> None:
        """Answer what it posted."""
        self._of(self._replies, path).put_nowait(value)

    async def meets(self) -> AsyncIterator[Met]:
        """What the page has, second by second; the page goes on when asked again."""
        while True:
            yield msgspec.convert(await self.said("/met"), Met)
            self.reply("/met", "more")

    async def post(self, request: web.Request) -> web.Response:
        """A request of the page."""
        value = msgspec.json.decode(await request.read())
        if request.path == "/failed":
            self.fail(value)
            return web.json_response(None)
        self._of(self._queues, request.path).put_nowait(value)
        return web.json_response(await self._of(self._replies, request.path).get())

    def fail(self, why: str) -> None:
        """Nothing more will come."""
        if not self._failed.done():
            self._failed.set_result(why)

    @staticmethod
    def _of(queues: dict[str, asyncio.Queue[Any]], path: str) -> asyncio.Queue[Any]:
        return queues.setdefault(path, asyncio.Queue())


async def show(request: web.Request) -> web.StreamResponse:
    """The page itself."""
    return web.FileResponse(PAGE)


@asynccontextmanager
async def chromium(
    role: Literal["offer", "answer"], folder: Path
) -> AsyncIterator[Page]:
    """A page that offers or answers a call; all of it is gone in the end."""
    page = Page()
    app = web.Application()
    app.add_routes([web.get("/", show), web.post("/{path}", page.post)])
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        async with process(f"http://{host}:{port}/#{role}", folder, page):
            yield page
    finally:
        await runner.cleanup()


@asynccontextmanager
async def process(url: str, folder: Path, page: Page) -> AsyncIterator[None]:
    """Chromium and its helpers: a group of processes, ended as one."""
    log = folder / "chromium.log"
    with log.open("wb") as errors:
        child = await asyncio.create_subprocess_exec(
            *(CHROMIUM, *FLAGS, f"--user-data-dir={folder / 'profile'}", url),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )

    async def watch() -> None:
        code = await child.wait()
        tail = log.read_text(errors="replace")[-600:]
        page.fail(f"chromium has ended with {code}: {tail}")

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        await watching
