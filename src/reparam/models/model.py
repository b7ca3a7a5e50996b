"""What a model gives to training, to the command line and to reports: a plain module with these methods, and no base class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import torch

from reparam.data import Data
from reparam.errors import BadInputError
from reparam.noise import Source
from reparam.training import Batch, Loss, Monitor

__all__ = ["Evaluation", "Model", "refuse_tables", "want_sequences"]


class Evaluation(Protocol):
    """What a model is worth on a data set: a dataclass, whose fields are what a program reads."""

    @property
    def rows(self) -> int:
        """How many data, or episodes."""
        ...

    def lines(self) -> list[str]:
        """For people, at a terminal."""
        ...

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        ...


class Model(Protocol):
    """A model that people train: an `nn.Module` beside a frozen `Config`.

    What else it can do shows by its methods: `sample`, `predict`, `reconstruct`, `describe`, `posterior`, ..., which commands and
    reports look for. `sample(n, source, **options)` gives `n` data in the units of the data, and comes with `Sampling`, a frozen
    dataclass of its options.
    """

    config: Any
    shape: torch.Size
    monitor: ClassVar[Monitor]

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


def refuse_tables(data: Data) -> None:
    """For models that take complete rows of numbers, which do not follow on one another.

    Raises:
        BadInputError: for a table with gaps or categories, and for sequences.
    """
    if data.sequence:
        raise BadInputError(
            f"{data.name} is read as sequences, which reparam train world takes: leave layout out, and each row is a datum"
        )
    if data.values == "table":
        raise BadInputError(
            f"{data.name} is read as a table with gaps and categories, which reparam train graphical takes: leave gaps out"
        )


def want_sequences(data: Data) -> None:
    """For models of what follows on what.

    Raises:
        BadInputError: for data that are not sequences.
    """
    if not data.sequence:
        raise BadInputError(
            f"{data.name} is read as rows that do not follow on one another: give sequences, and layout=sequence (--layout "
            "sequence; --window 50 cuts one long recording)"
        )
