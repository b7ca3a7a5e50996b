"""What a page is made of, and what its sections look at."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.data import Splits
from reparam.noise import Fresh
from reparam.report.images import is_image

__all__ = ["ACROSS", "Figure", "Section", "Subject", "minus"]

# Images in a row: on a telephone they are still to be seen.
ACROSS = 6
# Values of a datum up to which a chain may have as many steps as the model has by default.
_SMALL = 256


def minus(text: str) -> str:
    """A number as texts have it: with a minus sign, not a hyphen."""
    return text.replace("-", "−")


@dataclass(frozen=True)
class Figure:
    """Pictures that share a caption.

    Attributes:
        caption: what they show.
        pictures: their markup; side by side where there is room.
        key: what the colours of their series stand for, in order.
        wide: whether it takes the whole width of the page.
        colours: of the key, where they are not those of the series.
        small: whether they are small enough for several in half of the page's width.
    """

    caption: str
    pictures: list[str]
    key: tuple[str, ...] = ()
    wide: bool = False
    colours: tuple[str, ...] = ()
    small: bool = False


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
        return tuple(self.model.shape)

    @property
    def kind(self) -> str:
        """What the data are to a person: "text", "audio", "image", or else "vector"."""
        codec = self.splits.train.codec
        return codec.kind if codec is not None else "image" if is_image(self.shape) else "vector"

    @property
    def discrete(self) -> bool:
        """Whether the latents are coins or choices."""
        return getattr(self.model.config, "latent", "normal") != "normal"

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the labels that the model can be asked for; none where it knows no labels."""
        return tuple(getattr(self.model, "classes", None) or ())

    @property
    def unlabelled(self) -> bool:
        """Whether the model knows data of unknown label: not where no label was hidden in training."""
        return not self.classes or getattr(self.model.config, "label_dropout", 1.0) > 0

    def labels(self, most: int | None = None) -> np.ndarray | None:
        """The names of the labels of the first test data, where they have any."""
        test = self.splits.test
        if test.y is None or test.classes is None:
            return None
        found: np.ndarray = np.array(test.classes)[test.places[:most].numpy()]
        return found

    def options(self, **wanted: Any) -> dict[str, Any]:
        """Those of these options that `sample` of this model has."""
        known = {field.name for field in fields(self.model.Sampling)}
        return {name: value for name, value in wanted.items() if name in known}

    @property
    def quick(self) -> dict[str, Any]:
        """Options by which large data are sampled in seconds, from a model that takes many steps."""
        return {"sampler": "heun", "steps": 18} if int(np.prod(self.shape)) > _SMALL else {}

    def by_label(self, places: Tensor) -> Tensor:
        """A sample for each place of a label in `classes`."""
        model = self.model
        if hasattr(model, "trajectory"):  # whose steps are slow, and take all labels at once
            made: Tensor = model.sample(len(places), self.source, label=places, **self.quick)
            return made
        x = torch.empty(len(places), *self.shape)
        for place in places.unique().tolist():
            rows = places == place
            x[rows] = model.sample(int(rows.sum()), self.source, label=self.classes[place]).to(x.dtype)
        return x

    def pictures(self, x: Tensor) -> np.ndarray:
        """Data in their units as images in [0, 1]."""
        data = self.splits.train
        low, high = (0.0, float(data.levels or 1)) if data.values != "real" else (data.x.min().item(), data.x.max().item())
        return ((x - low) / ((high - low) or 1.0)).numpy()
