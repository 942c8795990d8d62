"""No whole number from outside is larger than what stores and counts it."""

from __future__ import annotations

import importlib
import pkgutil
import sqlite3
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.inspect import (
    DictType,
    Field,
    IntType,
    ListType,
    StructType,
    TupleType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from protocol.codec import decode, decode_json, encode, encode_json
from protocol.errors import Malformed
from protocol.log import TIME_MAX, Entry, read_entry
from protocol.whole import WHOLE_MAX, Whole
from tests.helpers.fuzz import fuzzing

PACKAGES = ("protocol", "client", "federation")
"""What decodes what others sent; the node's own structs are of its own machine."""


def structs() -> list[type[msgspec.Struct]]:
    for name in PACKAGES:
        package = importlib.import_module(name)
        for module in pkgutil.walk_packages(package.__path__, f"{name}."):
            importlib.import_module(module.name)

    def under(kind: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from under(sub)

    ours = [s for s in under(msgspec.Struct) if s.__module__.split(".")[0] in PACKAGES]
    return sorted(set(ours), key=lambda kind: (kind.__module__, kind.__name__))


def inside(kind: Type) -> Iterator[Type]:
    """A type, and those that it is made of; structs stand for themselves."""
    yield kind
    match kind:
        case ListType(item_type=item) | VarTupleType(item_type=item):
            yield from inside(item)
        case DictType(key_type=key, value_type=value):
            yield from (*inside(key), *inside(value))
        case TupleType(item_types=parts) | UnionType(types=parts):
            for part in parts:
                yield from inside(part)


def fields() -> list[tuple[str, Field]]:
    found = []
    for kind in structs():
        info = type_info(kind)
        assert isinstance(info, StructType)
        found += [(f"{kind.__module__}.{kind.__name__}", f) for f in info.fields]
    return found


def test_every_whole_number_of_every_struct_has_a_bound() -> None:
    numbers = [
        (where, field.name, number)
        for where, field in fields()
        for number in inside(field.type)
        if isinstance(number, IntType)
    ]
    assert len(numbers) > 100
    own = {
        "client.archive.job.Where",  # what this device noted for itself
        "client.content.own.Entry",  # checked by itself: others beside it are taken
    }
    unbound = [
        f"{where}.{name}"
        for where, name, number in numbers
        if (number.ge, number.le) != (-WHOLE_MAX, WHOLE_MAX) and where not in own
    ]
    assert not unbound


class Sample(msgspec.Struct):
    number: Whole


@fuzzing
@given(st.integers(-(1 << 63), (1 << 64) - 1) | st.integers(-WHOLE_MAX, WHOLE_MAX))
def test_what_is_taken_can_be_stored(number: int) -> None:
    database = sqlite3.connect(":memory:")
    for read, data in (
        (decode, encode({"number": number})),
        (decode_json, encode_json({"number": number})),
    ):
        try:
            taken = read(data, Sample).number
        except Malformed:
            assert abs(number) > WHOLE_MAX
        else:
            assert taken == number and abs(number) <= WHOLE_MAX
            row = database.execute("SELECT ? + 1", (taken,)).fetchone()
            assert row == (number + 1,)
    database.close()


def entry(**values: int) -> bytes:
    whole = {"seq": 1, "term": 1, "time": 1} | values
    return encode([whole["seq"], whole["term"], whole["time"], b"", (), ()])


@pytest.mark.parametrize(
    "values",
    [
        {"seq": 0},
        {"seq": 1 << 53},
        {"seq": 1 << 63},
        {"term": 0},
        {"term": 1 << 32},
        {"time": -1},
        {"time": TIME_MAX},
        {"time": 1 << 63},
        {"time": (1 << 64) - 1},
    ],
)
def test_an_entry_out_of_all_bounds_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        read_entry(entry(**values))


def test_an_entry_at_the_bounds_is_read() -> None:
    latest = entry(seq=WHOLE_MAX, term=(1 << 32) - 1, time=TIME_MAX - 1)
    found = Entry(WHOLE_MAX, (1 << 32) - 1, TIME_MAX - 1, b"")
    assert read_entry(latest) == found
    assert read_entry(entry(time=0)).time == 0
