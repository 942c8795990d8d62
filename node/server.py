"""Running a node as a process: one event loop, signals, and a graceful end."""

import asyncio
import gc
import logging
import signal
from collections.abc import Callable

from node.app import Node
from node.config import Settings
from node.descriptors import raise_open_files

__all__ = ["run"]

log = logging.getLogger(__name__)


def run(settings: Settings, on_ready: Callable[[Node], None]) -> None:
    """Run a node until SIGTERM or SIGINT.

    Args:
        settings: of the node.
        on_ready: called when it listens.

    Raises:
        TelexError: it cannot start; says why and what to do.
    """
    raise_open_files()
    node = Node(settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(node, on_ready))


async def _serve(node: Node, on_ready: Callable[[Node], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await node.start()
    _tune_collector()
    on_ready(node)
    try:
        await stop.wait()
    finally:
        await node.stop()


def _tune_collector() -> None:
    """Have the garbage collector look at what is new, and seldom.

    A message makes a dozen objects that all die by reference counting within
    milliseconds. With the interpreter's defaults the collector went through those
    under way each hundred messages, and all of them at a third of the node's time.
    """
    gc.collect()
    gc.freeze()  # what stands now stands until the end
    gc.set_threshold(50_000, 20, 50)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: the same, in half the time."""
    try:
        import uvloop
    except ImportError:
        log.info("uvloop is not installed; the node runs on asyncio's own loop")
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
