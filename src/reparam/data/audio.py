"""Sound as pictures: log-mel spectrograms of waveforms, and waveforms again by Griffin and Lim's algorithm."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from reparam.data.dataset import Array
from reparam.data.wav import RATES
from reparam.errors import BadInputError

__all__ = ["MELS", "MOST_MELS", "WINDOW", "AudioCodec"]

MELS, MOST_MELS = 40, 512
# A window of speech in which the voice hardly changes, in seconds.
WINDOW = 0.032

# Energy that is added to each band and taken off again: what is 60 dB below a full-scale tone counts as silence.
_FLOOR = 1e-6
# By Parseval's theorem, no waveform in [-1, 1] has a band with more energy; what a model makes is cut there.
_LOUDEST = math.log(3.0)
# Networks halve a picture: of frames in eights, three halvings leave none over.
_EIGHT = 8
_ITERATIONS = 60
_PEAK = 0.99


@dataclass(frozen=True)
class AudioCodec:
    """Waveforms to log-mel spectrograms of one size, and back.

    With the short-time Fourier transform X of a waveform (Hann windows; |X| is 1 at the frequency of a full-scale tone) and the
    mel filters M (Slaney's, of height one),

        x[m, t] = log(sum_k M[m, k] |X[k, t]|^2 + 1e-6).

    `decode` takes M back by non-negative least squares and finds the phases by Griffin and Lim's algorithm, from the same random
    ones each time. What is shorter than `frames` frames is followed by silence, what is longer loses its end.

    Attributes:
        rate: samples a second.
        mels: bands, from 0 to rate / 2 Hz.
        frames: of a spectrogram, which spans (frames - 1) * hop samples.
        window: samples of a frame.
        hop: samples from one frame to the next.

    Raises:
        BadInputError: for numbers that make no spectrogram.

    Source: Griffin and Lim, 1984, doi:10.1109/TASSP.1984.1164317; Perraudin et al., 2013, doi:10.1109/WASPAA.2013.6701851.

    Example:
        >>> import numpy as np
        >>> from reparam.data.audio import AudioCodec
        >>> from reparam.data.codec import codec_of
        >>> codec = AudioCodec(rate=8000, mels=40, frames=32, window=256, hop=128)
        >>> tone = np.sin(2 * np.pi * 440 * np.arange(3968) / 8000)
        >>> x = codec.encode([tone])
        >>> x.shape, codec_of(codec.facts()) == codec
        ((1, 1, 40, 32), True)
    """

    kind: ClassVar[str] = "audio"

    rate: int
    mels: int
    frames: int
    window: int
    hop: int

    def __post_init__(self) -> None:
        low, high = RATES
        if not low <= self.rate <= high:
            raise BadInputError(f"rate is {self.rate}: {low} to {high} samples a second are wanted")
        if not 1 <= self.mels <= MOST_MELS:
            raise BadInputError(f"mels is {self.mels}: 1 to {MOST_MELS} bands are wanted")
        if self.frames < 2 or not 1 <= self.hop <= self.window // 2:
            raise BadInputError(f"{self} makes no spectrogram: frames >= 2 and 1 <= hop <= window / 2 are wanted")

    @classmethod
    def for_length(cls, seconds: float, rate: int, mels: int = MELS) -> AudioCodec:
        """Windows of 32 ms, rounded to a power of two of samples, that overlap by half; frames for so long a time, in eights."""
        window = 2 ** round(math.log2(WINDOW * rate))
        hop = window // 2
        frames = math.ceil(seconds * rate / hop) + 1
        return cls(rate, mels, _EIGHT * math.ceil(frames / _EIGHT), window, hop)

    @property
    def seconds(self) -> float:
        """The length of what `decode` makes."""
        return self._length / self.rate

    @property
    def _length(self) -> int:
        return (self.frames - 1) * self.hop

    def facts(self) -> dict[str, Any]:
        """What rebuilds the codec, for JSON."""
        return {"kind": self.kind, **asdict(self)}

    @cached_property
    def _filters(self) -> Array:
        from librosa.filters import mel

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the check below says what to do
            filters: Array = mel(sr=self.rate, n_fft=self.window, n_mels=self.mels, norm=None)
        if empty := int((filters.max(1) == 0).sum()):
            raise BadInputError(
                f"mels is {self.mels}: with {self.window} samples in a window at {self.rate} a second, {empty} bands are empty: "
                "give fewer"
            )
        return filters

    def encode(self, waveforms: Sequence[Array]) -> Array:
        """Log-mel spectrograms, N x 1 x mels x frames float32, of N waveforms in [-1, 1], T samples each at `rate`."""
        import librosa

        made = np.empty((len(waveforms), 1, self.mels, self.frames), np.float32)
        for i, samples in enumerate(waveforms):
            fixed = np.zeros(self._length, np.float32)
            fixed[: len(samples)] = samples[: self._length]
            spectrum = librosa.stft(fixed, n_fft=self.window, hop_length=self.hop, pad_mode="constant")
            power = np.abs(spectrum * (4 / self.window)) ** 2
            made[i, 0] = np.log(self._filters @ power + _FLOOR)
        return made

    def decode(self, x: Tensor) -> list[Array]:
        """Waveforms of (frames - 1) * hop samples, float32, of log-mel spectrograms (..., 1, mels, frames).

        A waveform that would exceed 0.99 of full scale is scaled down to that; quieter ones keep their level.

        Raises:
            ValueError: for another shape, NaN or infinity.
        """
        import librosa

        if x.shape[-2:] != (self.mels, self.frames):
            raise ValueError(f"x has shape {tuple(x.shape)}: (..., {self.mels}, {self.frames}) is wanted")
        made: list[Array] = []
        values = x.detach().double().cpu().numpy().reshape(-1, self.mels, self.frames)
        if not np.isfinite(values).all():
            raise ValueError("x holds NaN or infinity: finite log energies are wanted")
        for spectrogram in values:
            energy = np.maximum(np.exp(np.minimum(spectrogram, _LOUDEST)) - _FLOOR, 0.0)
            magnitude = np.sqrt(librosa.util.nnls(self._filters, energy)) * (self.window / 4)
            samples = librosa.griffinlim(
                magnitude,
                n_iter=_ITERATIONS,
                hop_length=self.hop,
                n_fft=self.window,
                length=self._length,
                pad_mode="constant",
                random_state=0,
            )
            peak = float(np.abs(samples).max())
            made.append((samples * min(1.0, _PEAK / max(peak, _PEAK))).astype(np.float32))
        return made
