"""The published vectors pass, and the runner fails when one value is wrong."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2ee.vectors import CHECKS, run_file, run_folder
from tests.e2ee.support import SUITES, VECTORS

MLS = VECTORS / "mls"
FILES = sorted(path.stem for path in MLS.glob("*.json"))

# Values that nothing can check: which element, and why.
UNCHECKABLE = {
    # Only syntax: signatures and tags of these are not meant to verify.
    "messages": ("",),
    # Only the first 32 bytes are sampled.
    "secret-tree": ("sender_data.ciphertext",),
    # Whoever proposes an Add or a Remove changes nothing about the tree.
    "tree-operations": ("proposal_sender",),
    # A PSK that no proposal uses.
    "passive-client-handling-commit": ("external_psks",),
    "passive-client-welcome": ("external_psks",),
}


def test_every_kind_has_a_file_and_a_check() -> None:
    assert set(FILES) == set(CHECKS)


@pytest.mark.parametrize("name", FILES)
def test_published_vectors_pass(name: str) -> None:
    path = MLS / f"{name}.json"
    report = run_file(path, SUITES)
    assert report.notes == []
    assert report.passed == len(json.loads(path.read_text()))
    assert report.failed == report.skipped == 0


def values(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the places of all values that are not containers."""
    items: Any = ()
    if isinstance(data, dict):
        items = data.items()
    elif isinstance(data, list):
        items = enumerate(data)
    elif data is not None:
        yield place
    for key, value in items:
        yield from values(value, (*place, key))


def corrupt(value: Any) -> Any:
    """Change a value as little as possible."""
    if isinstance(value, int):
        return value + 1
    try:
        raw = bytes.fromhex(value)
    except ValueError:
        return value + "x"
    return (raw[:-1] + bytes((raw[-1] ^ 1,))).hex() if raw else "00"


def corrupted(case: Any, place: tuple[Any, ...]) -> Any:
    changed = copy.deepcopy(case)
    inner = changed
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = corrupt(inner[place[-1]])
    return changed


@pytest.mark.parametrize("name", [name for name in FILES if name != "messages"])
def test_one_wrong_bit_fails(name: str, tmp_path: Path) -> None:
    cases = json.loads((MLS / f"{name}.json").read_text())
    # Passive clients: a case with proposals; others: one of middle size.
    case = cases[-1] if name.startswith("passive") else cases[len(cases) // 2]
    if name == "passive-client-random":
        case["epochs"] = case["epochs"][:4]
    places = list(values(case))
    step = max(1, len(places) // 150)
    for place in places[::step]:
        label = ".".join(map(str, place))
        if label == "cipher_suite" or label.startswith(UNCHECKABLE.get(name, ("-",))):
            continue
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([corrupted(case, place)]))
        report = run_file(path, SUITES)
        assert (report.passed, report.failed) == (0, 1), label


def test_messages_must_keep_their_form(tmp_path: Path) -> None:
    case = json.loads((MLS / "messages.json").read_text())[0]
    for name, value in case.items():
        wrongs = [value[:-2], value + "00"]
        if name != "remove_proposal":  # any four bytes are a leaf index
            wrongs.append("ff" + value[2:])
        for wrong in wrongs:
            path = tmp_path / "messages.json"
            path.write_text(json.dumps([{**case, name: wrong}]))
            assert run_file(path).failed == 1, name


@pytest.mark.parametrize("name", FILES)
def test_a_missing_value_fails(name: str, tmp_path: Path) -> None:
    case = json.loads((MLS / f"{name}.json").read_text())[0]
    if name == "passive-client-random":
        case["epochs"] = case["epochs"][:2]
    for key in case:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps([{k: v for k, v in case.items() if k != key}]))
        report = run_file(path, SUITES)
        assert (report.passed, report.failed) == (0, 1), key


def test_a_suite_without_primitive_is_skipped_with_the_reason(tmp_path: Path) -> None:
    lines: list[str] = []
    folder = tmp_path
    data = json.loads((MLS / "passive-client-random.json").read_text())
    (folder / "passive-client-random.json").write_text(json.dumps(data))
    report = run_folder(folder, show=lines.append)
    assert (report.passed, report.failed, report.skipped) == (0, 0, 1)
    assert "suite 1" in lines[0]
    assert lines[-1] == "0 passed, 0 failed, 1 skipped"


def test_suite_1_needs_no_aead_for_hashes_and_derivations() -> None:
    assert run_file(MLS / "tree-operations.json").passed == 4
    assert run_file(MLS / "key-schedule.json").passed == 1


def test_unknown_suites_are_skipped(tmp_path: Path) -> None:
    case = json.loads((MLS / "crypto-basics.json").read_text())[0]
    for suite in (2, 4, 5, 6, 7, 99):
        path = tmp_path / "crypto-basics.json"
        path.write_text(json.dumps([{**case, "cipher_suite": suite}]))
        report = run_file(path)
        assert report.passed == 0
        assert report.failed + report.skipped == 1


@pytest.mark.parametrize("content", ["{", "{}", "3", '"x"'])
def test_an_unreadable_file_fails(content: str, tmp_path: Path) -> None:
    path = tmp_path / "welcome.json"
    path.write_text(content)
    assert run_file(path).failed == 1


def command(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "e2ee.vectors", str(folder)],
        capture_output=True,
        text=True,
        cwd=VECTORS.parent.parent,
        check=False,
    )


def test_command_line(tmp_path: Path) -> None:
    good = command(MLS)
    assert good.returncode == 0
    assert good.stdout.splitlines()[-1] == "109 passed, 0 failed, 1 skipped"
    assert command(tmp_path).returncode == 2
    (tmp_path / "tree-math.json").write_text('[{"n_leaves": 2}]')
    bad = command(tmp_path)
    assert bad.returncode == 1
    assert bad.stdout.splitlines()[-1] == "0 passed, 1 failed"
