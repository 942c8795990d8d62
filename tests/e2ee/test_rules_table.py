"""The tables of `e2ee/README.md` name only what there is, and every rule's test."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
README = (HERE.parent.parent / "e2ee" / "README.md").read_text()
RULES = {
    "test_encrypted_handshakes",
    "test_grease",
    "test_lineage",
    "test_self_remove",
    "test_window",
    *(path.stem for path in HERE.glob("test_validation_*.py")),
}
"""Files that hold a test for each rule."""


def functions(path: Path) -> dict[str, str]:
    """Names and docstrings of the tests in a file, also of those in classes."""
    return {
        node.name: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def rows() -> list[tuple[str, str, str, str]]:
    """(file or "", section or trap, code, test) of each row of the tables."""
    found: list[tuple[str, str, str, str]] = []
    file = ""
    for line in README.splitlines():
        if line.startswith("#"):
            heading = re.search(r"`(test_\w+)`$", line)
            file = heading[1] if heading else ""
        row = re.match(r"\| (.+) \| `([a-z_]+\.[\w.]+)` \| `(test_\w+)` \|$", line)
        if row:
            found.append((file, row[1].partition(" | ")[0], row[2], row[3]))
    return found


TESTS = {path.stem: functions(path) for path in HERE.glob("test_*.py")}


def test_the_tables_are_found() -> None:
    assert len(rows()) > 180
    assert {file for file, *_ in rows()} - {""} == RULES


@pytest.mark.parametrize("code", sorted({code for _, _, code, _ in rows()}))
def test_code_that_is_named_exists(code: str) -> None:
    module, *path = code.split(".")
    value: object = importlib.import_module(f"e2ee.{module}")
    for name in path:
        value = getattr(value, name)


def test_tests_that_are_named_exist() -> None:
    every = {name for names in TESTS.values() for name in names}
    for file, _, _, test in rows():
        assert test in (TESTS[file] if file else every), test


def test_every_test_of_a_rule_is_named_and_says_its_section() -> None:
    named = {(file, test) for file, _, _, test in rows()}
    for file in RULES:
        for test, doc in TESTS[file].items():
            assert (file, test) in named, f"{file}::{test} is not in the table"
            assert doc, f"{file}::{test} does not say its rule"


def test_rules_name_a_section_of_the_rfc() -> None:
    for file, section, _, _ in rows():
        if file:
            assert re.match(r"\d+(\.\d+)*|draft", section), section
