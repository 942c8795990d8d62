"""Skeleton: filled in within the hour."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Peek:
    """What can be seen of a message without secrets."""

    wire_format: int
    group_id: bytes
    epoch: int
    content_type: str | None


def peek(message: bytes) -> Peek:
    """Look at a message without secrets; raises `Malformed`."""
    raise NotImplementedError
