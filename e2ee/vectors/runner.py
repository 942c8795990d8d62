"""Finds vector files, runs their cases and counts.

A file is known by its name (`treekem.json`, `treekem-2.json`), by a field that only
cases of its kind have, or, if it comes from Wycheproof, by its `algorithm`.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from e2ee.errors import PrimitiveMissing
from e2ee.vectors.case import Case, Json, Primitives
from e2ee.vectors.hpke import hpke_case
from e2ee.vectors.message import (
    message_protection_case,
    messages_case,
    welcome_case,
)
from e2ee.vectors.passive_client import passive_client_case
from e2ee.vectors.primitive import (
    crypto_basics_case,
    deserialization_case,
    key_schedule_case,
    psk_secret_case,
    secret_tree_case,
    transcript_hashes_case,
    tree_math_case,
)
from e2ee.vectors.tree import (
    tree_operations_case,
    tree_validation_case,
    treekem_case,
)
from e2ee.vectors.wycheproof import WYCHEPROOF

Check = Callable[[Case], None]

CHECKS: dict[str, Check] = {
    "crypto-basics": crypto_basics_case,
    "deserialization": deserialization_case,
    "hpke": hpke_case,
    "key-schedule": key_schedule_case,
    "message-protection": message_protection_case,
    "messages": messages_case,
    "passive-client-handling-commit": passive_client_case,
    "passive-client-random": passive_client_case,
    "passive-client-welcome": passive_client_case,
    "psk_secret": psk_secret_case,
    "secret-tree": secret_tree_case,
    "transcript-hashes": transcript_hashes_case,
    "tree-math": tree_math_case,
    "tree-operations": tree_operations_case,
    "tree-validation": tree_validation_case,
    "treekem": treekem_case,
    "welcome": welcome_case,
}
"""File name without suffix to check."""

_MARKS: dict[str, Check] = {
    "ref_hash": crypto_basics_case,
    "vlbytes_header": deserialization_case,
    "kem_id": hpke_case,
    "initial_init_secret": key_schedule_case,
    "proposal_priv": message_protection_case,
    "mls_welcome": messages_case,
    "initial_epoch_authenticator": passive_client_case,
    "psk_secret": psk_secret_case,
    "sender_data": secret_tree_case,
    "authenticated_content": transcript_hashes_case,
    "n_leaves": tree_math_case,
    "tree_before": tree_operations_case,
    "resolutions": tree_validation_case,
    "update_paths": treekem_case,
    "signer_pub": welcome_case,
}
"""A field that only one kind of case has, for files of other names."""


@dataclass(slots=True)
class Report:
    """What came out."""

    files: int = 0
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    notes: list[str] = field(default_factory=list)
    """Why cases were skipped or failed."""

    def add(self, other: Report) -> None:
        """Add another report's numbers."""
        self.files += other.files
        self.passed += other.passed
        self.failed += other.failed
        self.skipped += other.skipped
        self.notes += other.notes

    def __str__(self) -> str:
        """Say the numbers."""
        text = f"{self.passed} passed, {self.failed} failed"
        return text + (f", {self.skipped} skipped" if self.skipped else "")


def run_file(path: Path, primitives: Primitives | None = None) -> Report:
    """Run one file of vectors; every exception of a case is a failure of it."""
    try:
        document = json.loads(path.read_bytes())
    except ValueError as error:
        return Report(files=1, failed=1, notes=[f"unreadable: {error}"])
    return run_document(path.stem, document, primitives)


def run_document(
    name: str, document: Json, primitives: Primitives | None = None
) -> Report:
    """Run what stands in a file of vectors; `name` is the file's without suffix."""
    try:
        check, cases = _cases(name, document)
    except (AttributeError, KeyError, TypeError) as error:
        return Report(files=1, failed=1, notes=[f"unreadable: {error!r}"])
    if check is None:
        return Report(files=1, skipped=1, notes=["no check for this kind of file"])
    if not cases:
        return Report(files=1, failed=1, notes=["unreadable: there are no cases"])
    report = Report(files=1)
    primitives = primitives or Primitives()
    reasons: Counter[str] = Counter()
    for number, data in enumerate(cases):
        try:
            check(Case(data, primitives))
        except PrimitiveMissing as error:
            report.skipped += 1
            reasons[f"{_suite_of(data)}{error}"] += 1
        except Exception as error:
            report.failed += 1
            report.notes.append(f"case {number}: {type(error).__name__}: {error}")
        else:
            report.passed += 1
    report.notes += [f"skipped {count}: {why}" for why, count in reasons.items()]
    return report


def _cases(name: str, document: Json) -> tuple[Check | None, Sequence[Json]]:
    """Give the check of a file and its cases; no check if it is of no known kind."""
    if isinstance(document, dict) and "testGroups" in document:
        check = WYCHEPROOF.get(document.get("algorithm", ""))
        return check, [
            {**test, "group": {k: v for k, v in group.items() if k != "tests"}}
            for group in document["testGroups"]
            for test in group["tests"]
        ]
    is_list = isinstance(document, list)
    check = _check_for(name)
    if check is None and is_list and document and isinstance(document[0], dict):
        check = next((_MARKS[mark] for mark in _MARKS if mark in document[0]), None)
    return check, document if is_list else []


def _check_for(name: str) -> Check | None:
    """Find the check by the file's name; `name-2.json` is of the kind of `name`."""
    if name in CHECKS:
        return CHECKS[name]
    known = [kind for kind in CHECKS if name.startswith((f"{kind}-", f"{kind}."))]
    return CHECKS[max(known, key=len)] if known else None


def _suite_of(data: Json) -> str:
    known = isinstance(data, dict) and "cipher_suite" in data
    return f"suite {data['cipher_suite']}: " if known else ""


def run_folder(
    folder: Path,
    primitives: Primitives | None = None,
    show: Callable[[str], object] = lambda _: None,
) -> Report:
    """Run all `*.json` of a folder, showing a line per file."""
    total = Report()
    for path in sorted(folder.glob("*.json")):
        report = run_file(path, primitives)
        notes = f" ({'; '.join(report.notes)})" if report.notes else ""
        show(f"{path.name}: {report}{notes}")
        total.add(report)
    return total


def main(arguments: Sequence[str], primitives: Primitives | None = None) -> int:
    """Run the vectors of folders; 0 all well, 1 a failure, 2 nothing to run."""
    folders = [Path(argument) for argument in arguments]
    if not folders or not all(folder.is_dir() for folder in folders):
        print("usage: python -m e2ee.vectors FOLDER...", file=sys.stderr)
        return 2
    total = Report()
    for folder in folders:
        total.add(run_folder(folder, primitives, print))
    if not total.files:
        print("There is no *.json in there.", file=sys.stderr)
        return 2
    print(total)
    return 1 if total.failed else 0
