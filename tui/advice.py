"""What a person can do about what the node said of this device."""

from protocol.errors import DeviceRevoked
from tui.text import say

__all__ = ["advised", "is_revoked"]


def is_revoked(detail: str) -> bool:
    """Whether the node said that this device is shut out for good."""
    return detail == str(DeviceRevoked())


def advised(detail: str) -> str:
    """Why the node is not reached, and the way back where there is one."""
    return say("link.revoked") if is_revoked(detail) else detail
