"""Echo cancellation, noise suppression and gain control: WebRTC's audio processing.

It comes in the wheel of livekit, of which nothing else is used; it is loaded (0.1 s,
24 MB) only when a switch is on. WebRTC works on frames of 10 ms, and its echo canceller
(AEC3) finds the delay between speaker and microphone by itself; a hint saves it time.

Both methods may be called from two threads, as devices do.
"""

import logging
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from media.port import MediaError

if TYPE_CHECKING:
    from livekit.rtc import AudioFrame
    from livekit.rtc.apm import AudioProcessingModule

__all__ = ["FRAME", "Processing"]

logger = logging.getLogger(__name__)

RATE = 48_000
FRAME = 480
"""Samples of a frame: 10 ms."""
MOST_DELAY = 0.5
"""Seconds of delay that WebRTC takes as a hint (`set_stream_delay_ms`)."""

Samples = NDArray[np.int16]
"""Mono, `RATE` a second."""


class Processing:
    """What is done to the microphone's sound; with all switches off, nothing is.

    Args:
        echo: Take what the speaker plays out of what the microphone hears.
        noise: Take out steady noise.
        gain: Bring a quiet voice to a usual loudness.
        delay: Seconds from `far` to the speaker and from the microphone to `near`, as
            the devices' latencies say.

    Raises:
        MediaError: `no_library`, when a switch is on and the library is not there.
    """

    def __init__(self, echo: bool, noise: bool, gain: bool, delay: float) -> None:
        self.echo, self.noise, self.gain = echo, noise, gain
        self._apm: AudioProcessingModule | None = None
        self._delay = delay
        self._told: float | None = None
        self._failed = False
        if echo or noise or gain:
            self._apm = _load(echo, noise, gain)

    def set_delay(self, delay: float) -> None:
        """Say that the devices' latency is another one now; seconds."""
        self._delay = delay

    def near(self, block: Samples) -> Samples:
        """The microphone's sound, cleaned: as many samples as `block` has.

        Raises:
            ValueError: It is not a multiple of `FRAME` samples.
        """
        _check(block)
        if self._apm is None or self._failed:
            return block
        done = [self._near(self._apm, part) for part in block.reshape(-1, FRAME)]
        return np.concatenate(done)

    def far(self, block: Samples) -> None:
        """Take note of exactly what the speaker is about to play.

        Raises:
            ValueError: It is not a multiple of `FRAME` samples.
        """
        _check(block)
        if self._apm is None or not self.echo or self._failed:
            return
        try:
            for part in block.reshape(-1, FRAME):
                self._apm.process_reverse_stream(_frame(part))
        except RuntimeError:
            self._give_up()

    def _near(self, apm: "AudioProcessingModule", part: Samples) -> Samples:
        try:
            if self.echo and self._told != self._delay:
                self._told = self._delay
                apm.set_stream_delay_ms(int(min(self._delay, MOST_DELAY) * 1000))
            frame = _frame(part)
            apm.process_stream(frame)
            return np.frombuffer(frame.data, np.int16)
        except RuntimeError:
            self._give_up()
            return part

    def _give_up(self) -> None:
        """A voice with echo is better than none."""
        if not self._failed:
            logger.exception("audio processing stopped")
        self._failed = True


def _check(block: Samples) -> None:
    if block.dtype != np.int16 or block.ndim != 1 or block.size % FRAME:
        raise ValueError(f"{block.dtype}{block.shape} is not int16 of 10 ms frames")


def _frame(part: Samples) -> "AudioFrame":
    """A copy, which the library changes in place."""
    from livekit.rtc import AudioFrame

    return AudioFrame(bytearray(part.tobytes()), RATE, 1, FRAME)


def _load(echo: bool, noise: bool, gain: bool) -> "AudioProcessingModule":
    try:
        from livekit.rtc.apm import AudioProcessingModule

        return AudioProcessingModule(
            echo_cancellation=echo,
            noise_suppression=noise,
            high_pass_filter=echo or noise,
            auto_gain_control=gain,
        )
    except Exception as error:  # a plain one, where it knows no library for the system
        text = (
            "Echo cancellation and noise suppression need livekit: pip install "
            "'telex[calls]'; until then use headphones."
        )
        raise MediaError("no_library", text) from error
