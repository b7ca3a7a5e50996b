"""What a model gives to training, to the command line and to reports: a plain module with these methods, and no base class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import torch
from torch import Tensor

from reparam.data import Data
from reparam.noise import Source
from reparam.training import Batch, Loss, Monitor

__all__ = ["Evaluation", "Model"]


class Evaluation(Protocol):
    """What a model is worth on a data set: a dataclass, whose fields are what a program reads."""

    rows: int

    def lines(self) -> list[str]:
        """For people, at a terminal."""
        ...

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        ...


class Model(Protocol):
    """A model that people train: an `nn.Module` beside a frozen `Config`.

    What else it can do shows by its methods: `reconstruct`, `describe`, `interpolate`, ..., which commands and reports look for.
    """

    config: Any
    shape: torch.Size
    monitor: ClassVar[Monitor]
    Sampling: ClassVar[type]  # a frozen dataclass of the options of `sample`, with defaults

    @classmethod
    def for_data(cls, config: Any, data: Data) -> Self:
        """A model for a data set: the training rows only, whose statistics may become part of it."""
        ...

    @classmethod
    def from_record(cls, config: Any, data: Mapping[str, Any]) -> Self:
        """The model that `for_data` made, but for its weights, from what a run remembers of its data."""
        ...

    def inputs(self, data: Data) -> Batch:
        """What `loss` takes of a data set: its data, or its data and labels."""
        ...

    def loss(self, batch: Batch, source: Source | None = None) -> Loss:
        """The loss of a batch; `forward` is the same."""
        ...

    def evaluate(self, inputs: Batch, *, k: int, source: Source | None = None, batch_size: int = 128) -> Evaluation:
        """What the model is worth on data, from `k` samples of noise for each datum."""
        ...

    def sample(self, n: int, source: Source | None = None, **options: Any) -> Tensor:
        """`n` data in the units of the data; the options are the fields of `Sampling`."""
        ...
