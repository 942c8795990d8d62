"""Opus (RFC 6716) for calls: libopus itself, called by ctypes.

PyAV has an Opus codec too, but neither in-band FEC nor concealment nor settings that
change while it runs; the library lies in PyAV's wheel anyway, so it costs nothing.

Everything is mono at 48 kHz; a *block* is 20 ms. libopus adds 6.5 ms of look-ahead.

What was looked for and is not there: the wheel's libopus 1.6.1 is built without deep
PLC and DRED (0.4 MB: the models are not in it). Decoder complexity 5 and more gives
the very same samples, `opus_dred_parse` answers "unimplemented". What is lost in
bursts is therefore made up by redundancy (`media.audio.red`), not by a model.

A payload is hostile input: whatever is in it, `Decoder` gives sound or a concealment.
"""

import contextlib
import ctypes
import ctypes.util
import importlib.util
import threading
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from media.port import MediaError

__all__ = ["BLOCK", "RATE", "Decoder", "Encoder", "Pcm", "load", "silent_payload"]

Pcm = npt.NDArray[np.int16]
"""Sound: signed 16 bit, mono, 48 kHz."""

RATE: Final = 48_000
BLOCK: Final = 960
"""20 ms: what is encoded at a time, and what the mixer works in."""

BITRATE: Final = 48_000
BITRATES: Final = (12_000, 96_000)
"""Below, FEC has no room for wide-band speech; above, nobody hears more."""
LOSS: Final = 0.10
"""The least loss that FEC is made ready for: a clean path may lose the next packet, and
told of less than a few percent libopus leaves FEC out."""
LONGEST: Final = 5760
"""120 ms: the most that a packet may hold (RFC 6716, section 3.2.5)."""
PAYLOAD: Final = 1275
"""Bytes of the largest frame (section 3.2.1); we never send more than one."""
ACCEPTED: Final = 4000
"""Bytes of a payload that is looked at: more than any datagram on a real path."""
QUIET: Final = 2
"""A result of so many bytes says only that there is nothing to say (DTX)."""
HANGOVER: Final = 50
"""Blocks (1 s) without a voice before DTX begins. libopus would begin after 200 ms, in
the middle of sentences: that costs 0.13 in PESQ, and saves next to nothing."""
MARKS: Final = 2
"""So many of those are sent when a silence begins: one may get lost."""

# opus_defines.h
VOIP = 2048
SET_BITRATE = 4002
SET_COMPLEXITY = 4010
SET_INBAND_FEC = 4012
SET_PACKET_LOSS = 4014
SET_DTX = 4016
SET_SIGNAL = 4024
RESET_STATE = 4028
SIGNAL_VOICE = 3001

COMPLEXITY: Final = 6
"""Of 10. 9 takes half as much time again, for 0.05 of PESQ without losses and nothing
with them (medians of five at 48 kbit/s)."""


def silent_payload(payload: bytes) -> bool:
    """Tell whether a payload only says that its sender is silent from now on."""
    return len(payload) <= QUIET


def _voiced(payload: bytes) -> bool:
    """Tell whether a 20 ms packet of ours holds a voice: SILK's first bit says so.

    RFC 6716, sections 3.1 and 4.2.3; CELT (from 16 on) has no such bit.
    """
    return len(payload) > QUIET and (payload[0] >> 3 >= 16 or payload[1] >= 0x80)


def _places() -> list[str]:
    """Where libopus may lie: beside PyAV first, for that version is known."""
    spec = importlib.util.find_spec("av")
    found: list[Path] = []
    if spec and spec.origin:
        package = Path(spec.origin).parent
        found += sorted((package.parent / "av.libs").glob("*opus*"))
        found += sorted((package / ".dylibs").glob("*opus*"))
    system = ctypes.util.find_library("opus")
    return [str(path) for path in found] + ([system] if system else [])


@cache
def load() -> ctypes.CDLL:
    """Load libopus, once.

    Raises:
        MediaError: `no_library`.
    """
    for place in _places():
        try:
            lib = ctypes.CDLL(place)
            _declare(lib)
        except (OSError, AttributeError):
            continue
        return lib
    raise MediaError(
        "no_library",
        "Calls need the Opus library, which was not found: "
        "pip install 'telex[calls]', or install libopus.",
    )


def _declare(lib: ctypes.CDLL) -> None:
    number, where = ctypes.c_int, ctypes.c_void_p
    numbers = ctypes.POINTER(number)
    lib.opus_encoder_create.restype = where
    lib.opus_encoder_create.argtypes = [number, number, number, numbers]
    lib.opus_encoder_destroy.restype = None
    lib.opus_encoder_destroy.argtypes = [where]
    lib.opus_encode.restype = number
    lib.opus_encode.argtypes = [where, where, number, where, number]
    lib.opus_decoder_create.restype = where
    lib.opus_decoder_create.argtypes = [number, number, numbers]
    lib.opus_decoder_destroy.restype = None
    lib.opus_decoder_destroy.argtypes = [where]
    lib.opus_decode.restype = number
    lib.opus_decode.argtypes = [where, ctypes.c_char_p, number, where, number, number]
    lib.opus_packet_get_nb_samples.restype = number
    lib.opus_packet_get_nb_samples.argtypes = [ctypes.c_char_p, number, number]
    with contextlib.suppress(AttributeError):
        lib.opus_packet_has_lbrr.restype = number
        lib.opus_packet_has_lbrr.argtypes = [ctypes.c_char_p, number]
    # Variadic: only the fixed arguments are declared. Where variadic arguments travel
    # otherwise than fixed ones (arm64 macOS), ctypes knows by that which are which.
    for ctl in (lib.opus_encoder_ctl, lib.opus_decoder_ctl):
        ctl.restype = number
        ctl.argtypes = [where, number]


class Encoder:
    """Speech to payloads: voip, in-band FEC, DTX.

    May be tuned by another thread than the one that encodes.
    """

    def __init__(self, bitrate: int = BITRATE, loss: float = LOSS) -> None:
        """Raises `MediaError` (`no_library`)."""
        self._lib = load()
        self._lock = threading.Lock()
        error = ctypes.c_int()
        self._state = self._lib.opus_encoder_create(RATE, 1, VOIP, ctypes.byref(error))
        if not self._state:
            raise MediaError("internal", f"The Opus encoder failed ({error.value}).")
        self._out = ctypes.create_string_buffer(PAYLOAD)
        self._pcm: Pcm = np.zeros(BLOCK, np.int16)
        self._place = self._pcm.ctypes.data
        self._silent = 0
        """Results in a row that hold nothing."""
        self._resting = 0
        """Results in a row without a voice."""
        for setting, value in (
            (SET_COMPLEXITY, COMPLEXITY),
            (SET_SIGNAL, SIGNAL_VOICE),
            (SET_INBAND_FEC, 1),
        ):
            self._set(setting, value)
        self.tune(bitrate, loss)

    def _set(self, setting: int, value: int) -> None:
        self._lib.opus_encoder_ctl(self._state, setting, ctypes.c_int(value))

    def encode(self, block: Pcm) -> bytes | None:
        """Encode 20 ms; None: there is nothing to send (DTX).

        The first payloads of a silence are handed out although they hold no sound: by
        them the receiver tells silence from loss. What follows is None, but for an
        update of the background noise every 400 ms.
        """
        if block.dtype != np.int16 or block.shape != (BLOCK,):
            raise ValueError(f"a block is {BLOCK} samples of int16")
        with self._lock:
            self._pcm[:] = block
            size = self._lib.opus_encode(
                self._state, self._place, BLOCK, self._out, PAYLOAD
            )
            payload = self._out.raw[: max(size, 0)]
            self._listen(payload)
        self._silent = self._silent + 1 if silent_payload(payload) else 0
        return payload if payload and self._silent <= MARKS else None

    def _listen(self, payload: bytes) -> None:
        """Turn DTX on when nobody has spoken for long, off at the first voice."""
        was, self._resting = self._resting, 0 if _voiced(payload) else self._resting + 1
        if (was >= HANGOVER) != (self._resting >= HANGOVER):
            self._set(SET_DTX, int(self._resting >= HANGOVER))

    def tune(self, bitrate: int, loss: float) -> None:
        """Aim at bits a second, and at a share (0 to 1) of packets that get lost.

        With none FEC is left out, and its bits go to the sound: that is for where
        whole copies are sent.
        """
        low, high = BITRATES
        loss = min(max(loss, 0.0), 1.0)
        with self._lock:
            self._set(SET_BITRATE, min(max(int(bitrate), low), high))
            self._set(SET_PACKET_LOSS, round(100 * loss))

    def reset(self) -> None:
        """Forget all sound: nothing of it is in what is encoded from now on."""
        with self._lock:
            self._lib.opus_encoder_ctl(self._state, RESET_STATE)
            self._set(SET_DTX, 0)
            self._silent = self._resting = 0

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._lib.opus_encoder_destroy(self._state)


class Decoder:
    """Payloads to sound. Not for two threads at a time."""

    def __init__(self) -> None:
        """Raises `MediaError` (`no_library`)."""
        self._lib = load()
        error = ctypes.c_int()
        self._state = self._lib.opus_decoder_create(RATE, 1, ctypes.byref(error))
        if not self._state:
            raise MediaError("internal", f"The Opus decoder failed ({error.value}).")
        self._pcm: Pcm = np.zeros(LONGEST, np.int16)
        self._place = self._pcm.ctypes.data

    def samples(self, payload: bytes) -> int:
        """Tell how many samples a payload holds; 0: it is none of Opus."""
        if not 0 < len(payload) <= ACCEPTED:
            return 0
        count = self._lib.opus_packet_get_nb_samples(payload, len(payload), RATE)
        return count if 0 < count <= LONGEST else 0

    def repairs(self, payload: bytes) -> bool:
        """Tell whether a payload carries FEC of the one before it."""
        known = getattr(self._lib, "opus_packet_has_lbrr", None)
        if not payload or known is None:  # older than 1.4
            return bool(payload)
        return bool(known(payload, len(payload)) == 1)

    def decode(self, payload: bytes) -> Pcm:
        """Give the sound of a payload; where it is broken, a block of concealment."""
        count = self.samples(payload)
        sound = self._run(payload, LONGEST, 0) if count else None
        return self.conceal(count or BLOCK) if sound is None else sound

    def recover(self, next_payload: bytes) -> Pcm:
        """Give the sound of the packet before this one, from its in-band FEC.

        As long as this one is; concealment, where it carries none.
        """
        count = self.samples(next_payload)
        sound = self._run(next_payload, count, 1) if count else None
        return self.conceal(count or BLOCK) if sound is None else sound

    def conceal(self, samples: int = BLOCK) -> Pcm:
        """Make up the sound of what is missing: a multiple of 120, at most 5760.

        After a silent payload it is the background noise.
        """
        sound = self._run(None, samples, 0)
        return np.zeros(samples, np.int16) if sound is None else sound

    def reset(self) -> None:
        """Forget all sound, for another stream begins."""
        self._lib.opus_decoder_ctl(self._state, RESET_STATE)

    def _run(self, payload: bytes | None, samples: int, fec: int) -> Pcm | None:
        size = len(payload) if payload else 0
        count = self._lib.opus_decode(
            self._state, payload, size, self._place, samples, fec
        )
        return self._pcm[:count].copy() if count > 0 else None

    def __del__(self) -> None:
        if getattr(self, "_state", None):
            self._lib.opus_decoder_destroy(self._state)
