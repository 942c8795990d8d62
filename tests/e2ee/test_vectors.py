"""The published vectors pass, and the runner reads whatever lies in a folder."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2ee.vectors import CHECKS, Primitives, main, run_document, run_file, run_folder
from tests.helpers.fuzz import fuzzing
from tests.vectors.primitives import PRIMITIVES

VECTORS = Path(__file__).parent.parent / "vectors"
MLS, HPKE, WYCHEPROOF = (VECTORS / name for name in ("mls", "hpke", "wycheproof"))
FILES = sorted(p for folder in (MLS, HPKE, WYCHEPROOF) for p in folder.glob("*.json"))


def cases_of(path: Path) -> list[Any]:
    document = json.loads(path.read_text())
    if isinstance(document, dict):
        return [test for group in document["testGroups"] for test in group["tests"]]
    assert isinstance(document, list)
    return document


def test_every_kind_of_mls_has_a_file_and_a_check() -> None:
    assert {path.stem for path in MLS.glob("*.json")} == set(CHECKS) - {"hpke"}
    assert len(list(HPKE.glob("*.json"))) == 3
    assert len(list(WYCHEPROOF.glob("*.json"))) == 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_published_vectors_pass(path: Path) -> None:
    report = run_file(path, PRIMITIVES)
    assert report.notes == []
    assert report.passed == len(cases_of(path))
    assert report.failed == report.skipped == 0


def test_hpke_has_all_modes_and_primitives() -> None:
    cases = [case for path in HPKE.glob("*.json") for case in cases_of(path)]
    assert {case["mode"] for case in cases} == {0, 1, 2, 3}
    assert {case["aead_id"] for case in cases} == {1, 3, 0xFFFF}
    assert {case["kem_id"] for case in cases} == {0x20, 0x647A}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_is_known_by_what_stands_in_it(path: Path) -> None:
    document = json.loads(path.read_text())
    if isinstance(document, list):
        document = document[:1]
    expected = run_document(path.stem, document, PRIMITIVES)
    assert run_document("held-out", document, PRIMITIVES) == expected
    assert run_document(f"{path.stem}-2", document, PRIMITIVES) == expected


OPTIONAL = {
    *("tcId", "comment", "flags"),
    *("suite_id", "pkEm", "skEm", "key_schedule_context"),
}
"""Fields that say nothing, or that some cases of HPKE have, and then are checked."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_missing_value_fails(path: Path) -> None:
    document = json.loads(path.read_text())
    case = cases_of(path)[0]
    if path.stem == "passive-client-random":
        case["epochs"] = case["epochs"][:2]
    for key in set(case) - OPTIONAL:
        left = {k: v for k, v in case.items() if k != key}
        wrong: Any = [left]
        if isinstance(document, dict):
            group = {**document["testGroups"][0], "tests": [left]}
            wrong = {**document, "testGroups": [group]}
        report = run_document(path.stem, wrong, PRIMITIVES)
        assert (report.passed, report.failed) == (0, 1), key


# --- what is not built in


def test_a_suite_without_primitive_is_skipped_with_the_reason(tmp_path: Path) -> None:
    lines: list[str] = []
    data = (MLS / "passive-client-random.json").read_bytes()
    (tmp_path / "passive-client-random.json").write_bytes(data)
    report = run_folder(tmp_path, show=lines.append)
    assert (report.passed, report.failed, report.skipped) == (0, 0, 1)
    assert "suite 1" in lines[0]
    assert str(report) == "0 passed, 0 failed, 1 skipped"


def test_suite_1_needs_no_aead_for_hashes_and_derivations() -> None:
    assert run_file(MLS / "tree-operations.json").passed == 4
    assert run_file(MLS / "key-schedule.json").passed == 1


def test_unknown_suites_are_skipped() -> None:
    case = cases_of(MLS / "crypto-basics.json")[0]
    for suite in (2, 4, 5, 6, 7, 99):
        report = run_document("crypto-basics", [{**case, "cipher_suite": suite}])
        assert report.passed == 0
        assert report.failed + report.skipped == 1
    assert run_document("crypto-basics", [{**case, "cipher_suite": 99}]).skipped == 1


def test_hpke_without_its_primitives_is_skipped() -> None:
    case = cases_of(HPKE / "hpke-x25519-sha256-chacha20poly1305.json")[0]
    for wrong in ({"kem_id": 0x10}, {"kdf_id": 9}, {"aead_id": 77}):
        report = run_document("hpke", [{**case, **wrong}])
        assert (report.passed, report.failed, report.skipped) == (0, 0, 1)
    xwing = cases_of(HPKE / "hpke-pq-xwing.json")
    authenticated = [{**xwing[0], "mode": 2, "pkSm": "00" * 32}]
    assert run_document("hpke", authenticated, PRIMITIVES).skipped == 1
    assert run_document("hpke", xwing, Primitives()).skipped == 1


def test_other_curves_of_wycheproof_are_skipped() -> None:
    for name, place in (("ed25519", "publicKey"), ("x25519", None)):
        document = json.loads((WYCHEPROOF / f"{name}.json").read_text())
        for group in document["testGroups"]:
            (group[place] if place else group)["curve"] = "curve448"
        report = run_document(name, document)
        assert report.passed == report.failed == 0
        assert report.skipped == document["numberOfTests"]


# --- the runner


@pytest.mark.parametrize(
    "content",
    ["{", "{}", "3", '"x"', "[]", "[3]", "[null]", "\x00"],
)
def test_an_unreadable_file_fails(content: str, tmp_path: Path) -> None:
    path = tmp_path / "welcome.json"
    path.write_text(content)
    report = run_file(path)
    assert (report.passed, report.failed, report.skipped) == (0, 1, 0)


@pytest.mark.parametrize("groups", [3, [3], [{}], [{"tests": 3}], [{"tests": [3]}], []])
def test_unreadable_groups_fail(groups: object) -> None:
    document = {"algorithm": "XDH", "testGroups": groups}
    report = run_document("x25519", document)
    assert (report.passed, report.failed) == (0, 1)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8), inner, max_size=4)
        | st.fixed_dictionaries(
            {},
            optional={
                name: inner
                for name in ("algorithm", "testGroups", "tests", "kem_id", "n_leaves")
            },
        )
    ),
    max_leaves=20,
)


@fuzzing
@given(name=st.sampled_from([*CHECKS, "unknown"]), document=JSON)
def test_no_document_stops_the_runner(name: str, document: object) -> None:
    report = run_document(name, document)
    assert report.files == 1
    assert report.passed == 0
    assert report.failed + report.skipped > 0


def test_other_files_are_skipped_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text('{"name": "x"}')
    lines: list[str] = []
    report = run_folder(tmp_path, show=lines.append)
    assert (report.passed, report.failed, report.skipped) == (0, 0, 1)
    assert "no check" in lines[0]


def command(module: str, *folders: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *map(str, folders)],
        capture_output=True,
        text=True,
        cwd=VECTORS.parent.parent,
        check=False,
    )


def test_command_line() -> None:
    built_in = command("e2ee.vectors", MLS, HPKE, WYCHEPROOF)
    assert built_in.returncode == 0
    assert built_in.stdout.splitlines()[-1] == "1035 passed, 0 failed, 5 skipped"
    more = command("tests.vectors", MLS, HPKE, WYCHEPROOF)
    assert more.returncode == 0
    assert more.stdout.splitlines()[-1] == "1040 passed, 0 failed"


def test_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == main([str(tmp_path / "none")]) == main([str(tmp_path)]) == 2
    (tmp_path / "tree-math.json").write_text('[{"n_leaves": 2}]')
    assert main([str(tmp_path)]) == 1
    assert main([str(HPKE), str(tmp_path)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "6 passed, 1 failed, 4 skipped"
