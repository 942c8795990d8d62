"""When the next picture may go to a terminal, and how fine it may be.

A picture is half a thousand times as large as a key's echo, and both go the same way:
through this program's writer, the kernel, often a secure shell's window of megabytes.
What waits there delays every key. So after each picture the terminal is asked
something (a *fence*); its answer says that the picture has arrived. Nothing is sent
while one is under way, the link is left alone for as long as the picture took, and
where it took long, the next ones are coarser.

Pure: times (seconds, monotonic) come in as arguments.
"""

__all__ = ["COARSEST", "Pace"]

COARSEST = 2
"""Levels of coarseness, from 0: as fine as the terminal can."""

SLOW = 0.06
"""Seconds more than an empty answer takes after which pictures become coarser: a key
that is pressed meanwhile waits for this long."""

QUICK = 0.015
"""Seconds below which they may be finer again."""

PATIENCE = 3
"""Slow pictures in a row before it becomes coarser; very slow ones count twice."""

CALM = 20.0
"""Seconds of quick pictures before it becomes finer; each time that proves wrong,
twice as long (at most `CALMEST`)."""

CALMEST = 320.0

FAR = 0.05
"""Round trip in seconds above which two pictures may be under way: with one, a far
terminal would see few of them."""

DEAF = 2.0
"""Seconds without any answer after which a terminal counts as one that gives none."""

STALLED = 10.0
"""Seconds without the next answer after which it is taken for lost."""

BLIND_GAP = 0.2
"""Seconds between pictures until the first answer."""


class Pace:
    """The pictures under way to one terminal."""

    def __init__(self, *, fences: bool = True) -> None:
        """Args: fences: whether the terminal is asked at all."""
        self.level = 0
        """How coarse the next picture should be: 0 to `COARSEST`."""
        self.asks = fences
        """Whether to send a fence behind the next picture."""
        self._away: list[float] = []
        self._answers = 0
        self._best = float("inf")
        self._earliest = 0.0
        self._slow = 0
        self._quick_since = -1.0
        self._calm = CALM
        self._finer_at = float("-inf")

    def ready(self, now: float) -> bool:
        """Whether a picture may go now."""
        if not self.asks:
            return True
        if self._away and not self._answers:
            if now - self._away[0] > DEAF:
                self.asks = False
                self._away.clear()
                return True
            return now - self._away[-1] >= BLIND_GAP
        if self._away and now - self._away[0] > STALLED:
            self._away.clear()
            return True
        most = 2 if FAR < self._best < float("inf") else 1
        return len(self._away) < most and now >= self._earliest

    def restart(self) -> None:
        """Forget what is under way: its answers are lost."""
        self._away.clear()
        self._earliest = 0.0

    def wait(self, now: float) -> float:
        """Seconds after which to look again, if no answer comes before."""
        if self._away:
            return BLIND_GAP
        return max(0.0, self._earliest - now)

    def sent(self, now: float) -> None:
        """A picture and its fence were given to the terminal."""
        if self.asks:
            self._away.append(now)

    def answered(self, now: float) -> float:
        """The terminal answered a fence; seconds that the picture took, or 0.

        An answer that nobody waits for changes nothing.
        """
        if not self._away:
            return 0.0
        self._answers += 1
        took = now - self._away.pop(0)
        self._best = min(self._best, took)
        more = took - self._best
        self._earliest = now + more
        self._judge(more, now)
        return took

    def _judge(self, more: float, now: float) -> None:
        if more > SLOW:
            self._quick_since = -1.0
            self._slow += 2 if more > 3 * SLOW else 1
            if self._slow >= PATIENCE and self.level < COARSEST:
                self._slow = 0
                self.level += 1
                if now - self._finer_at < CALM:
                    self._calm = min(CALMEST, self._calm * 2)
            return
        self._slow = 0
        if more > QUICK or not self.level:
            self._quick_since = -1.0
            return
        if self._quick_since < 0:
            self._quick_since = now
        elif now - self._quick_since >= self._calm:
            self._quick_since = -1.0
            self._finer_at = now
            self.level -= 1
