"""What the writer does in one transaction: functions, and runs of many of a kind."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol, TypeVar, cast

from sqlalchemy import Connection

from node.event import Event
from protocol.errors import NodeFault, Refused
from protocol.log import LogId

__all__ = [
    "Batched",
    "Item",
    "Job",
    "Run",
    "Transaction",
    "join",
    "may_divide",
    "pieces_of",
    "runs_of",
]

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out")


@dataclass(slots=True)
class Transaction:
    """What a write function works with."""

    connection: Connection
    events: list[Event] = field(default_factory=list)
    """What the node is told once this is on disk, and never if it fails."""
    changed: set[LogId] = field(default_factory=set)
    """Logs whose heads were moved."""
    known: dict[LogId, Any] = field(default_factory=dict)
    """What batches remember of logs from one transaction to the next: the writer is
    the only one to change them. Who changes what is remembered takes it out."""
    relied: bool = False
    """Whether `known` was moved on here: it is wrong if this fails."""

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """What is written inside is taken back if it raises."""
        told = len(self.events)
        self.connection.exec_driver_sql("SAVEPOINT attempt")
        try:
            yield
        except BaseException:
            self.connection.exec_driver_sql("ROLLBACK TO attempt")
            del self.events[told:]
            self.known.clear()
            raise
        finally:
            self.connection.exec_driver_sql("RELEASE attempt")


class Batched(Protocol[In, Out]):
    """A kind of write of which many come at once."""

    def write(self, transaction: Transaction, items: Sequence[In]) -> Sequence[Out]:
        """In the writer's thread: do them, in order; an outcome for each.

        What it raises is a fault, and refuses all of them.
        """

    def done(self, items: Sequence[In], outcomes: Sequence[Out | Refused]) -> None:
        """On the event loop: they are on disk, or refused."""


@dataclass(slots=True)
class Job:
    """A function that somebody waits for."""

    operation: Callable[[Transaction], Any]
    future: asyncio.Future[Any]
    size: int
    events: list[Event] = field(default_factory=list)
    result: Any = None
    error: BaseException | None = None

    def run(self, transaction: Transaction) -> None:
        """In the writer's thread: do it."""
        self.result = self.operation(transaction)

    def refuse(self, error: BaseException) -> None:
        """Nothing of it is on disk, and why."""
        self.error = error
        self.events = []

    def tell(self) -> None:
        """On the event loop: what became of it."""
        if self.future.done():  # its task was cancelled meanwhile
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class Item:
    """One of a batch: as small as can be, they come by the thousand."""

    __slots__ = ("batched", "item", "size")

    def __init__(self, batched: Batched[Any, Any], item: Any, size: int) -> None:
        self.batched = batched
        self.item = item
        self.size = size


@dataclass(slots=True)
class Run:
    """Neighbours of one kind, done together."""

    batched: Batched[Any, Any]
    items: list[Any]
    events: list[Event] = field(default_factory=list)
    outcomes: Sequence[Any] = ()

    def run(self, transaction: Transaction) -> None:
        """In the writer's thread: do it."""
        self.outcomes = self.batched.write(transaction, self.items)

    def refuse(self, error: BaseException) -> None:
        """Nothing of it is on disk, and why."""
        refused = error if isinstance(error, Refused) else NodeFault()
        self.outcomes = [refused] * len(self.items)
        self.events = []

    def tell(self) -> None:
        """On the event loop: what became of it."""
        self.batched.done(self.items, self.outcomes)


def runs_of(batch: "list[Job | Item]") -> "list[Job | Run]":
    """The batch in order, neighbours of one kind together."""
    runs: list[Job | Run] = []
    for batched, jobs in groupby(batch, lambda job: getattr(job, "batched", None)):
        if batched is None:
            runs += cast("list[Job]", list(jobs))
        else:
            runs.append(Run(batched, [cast("Item", job).item for job in jobs]))
    return runs


def may_divide(runs: "list[Job | Run]") -> bool:
    """Whether more than one thing is in them."""
    return len(runs) > 1 or any(isinstance(r, Run) and len(r.items) > 1 for r in runs)


def pieces_of(runs: "list[Job | Run]") -> "list[Job | Run]":
    """The same work, each thing by itself, as if nothing had been done of it."""
    pieces: list[Job | Run] = []
    for run in runs:
        if isinstance(run, Job):
            run.error, run.events = None, []
            pieces.append(run)
        else:
            pieces += [Run(run.batched, [item]) for item in run.items]
    return pieces


def join(runs: "list[Job | Run]", pieces: "list[Job | Run]") -> None:
    """Take what became of `pieces_of(runs)` back to the runs they come from."""
    left = iter(pieces)
    for run in runs:
        if isinstance(run, Job):
            next(left)
            continue
        singles = [next(left) for _ in run.items]
        run.outcomes = [o for s in singles if isinstance(s, Run) for o in s.outcomes]
        run.events = [event for single in singles for event in single.events]
