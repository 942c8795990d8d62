"""Leaf index 0 is the creator, epoch 0 the first: neither may be asked for its truth.

`if leaf:` has excluded the creator in other programs. Numbers that may be 0 are
compared (`is None`, `== 0`), here and wherever else leaves are handled.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
SOURCES = sorted(
    path
    for package in ("e2ee", "protocol", "client", "node")
    for path in (ROOT / package).rglob("*.py")
)
NUMBERS = {
    "committer",
    "epoch",
    "generation",
    "index",
    "leaf",
    "leaf_index",
    "own_leaf",
    "sender_index",
    "signer",
}
"""Names that hold a number which may be 0, or such a number or None."""


def truths(tree: ast.AST) -> Iterator[ast.expr]:
    """Everything whose truth is asked for."""
    for node in ast.walk(tree):
        match node:
            case ast.If() | ast.While() | ast.IfExp() | ast.Assert():
                yield node.test
            case ast.comprehension():
                yield from node.ifs
            case ast.BoolOp(op=ast.Or(), values=[_, ast.Constant(value=0)]):
                pass  # `x or 0` gives 0 for 0: nothing is mistaken
            case ast.BoolOp():
                yield from node.values
            case ast.UnaryOp(op=ast.Not()):
                yield node.operand
            case ast.Call(func=ast.Name(id="bool" | "any" | "all")):
                yield from node.args
            case ast.match_case(guard=ast.expr() as guard):
                yield guard


def name_of(node: ast.expr) -> str:
    """The last name of `leaf`, `x.leaf` or `x.leaf()`."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case ast.Call(func=ast.Attribute(attr=name) | ast.Name(id=name)):
            return name
        case ast.NamedExpr(target=ast.Name(id=name)):
            return name
    return ""


def faults(source: str) -> list[str]:
    return [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in truths(ast.parse(source))
        if name_of(node) in NUMBERS
    ]


@pytest.mark.parametrize(
    "source",
    [
        "if leaf: pass",
        "if not member.leaf: pass",
        "x = own_leaf or 7",
        "x = 1 if group.epoch else 2",
        "assert index",
        "y = [n for n in z if n.leaf]",
        "while x and committer: pass",
        "if (leaf := find()): pass",
        "bool(signer)",
        "match x:\n    case y if index: pass",
    ],
)
def test_the_lint_sees(source: str) -> None:
    assert len(faults(source)) >= 1


@pytest.mark.parametrize(
    "source",
    ["if leaf is None: pass", "if leaf == 0: pass", "if leaf in x: pass", "leaf or 0"],
)
def test_the_lint_lets_comparisons_be(source: str) -> None:
    assert not faults(source)


def test_no_index_is_asked_for_its_truth() -> None:
    found = {
        str(path.relative_to(ROOT)): wrong
        for path in SOURCES
        if (wrong := faults(path.read_text()))
    }
    assert not found
