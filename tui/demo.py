"""`telex demo`: two real nodes, two accounts, and a chat between them.

Everything is real but for the place: the nodes are `telex-node` processes with
HTTPS on loopback, certified by an authority that is made on the spot; alice's
messages go to her node, over federation to the other one, and to the companion, a
bot in a process of its own, which answers. All of it lies in one temporary folder
and ends with the demo (`demo_warden` sees to that whatever happens).
"""

import asyncio
import contextlib
import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import click

from client.engine import Client
from client.model import Message, MessageChanged, Profile
from protocol.errors import TelexError
from tui.demo_parts import (
    DemoError,
    Node,
    Processes,
    free_ports,
    make_certificates,
    require_trustme,
)

__all__ = ["Demo", "run_demo"]

LOG = logging.getLogger(__name__)

ANSWER_SECONDS = 60
"""For the companion's answer: two nodes, four TLS handshakes and a group of keys on
a small machine take a few seconds."""
CLOSE_SECONDS = 10

GREETING = "Hello echo! Are you there?"


class Demo:
    """Two nodes and two accounts, for as long as the context lasts."""

    def __init__(self, *, two: bool, report: Callable[[str], None]) -> None:
        self.two = two
        self._report = report
        self.folder = Path()
        self.password = secrets.token_urlsafe(12)
        self.companion = ""
        self.client: Client | None = None
        self._processes: Processes | None = None

    async def __aenter__(self) -> "Demo":
        """Start everything.

        Raises:
            DemoError: with what failed and the last lines of its log.
        """
        require_trustme()
        self.folder = Path(tempfile.mkdtemp(prefix="telex-demo-"))
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop what was started and remove what was made."""
        client, self.client = self.client, None
        if client is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await client.close()
        if self._processes is not None:
            await self._processes.stop()
        await asyncio.to_thread(shutil.rmtree, self.folder, ignore_errors=True)
        if self._processes is not None:
            await self._processes.dismiss()

    async def _start(self) -> None:
        self._processes = processes = await Processes.begin(self.folder)
        self._report("Making certificates ...")
        await asyncio.to_thread(make_certificates, self.folder)
        first, second = free_ports(2)
        nodes = [
            Node(self.folder / "node-1", f"localhost:{first}"),
            Node(self.folder / "node-2", f"localhost:{second}"),
        ]
        self._report(f"Starting the nodes {nodes[0].name} and {nodes[1].name} ...")
        await asyncio.gather(*(node.start(processes, self.ca) for node in nodes))
        other = "bob" if self.two else "echo"
        self._report(f"Registering alice and {other} ...")
        alice, guest = await asyncio.gather(
            self._register("alice", nodes[0]), self._register(other, nodes[1])
        )
        self.client = alice
        self.companion = guest.account
        await guest.close()
        if not self.two:
            self._report("Starting the companion ...")
            await self._start_bot(processes, other)

    async def _register(self, name: str, node: Node) -> Client:
        invite = await node.invite()
        profile = self.profile(name)
        profile.directory.mkdir(mode=0o700)
        client, _words = await Client.register(
            profile,
            f"{name}@{node.name}",
            invite=invite,
            password=self.password,
            device_name="demo",
        )
        return client

    async def _start_bot(self, processes: Processes, name: str) -> None:
        script = Path(__file__).parent.parent / "examples" / "echo_bot.py"
        if not script.exists():
            raise DemoError(
                f"The companion {script} is missing: run the demo from a checkout of "
                "Telex, or use `telex demo --two`."
            )
        await processes.spawn(
            "echo",
            [
                *(sys.executable, str(script), str(self.profile(name).directory)),
                # The account is registered already, so there is no invite to give.
                *(self.companion, "", str(self.ca)),
            ],
            environ={"TELEX_PASSWORD": self.password},
        )

    @property
    def ca(self) -> Path:
        """The throw-away authority's certificate."""
        return self.folder / "ca.pem"

    def profile(self, name: str) -> Profile:
        """Where an account of the demo lies."""
        return Profile(self.folder / name, self.ca)

    def command(self) -> str:
        """What to type in a second terminal to be the other person."""
        telex = Path(sys.argv[0]).absolute() if sys.argv[0] else Path("telex")
        return (
            f"TELEX_PASSWORD={shlex.quote(self.password)} {shlex.quote(str(telex))}"
            f" --ca-file {shlex.quote(str(self.ca))}"
            f" --profile {shlex.quote(str(self.folder / 'bob'))}"
        )

    def companion_trouble(self) -> str:
        """The end of the companion's log, if it ended."""
        return self._processes.ended() if self._processes else ""


async def _answered(demo: Demo, client: Client, text: str) -> Message:
    """Write a line to the companion and wait for what comes back.

    Raises:
        DemoError: nothing came back.
    """
    events = client.events()
    room = await client.start_direct(demo.companion)
    await client.send_text(room.id, text)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            async for event in events:
                if not isinstance(event, MessageChanged):
                    continue
                message = event.message
                theirs = message.sender == demo.companion and message.kind == "text"
                if message.room == room.id and theirs:
                    return message
    except TimeoutError:
        pass
    raise DemoError(
        f"The companion did not answer within {ANSWER_SECONDS} seconds.\n"
        + demo.companion_trouble()
    )


async def _check() -> None:
    """Without a screen: does a message go out, and does the answer come back?"""
    async with Demo(two=False, report=_say) as demo:
        assert demo.client is not None
        async with demo.client as client:
            word = secrets.token_hex(4)
            _say("Sending a message ...")
            answer = await _answered(demo, client, f"check {word}")
            if word not in answer.text:
                raise DemoError("The companion answered something else.")
    click.echo("ok: a message went from one node to the other, and its answer back.")


async def _show(two: bool) -> None:
    """With the screen."""
    async with Demo(two=two, report=_say) as demo:
        client = demo.client
        assert client is not None
        if two:
            click.echo("\nIn a second terminal, bob is opened by:\n", err=True)
            click.echo(f"  {demo.command()}\n")
            click.echo("Press Enter to open alice here.", err=True)
            await _enter()
        from tui.terminal import ask

        question = ask()
        try:
            # Loading Textual takes a moment; nothing before this line needs it.
            from tui.app import TelexApp, run
            from tui.config import Settings
            from tui.locations import profile_locations
            from tui.logs import start_logging
        finally:
            question.hear()
        locations = profile_locations(demo.folder / "alice")
        start_logging(locations.log)
        app = TelexApp(
            locations,
            Settings(),
            ca_file=demo.ca,
            opened=client,
            first_room=demo.companion,
            greeting="" if two else GREETING,
        )
        app.question = question
        await run(app)
        demo.client = None
        _say("Stopping the nodes ...")


async def _enter() -> None:
    """Wait for a line on the terminal, and stay open to signals meanwhile."""
    loop = asyncio.get_running_loop()
    read = loop.create_future()

    def ready() -> None:
        if not read.done():
            read.set_result(None)

    loop.add_reader(sys.stdin, ready)
    try:
        await read
        sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin)


def _say(text: str) -> None:
    click.echo(text, err=True)


async def _guarded(two: bool, check: bool) -> None:
    """Let SIGTERM and SIGHUP end it as Ctrl+C does: with everything cleaned up."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, task.cancel)
    await (_check() if check else _show(two))


def run_demo(*, two: bool, check: bool) -> int:
    """Run the demo to its end; returns the exit code."""
    os.environ.pop("TELEX_PASSWORD", None)
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        asyncio.run(_guarded(two, check))
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("Interrupted; everything was stopped and removed.")
        return 130
    except TelexError as error:
        _say(f"telex demo: {error}")
        return 1
    return 0
