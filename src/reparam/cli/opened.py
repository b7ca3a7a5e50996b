"""What commands ask of a run: its model, rows to show to it, and an evaluation in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from reparam.data import Data, load
from reparam.errors import BadInputError
from reparam.models.evaluation import Evaluation
from reparam.models.trained import data_of, model_of
from reparam.training import Run

__all__ = ["describe", "fitting", "generator", "model", "record", "rows", "source"]


def record(directory: str) -> dict[str, Any]:
    """What a run remembers."""
    return Run.open(directory).record


def source(directory: str) -> str:
    """Where a run's data are."""
    return str(record(directory).get("data", {}).get("source", ""))


def model(directory: str, checkpoint: Literal["best", "last"]) -> Any:
    """The model of a run."""
    return model_of(Run.open(directory), checkpoint)


def rows(directory: str, part: str, data: str | None, array: str | None, label: str | None = None) -> Data:
    """A part of the run's own data, or all of other data.

    Raises:
        BadInputError: when they cannot be had.
    """
    if data is not None:
        return load(data, array=array, label=label)
    if array is not None or label is not None:
        raise BadInputError("array and label are of other data than the run's: name them with --data")
    found: Data = getattr(data_of(Run.open(directory)), part)
    return found


@contextmanager
def fitting(model: Any, data: Data) -> Iterator[Tensor]:
    """Rows that a model takes; what it says in the block of their values is the user's to mend.

    Raises:
        BadInputError: for rows of another shape, or in other units.
    """
    if data.shape != model.shape:
        came, wanted = (" x ".join(map(str, shape)) for shape in (data.shape, model.shape))
        raise BadInputError(f"a datum of {data.name} is {came}, and this model takes {wanted}: give data of that shape")
    try:
        yield data.x
    except ValueError as error:
        raise BadInputError(f"{data.name} does not suit this model: {error}") from error


def generator(seed: int, device: torch.device | None = None) -> torch.Generator:
    """A generator that starts from a seed.

    Raises:
        BadInputError: when it is out of range.
    """
    if not 0 <= seed < 2**64:
        raise BadInputError(f"seed is {seed}: give a whole number from 0 to 2^64 - 1")
    return torch.Generator(device or "cpu").manual_seed(seed)


def describe(found: Evaluation) -> str:
    """An evaluation, for people."""
    error = f" ± {found.nll_error:.2f}" if found.nll_error is not None else ""
    active = f"{found.active_units} of {found.latent_dim}" if found.active_units is not None else "needs several data"
    return (
        f"  ELBO            {found.elbo:.2f}  (reconstruction {found.reconstruction:.2f}, KL {found.kl:.2f})\n"
        f"  -log p(x)       {found.nll:.2f}{error}  ({found.importance_samples} importance samples)\n"
        f"  active latents  {active}"
    )
