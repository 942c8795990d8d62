"""Two nodes for the stories that leave them as they are."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.system.world import Node, Person, World, world


@dataclass
class Town:
    """Two nodes that run, and new people for each story."""

    place: World
    north: Node
    south: Node
    numbers: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))

    def name(self, name: str) -> str:
        """A name that nobody had in an earlier story."""
        return f"{name}{next(self.numbers)}"

    def settle(self, name: str, node: Node, device: str = "desk") -> Person:
        """Somebody with an account."""
        return self.place.settled(self.name(name), node, device)


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Two real nodes with a recording line before each; they stay up."""
    with world(tmp_path_factory.mktemp("town")) as place:
        yield Town(place, place.node(recorded=True), place.node(recorded=True))


@pytest.fixture
def town(streets: Town) -> Iterator[Town]:
    """The two nodes; what a story leaves running is ended."""
    yield streets
    for terminal in streets.place.terminals:
        terminal.close()
    streets.place.terminals.clear()
