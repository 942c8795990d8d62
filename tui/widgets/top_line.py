"""One line over the chat for what somebody should know now, the most urgent first.

Somebody who waits for an answer, a key that changed, history that is coming back,
warnings. A click or F7 does something about it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from textual import events
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from client.model import Device, KeyChange, LinkProgress, RestoreProgress, Sas
from tui.cells import cell_len, fit, one_line
from tui.text import say

__all__ = [
    "RESTORED",
    "News",
    "TopLine",
    "bar",
    "link_text",
    "newest_here",
    "progress_text",
    "stage_text",
]

RESTORED = ("done", "none", "failed")
"""Stages at which no more history comes back."""

BAR = 20
"""Cells of the progress bar."""


@dataclass
class News:
    """What there is to say."""

    asked: Sas | None = None
    changed: tuple[KeyChange, ...] = ()
    alarms: int = 0
    link: LinkProgress | None = None
    here: bool = False
    """Whether this device is the one that is linked."""
    restore: RestoreProgress | None = None
    skipped: set[str] = field(default_factory=set)
    """Accounts whose changed key was looked at and left for later."""

    @property
    def action(self) -> str:
        """What F7 does about it: `sas`, `changed`, `alarms` or nothing."""
        if self.asked is not None:
            return "sas"
        if self.pressing is not None:
            return "changed"
        if self.link is None and self.restore is None and self.alarms:
            return "alarms"
        return ""

    @property
    def pressing(self) -> KeyChange | None:
        """The changed key to choose about next."""
        for change in self.changed:
            if change.account not in self.skipped:
                return change
        return None


def bar(done: int, total: int, width: int = BAR) -> str:
    """A bar of blocks and the number in per cent; empty where the end is unknown."""
    if total <= 0:
        return ""
    share = max(0.0, min(1.0, done / total))
    full = int(share * width)
    return f"{'█' * full}{'░' * (width - full)} {share:4.0%}"


class TopLine(Static):
    """The line; hidden when there is nothing to say."""

    class Pressed(Message):
        """Somebody clicked on it."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id, markup=False)
        self.news = News()
        self.display = False

    def draw(self) -> None:
        """Show the most urgent."""
        text, style = self._line()
        self.display = bool(text)
        self.set_class(style == "urgent", "-urgent")
        if text:
            key = f"{say('top.key')} " if self.news.action else ""
            width = max(1, self.size.width or self.app.size.width - 2)
            space = width - cell_len(key) - 1
            self.update(
                Content.assemble((fit(text, space), ""), (f" {key}".rstrip(), "bold"))
            )

    def _line(self) -> tuple[str, str]:
        news = self.news
        if news.asked is not None:
            return say("top.sas", who=one_line(news.asked.account)), "urgent"
        if (change := news.pressing) is not None:
            return say("top.changed", who=one_line(change.account)), "urgent"
        if (link := news.link) is not None:
            return link_text(link, here=news.here), ""
        if (restore := news.restore) is not None:
            return progress_text(say("top.restore"), restore.done, restore.total), ""
        if news.alarms:
            key = "top.alarm.one" if news.alarms == 1 else "top.alarms"
            return say(key, count=news.alarms), "urgent"
        return "", ""

    def on_resize(self, event: events.Resize) -> None:
        """The width changed."""
        self.draw()

    def on_click(self) -> None:
        """Do something about it."""
        self.post_message(self.Pressed())


def newest_here(devices: Iterable[Device]) -> bool:
    """Whether this device came last: then it is the one that is linked just now."""
    there = [one for one in devices if not one.revoked]
    own = next((one.created for one in there if one.own), 0)
    return all(one.own or one.created < own for one in there)


def stage_text(link: LinkProgress, *, here: bool) -> str:
    """How far the linking of a device is; `here`: of this one."""
    mine = here and link.stage in ("joining", "history", "done")
    return say(f"link.{'here' if mine else 'stage'}.{link.stage}")


def link_text(link: LinkProgress, *, here: bool) -> str:
    """The same with a bar, or with what there is to say at the end."""
    text = stage_text(link, here=here)
    if link.stage == "done":
        detail = one_line(link.detail)
        return f"✓ {text}" + (f" · {detail}" if detail else "")
    return progress_text(text, link.done, link.total)


def progress_text(text: str, done: int, total: int) -> str:
    """Bar and numbers first: they change, and the end of a line may be cut."""
    if total <= 0:
        some = f"{say('restore.some', done=f'{done:,}')} · " if done else ""
        return f"◌ {some}{text}"
    count = say("restore.count", done=f"{done:,}", total=f"{total:,}")
    return f"{bar(done, total)}  {count} · {text}"
