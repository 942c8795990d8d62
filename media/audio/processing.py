"""Echo cancellation, noise suppression and gain control: WebRTC's audio processing.

It comes in the wheel of livekit, of which nothing else is used; it is loaded (0.1 s,
24 MB) only when a switch is on. WebRTC works on frames of 10 ms, and its echo canceller
(AEC3) finds the delay between speaker and microphone by itself; a hint saves it time.

Both methods may be called from two threads, as devices do.
"""

import ctypes
import logging
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from media.port import MediaError

if TYPE_CHECKING:
    from livekit.rtc.apm import AudioProcessingModule

__all__ = ["FRAME", "Processing"]

logger = logging.getLogger(__name__)

RATE = 48_000
FRAME = 480
"""Samples of a frame: 10 ms."""
MOST_DELAY = 0.5
"""Seconds of delay that WebRTC takes as a hint (`set_stream_delay_ms`)."""

ASK: Final = ctypes.CFUNCTYPE(
    ctypes.c_uint64,
    ctypes.c_char_p,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_void_p,
)
DROP: Final = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_uint64)
"""Of livekit's library: a request with its length, where the answer and its length go;
the answer's handle, which is to be dropped."""

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
            self._apm, self._near, self._far = _load(echo, noise, gain)

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
        try:
            if self.echo and self._told != self._delay:
                self._told = self._delay
                delay = int(min(self._delay, MOST_DELAY) * 1000)
                self._apm.set_stream_delay_ms(delay)
            return self._near.run(block)
        except RuntimeError:
            self._give_up()
            return block

    def far(self, block: Samples) -> None:
        """Take note of exactly what the speaker is about to play.

        Raises:
            ValueError: It is not a multiple of `FRAME` samples.
        """
        _check(block)
        if self._apm is None or not self.echo or self._failed:
            return
        try:
            self._far.run(block)
        except RuntimeError:
            self._give_up()

    def _give_up(self) -> None:
        """A voice with echo is better than none."""
        if not self._failed:
            logger.exception("audio processing stopped")
        self._failed = True


class Way:
    """The near or the far end's way through the library.

    What livekit does around each frame (another frame, two messages, a handle that is
    registered) costs as much as the far end's work itself. The request is always the
    same, for a buffer that stays where it is: it is written once.
    """

    def __init__(self, apm: "AudioProcessingModule", name: str) -> None:
        """`name`: of the request, and of its answer (livekit's audio_frame.proto)."""
        from livekit.rtc._ffi_client import FfiClient
        from livekit.rtc._proto.ffi_pb2 import FfiRequest, FfiResponse

        self._name = name
        self._buffer: Samples = np.zeros(FRAME, np.int16)
        request, done = FfiRequest(), FfiResponse()
        part = getattr(request, name)
        part.apm_handle = apm._ffi_handle.handle
        part.data_ptr = self._buffer.ctypes.data
        part.size = self._buffer.nbytes
        part.sample_rate, part.num_channels = RATE, 1
        getattr(done, name).SetInParent()
        self._request: bytes = request.SerializeToString()
        self._done: bytes = done.SerializeToString()
        self._parse = FfiResponse.FromString
        library = FfiClient.instance._ffi_lib
        self._ask = ASK(("livekit_ffi_request", library))
        self._drop = DROP(("livekit_ffi_drop_handle", library))
        self._answer, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        self._places = ctypes.byref(self._answer), ctypes.byref(self._size)

    def run(self, block: Samples) -> Samples:
        """Give the block as it is after processing; RuntimeError if that fails."""
        result = np.empty_like(block)
        for at in range(0, block.size, FRAME):
            self._buffer[:] = block[at : at + FRAME]
            handle = self._ask(self._request, len(self._request), *self._places)
            if not handle:
                raise RuntimeError("the library did not take the request")
            answer = ctypes.string_at(self._answer.value or 0, self._size.value)
            self._drop(handle)
            if answer != self._done:
                error = getattr(self._parse(answer), self._name).error
                raise RuntimeError(error or "an unknown answer")
            result[at : at + FRAME] = self._buffer
        return result


def _check(block: Samples) -> None:
    if block.dtype != np.int16 or block.ndim != 1 or block.size % FRAME:
        raise ValueError(f"{block.dtype}{block.shape} is not int16 of 10 ms frames")


def _load(
    echo: bool, noise: bool, gain: bool
) -> tuple["AudioProcessingModule", Way, Way]:
    """The library's module, and the ways of the near and the far end through it."""
    try:
        from livekit.rtc.apm import AudioProcessingModule

        apm = AudioProcessingModule(
            echo_cancellation=echo,
            noise_suppression=noise,
            high_pass_filter=echo or noise,
            auto_gain_control=gain,
        )
        near = Way(apm, "apm_process_stream")
        return apm, near, Way(apm, "apm_process_reverse_stream")
    except Exception as error:  # a plain one, where it knows no library for the system
        text = (
            "Echo cancellation and noise suppression need livekit: pip install "
            "'telex[calls]'; until then use headphones."
        )
        raise MediaError("no_library", text) from error
