"""What a page is made of, and what its sections look at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from reparam.data import Splits
from reparam.noise import Fresh

__all__ = ["ACROSS", "Figure", "Section", "Subject"]

# Images in a row: on a telephone they are still to be seen.
ACROSS = 6


@dataclass(frozen=True)
class Figure:
    """Pictures that share a caption.

    Attributes:
        caption: what they show.
        pictures: their markup; side by side where there is room.
        key: what the colours of their series stand for, in order.
    """

    caption: str
    pictures: list[str]
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        lead: what there is to see, in a sentence or two.
        figures: its pictures.
    """

    title: str
    lead: str
    figures: list[Figure]


@dataclass(frozen=True)
class Subject:
    """What the sections look at.

    Attributes:
        model: in evaluation mode.
        splits: its data.
        source: of the noise.
    """

    model: Any
    splits: Splits
    source: Fresh

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.splits.test.shape)

    @property
    def discrete(self) -> bool:
        """Whether the latents are coins or choices."""
        return getattr(self.model.config, "latent", "normal") != "normal"

    def pictures(self, x: Tensor) -> np.ndarray:
        """Data in their units as images in [0, 1]."""
        data = self.splits.train
        low, high = (0.0, float(data.levels or 1)) if data.values != "real" else (data.x.min().item(), data.x.max().item())
        return ((x - low) / ((high - low) or 1.0)).numpy()
