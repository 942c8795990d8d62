"""Structured Fields (RFC 9651): the working group's tests against `http_sf`.

`Signature-Input`, `Signature` and `Content-Digest` are such fields, so what this
parser takes for valid decides what a signature can mean.
"""

import base64
import copy
import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import http_sf
import pytest

VECTORS = Path(__file__).parents[1] / "vectors" / "structured-fields"

Case = dict[str, Any]


def cases() -> Iterator[tuple[str, Case]]:
    for path in sorted(VECTORS.glob("*.json")):
        for number, case in enumerate(json.loads(path.read_text())):
            name = f"{path.stem}-{number}-{case['name']}"
            yield name.replace(" ", "_"), case


CASES = dict(cases())


class VectorFailed(Exception):
    """The library and a vector disagree."""


def bare(value: object) -> object:
    """A bare item in the JSON of the tests; a decimal stays a float."""
    match value:
        case http_sf.Token():
            return {"__type": "token", "value": str(value)}
        case http_sf.DisplayString():
            return {"__type": "displaystring", "value": str(value)}
        case bytes():
            return {"__type": "binary", "value": base64.b32encode(value).decode()}
        case datetime():
            return {"__type": "date", "value": int(value.timestamp())}
        case Decimal():
            return float(value)
    return value


def item(value: Any) -> object:
    inner, parameters = value
    shown = [item(one) for one in inner] if isinstance(inner, list) else bare(inner)
    return [shown, [[key, bare(one)] for key, one in parameters.items()]]


def as_json(value: Any, header_type: str) -> object:
    match header_type:
        case "dictionary":
            return [[key, item(one)] for key, one in value.items()]
        case "list":
            return [item(one) for one in value]
    return item(value)


def run(case: Case) -> None:
    """Parse, compare and serialise one case; `VectorFailed` says where it differs."""
    raw = ", ".join(case["raw"])
    try:
        value = http_sf.parse(raw.encode(), tltype=case["header_type"])
    except http_sf.StructuredFieldError as error:
        if case.get("must_fail") or case.get("can_fail"):
            return
        raise VectorFailed(f"refused: {error}") from error
    if case.get("must_fail"):
        raise VectorFailed(f"accepted as {value!r}")
    got = json.dumps(as_json(value, case["header_type"]))
    expected = json.dumps(case["expected"])
    if got != expected:
        raise VectorFailed(f"{got} is not {expected}")
    canonical = ", ".join(case["canonical"] if "canonical" in case else case["raw"])
    # An empty list or dictionary is written by leaving the field out.
    text = "" if value in ([], {}) else http_sf.ser(value)
    if text != canonical:
        raise VectorFailed(f"{text!r} is not {canonical!r}")


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_vector(case: Case) -> None:
    run(case)


def test_vectors_are_all_there() -> None:
    assert len(CASES) >= 160
    assert sum(1 for case in CASES.values() if case.get("must_fail")) >= 50


def test_runner_fails_on_every_corrupted_vector() -> None:
    for case in CASES.values():
        corrupted = copy.deepcopy(case)
        # Without leave to fail, what is refused is noticed as well.
        may_fail = corrupted.pop("can_fail", False)
        if corrupted.pop("must_fail", False):
            corrupted["expected"] = ["not this", []]
            with pytest.raises(VectorFailed):
                run(corrupted)
            continue
        for wrong in (
            {"expected": [case["expected"], "corrupted"]},
            {"canonical": ["corrupted"]},
        ):
            with pytest.raises(VectorFailed):
                run({**corrupted, **wrong})
        if not may_fail:
            with pytest.raises(VectorFailed):
                run({**case, "must_fail": True})
