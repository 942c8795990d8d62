"""The package as a whole: errors, exports, what it may not do."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import e2ee
from e2ee import errors

PACKAGE = Path(e2ee.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))


def error_classes() -> list[type[errors.E2eeError]]:
    return [
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.E2eeError)
    ]


def test_every_error_has_a_code_of_its_own() -> None:
    codes = [cls.code for cls in error_classes()]
    assert len(set(codes)) == len(codes)
    for cls in error_classes():
        assert "code" in vars(cls)
        assert cls.__doc__


def test_the_drawn_tree_is_the_real_one() -> None:
    drawn: dict[str, tuple[str, str | None]] = {}
    stack: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^([ │├└─]*)([A-Z]\w+) {2,}(\w+)", line)
        if match is None:
            continue
        depth, name, code = len(match[1]), match[2], match[3]
        while stack and stack[-1][0] >= depth:
            stack.pop()
        drawn[name] = code, stack[-1][1] if stack else None
        stack.append((depth, name))
    real = {
        cls.__name__: (
            cls.code,
            cls.__base__.__name__ if cls is not errors.E2eeError else None,
        )
        for cls in error_classes()
        if cls.__base__ is not None
    }
    assert drawn == real


def test_all_is_honest() -> None:
    assert len(set(e2ee.__all__)) == len(e2ee.__all__)
    for name in e2ee.__all__:
        assert getattr(e2ee, name) is not None


ALLOWED = {
    "__future__",
    "bisect",
    "collections",
    "dataclasses",
    "e2ee",
    "functools",
    "hashlib",
    "hmac",
    "itertools",
    "nacl",
    "struct",
    "typing",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_modules_import_nothing_else_and_are_documented(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    runner = {"json", "pathlib", "sys"} if path.parent.name == "vectors" else set()
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.split(".")[0] in ALLOWED | runner, name


def test_nothing_calls_itself() -> None:
    """Trees are as deep as an attacker likes: no function is recursive."""
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        methods = {
            method
            for cls in ast.walk(tree)
            if isinstance(cls, ast.ClassDef)
            for method in cls.body
        }
        for function in ast.walk(tree):
            if not isinstance(function, ast.FunctionDef):
                continue
            own = ast.Attribute if function in methods else ast.Name
            for node in ast.walk(function):
                if not isinstance(node, ast.Call) or not isinstance(node.func, own):
                    continue
                called = ast.unparse(node.func)
                assert called not in (function.name, f"self.{function.name}"), (
                    f"{path.stem}.{function.name}"
                )


def test_tags_are_compared_in_constant_time() -> None:
    for path in SOURCES:
        if path.parent.name == "vectors":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and any(
                isinstance(operator, ast.Eq | ast.NotEq) for operator in node.ops
            ):
                text = ast.unparse(node)
                secret = re.search(r"membership_tag|secret\b|private\b|_key\(", text)
                assert not secret or re.match(r"len\(|.*\.public\(", text), (
                    f"{path.stem}: {text}"
                )


def test_public_functions_are_documented() -> None:
    for name in e2ee.__all__:
        value = getattr(e2ee, name)
        if not inspect.isclass(value):
            continue
        for attribute, member in vars(value).items():
            if not attribute.startswith("_") and callable(member):
                assert member.__doc__, f"{name}.{attribute}"
