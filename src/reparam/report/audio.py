"""Sounds on a page: spectrograms as pictures, and players that hold their sound."""

from __future__ import annotations

import base64

import numpy as np
import torch
from torch import Tensor

from reparam.data.wav import to_wav
from reparam.report.chart import quoted
from reparam.report.images import grid
from reparam.report.pieces import Figure, Subject

__all__ = ["mosaic", "reconstructed_sounds", "sampled_sounds"]

# Bytes of sound in a section: with a third more as text, and two sections, a page stays below 3 MB.
_BYTES = 900_000
_PAIRS, _SAMPLES, _FEWEST = 5, 10, 4
# From silence to loud: night blue, violet, red, orange, light yellow. Dark at the low end in both themes, as a picture is.
_SHADES = (
    np.array([[13, 14, 40], [62, 24, 110], [132, 36, 129], [202, 62, 110], [245, 125, 80], [253, 192, 120], [252, 243, 196]]) / 255
)


def mosaic(subject: Subject, x: Tensor, columns: int, description: str) -> str:
    """Data as pictures, row by row: images as they are, or spectrograms with low frequencies below;
    transparent where values are NaN.
    """
    if subject.kind == "audio":
        return grid(_coloured(subject, x), columns, description, gap=2)
    return grid(subject.pictures(x.float()), columns, description)


def _coloured(subject: Subject, x: Tensor) -> np.ndarray:
    train = subject.splits.train.x
    some = train.flatten()[:: max(1, train.numel() // 100_000)]
    low, high = torch.quantile(some, torch.tensor([0.02, 0.998])).tolist()
    values = x.double().reshape(len(x), *x.shape[-2:]).flip(-2).numpy()
    place = np.clip((np.nan_to_num(values) - low) / ((high - low) or 1.0), 0, 1) * (len(_SHADES) - 1)
    lower = np.minimum(place.astype(int), len(_SHADES) - 2)
    colours = _SHADES[lower] + (place - lower)[..., None] * (_SHADES[lower + 1] - _SHADES[lower])
    colours[np.isnan(values)] = np.nan
    made: np.ndarray = np.moveaxis(colours, -1, 1)
    return made


def _fitting(subject: Subject, wanted: int) -> int:
    """How many sounds go on the page, of so many that are wanted."""
    codec = subject.splits.train.codec
    each = max(1, int(2 * codec.seconds * codec.rate))  # type: ignore[union-attr]
    return max(min(wanted, _FEWEST), min(wanted, _BYTES // each))


def _players(subject: Subject, x: Tensor, names: list[str], parts: tuple[str, ...] = ("",)) -> str:
    """Cards with a name and for each part, in turn, a picture and a player."""
    codec = subject.splits.train.codec
    most = _BYTES // max(1, len(x)) // 2
    sounds = []
    titles = [" ".join(filter(None, (name, part))) for name in names for part in parts]
    for picture, samples, title in zip(x, codec.decode(x), titles, strict=True):  # type: ignore[union-attr]
        sound = base64.b64encode(to_wav(samples[:most], codec.rate)).decode()  # type: ignore[union-attr]
        image = mosaic(subject, picture[None], 1, f"Spectrogram: {quoted(title)}")
        player = f'<audio controls preload="metadata" aria-label="{quoted(title)}" src="data:audio/wav;base64,{sound}"></audio>'
        sounds.append(image + player)
    together = ("".join(sounds[i : i + len(parts)]) for i in range(0, len(sounds), len(parts)))
    cards = [f'<div class="sound"><span>{quoted(name)}</span>{card}</div>' for name, card in zip(names, together, strict=True)]
    return f'<div class="sounds">{"".join(cards)}</div>'


def sampled_sounds(subject: Subject) -> list[Figure]:
    """New sounds, by label where the model knows labels, beside a recording of it."""
    names, codec = subject.classes, subject.splits.train.codec
    axes = f"Time from left to right, 0 to {codec.rate // 2:,} Hz from below."  # type: ignore[union-attr]
    if names:
        count = _fitting(subject, min(len(names), _SAMPLES))
        x, labels = subject.by_label(torch.arange(count)), list(names[:count])
        many = subject.by_label(torch.arange(count).repeat_interleave(4))
        wide = Figure(
            f"Four more of each label, a row for every two: {', '.join(labels)}.",
            [mosaic(subject, many, 8, "More samples by label")],
            wide=True,
        )
        return [Figure(f"A new sound for each label, none of them chosen. {axes}", [_players(subject, x, labels)], wide=True), wide]
    x = subject.model.sample(_fitting(subject, _SAMPLES), subject.source, **subject.options(**subject.quick))
    titles = [f"sample {i + 1}" for i in range(len(x))]
    return [Figure(f"New sounds, none of them chosen. {axes}", [_players(subject, x.float(), titles)], wide=True)]


def reconstructed_sounds(subject: Subject) -> list[Figure]:
    """Test recordings, and below each what comes back of it."""
    x = subject.splits.test.x[: max(1, _fitting(subject, 2 * _PAIRS) // 2)]
    labels = subject.labels(len(x))
    names = [f"test datum {i + 1}" if labels is None else f"“{labels[i]}”" for i in range(len(x))]
    both = torch.stack([x, subject.model.reconstruct(x).to(x.dtype)], 1).flatten(0, 1)
    caption = (
        "Above the originals, below their reconstructions. Both have gone through the spectrogram, so that they differ by what the "
        "model left out. Low frequencies are below."
    )
    return [Figure(caption, [_players(subject, both, names, ("original", "reconstruction"))], wide=True)]
