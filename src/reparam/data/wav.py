"""WAV files as samples in [-1, 1], checked for truncation, NaN, silence and clipping; and samples as WAV files."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from reparam.data.check import looks_like
from reparam.data.dataset import Array
from reparam.errors import BadInputError

__all__ = ["MOST_SECONDS", "RATES", "Recording", "read_wav", "to_wav"]

RATES = (1000, 384_000)
MOST_SECONDS = 30.0

# Quieter than the least step of 16 bits: nothing was recorded.
_SILENT = 2.0**-15
# Beyond, one wrong sample would make silence of all others, which are scaled by the largest.
_LARGEST = 2.0**31
# The share of samples at full scale from which a recording sounds distorted, and how near to full scale that is.
_CLIPPED, _FULL = 0.01, 1 - 2.0**-7


class Recording(NamedTuple):
    """Samples of a file, T float32 values in [-1, 1], and how many there are in a second."""

    samples: Array
    rate: int


def read_wav(path: Path, seconds: float | None = None) -> Recording:
    """A recording as one channel.

    Channels are averaged. Whole numbers are divided by their full scale; floats above full scale are scaled to a peak of 1.

    Args:
        path: the file: RIFF/WAVE with PCM, float, or what else libsndfile decodes.
        seconds: read no more than this. None reads all, and refuses more than 30 s.

    Raises:
        BadInputError: naming the file, when it is no WAV file, truncated, empty, silent (all samples are below 2^-15, or the
            channels cancel), clipped (1 % of its samples or more are at full scale), longer than 30 s, or holds NaN, infinity or a
            float above 2^31.
    """
    import soundfile

    title = repr(str(path))
    with path.open("rb") as file:
        _check_whole(file, path.stat().st_size, title)
        file.seek(0)
        try:
            with soundfile.SoundFile(file) as sound:
                rate, length, integers = sound.samplerate, len(sound), sound.subtype not in ("FLOAT", "DOUBLE")
                if not RATES[0] <= rate <= RATES[1]:
                    raise BadInputError(f"{title} has {rate} samples a second: {RATES[0]} to {RATES[1]} are read")
                if seconds is None and length > MOST_SECONDS * rate:
                    raise BadInputError(
                        f"{title} is {length / rate:.3g} s long, and at most {MOST_SECONDS:g} s are read: cut it into pieces, "
                        "or say how many seconds to take of each recording (seconds=..., --seconds)"
                    )
                most = length if seconds is None else min(length, int(np.ceil(seconds * rate)))
                channels = sound.read(most, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = str(error).split(": ")[-1].rstrip(".") or type(error).__name__
            raise BadInputError(f"{title} cannot be read as a WAV file ({reason}): remove it or get it again") from error
    if len(channels) < most:
        raise BadInputError(f"{title} is truncated: {len(channels)} of {most} samples could be read; get it again")
    return Recording(_checked(channels, rate, title, integers=integers), rate)


def to_wav(samples: Array, rate: int) -> bytes:
    """The bytes of a WAV file of 16-bit samples, from T values in [-1, 1]; what is outside is cut off."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.clip(samples, -1.0, 1.0), rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _checked(channels: Array, rate: int, title: str, *, integers: bool) -> Array:
    """T x C values as T samples."""
    if not len(channels):
        raise BadInputError(f"{title} has no samples: remove it or record it again")
    if not np.isfinite(channels).all():
        place, channel = map(int, np.argwhere(~np.isfinite(channels))[0])
        value, when = channels[place, channel], place / rate
        raise BadInputError(f"{title} holds {value} at sample {place} ({when:.3g} s): finite samples are wanted")
    peak = float(np.abs(channels).max())
    if peak > _LARGEST:
        raise BadInputError(f"{title} has a sample of {peak:g}: samples in [-1, 1], or whole numbers of 32 bits, are wanted")
    # Floats may go beyond full scale; what cut them off left many that are exactly as large as the largest.
    clipped = float((np.abs(channels) >= (_FULL if integers else max(peak, _FULL))).mean())
    if clipped >= _CLIPPED:
        raise BadInputError(f"{title} is clipped: {clipped:.1%} of its samples are at full scale; record it again, with less gain")
    samples: Array = (channels / max(peak, 1.0)).mean(1, dtype=np.float32)
    if np.abs(samples).max() < _SILENT:
        cancel = " once its channels are averaged" if peak >= _SILENT else ""
        raise BadInputError(f"{title} is silent{cancel}: no sample reaches {_SILENT:.2g} of full scale; remove it")
    return samples


def _check_whole(file: IO[bytes], size: int, title: str) -> None:
    """The file is a WAV file, and its samples go on for as long as its header promises; libsndfile reads a torn one in silence."""
    head = file.read(12)
    if head[:4] != b"RIFF" or head[8:] != b"WAVE":
        came = looks_like(head + file.read(500))
        raise BadInputError(f"{title} is not a WAV file (it looks like {came})")
    while len(header := file.read(8)) == 8:
        name, length = struct.unpack("<4sI", header)
        if name == b"data":
            if (held := size - file.tell()) < length:
                raise BadInputError(f"{title} is truncated: its header promises {length} bytes of samples and {held} follow")
            return
        file.seek(length + length % 2, 1)
    raise BadInputError(f"{title} is truncated: it has no samples, only {size} bytes; get it again")
