"""What commands ask of a run: its model, rows to show to it, and an evaluation in words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch

from reparam.data import Data, load
from reparam.data.codec import codec_of
from reparam.errors import ArtefactError, BadInputError
from reparam.models.trained import data_of, model_of
from reparam.noise import Source
from reparam.training import Run
from reparam.training.randomness import source_of

__all__ = ["able", "check_columns", "facts", "fitting", "model", "noise", "record", "rows", "source"]


def record(directory: str) -> dict[str, Any]:
    """What a run remembers."""
    return Run.open(directory).record


def facts(directory: str) -> dict[str, Any]:
    """What a run remembers of its data.

    Raises:
        ArtefactError: when it does not remember their shape, or how to decode them.
    """
    found, where = record(directory).get("data"), Run.open(directory).path / "run.json"
    if not isinstance(found, dict) or not isinstance(found.get("shape"), list):
        raise ArtefactError(f"{where} does not describe data: it has no shape of them")
    try:
        if found.get("codec") is not None:
            codec_of(found["codec"])
    except BadInputError as error:
        raise ArtefactError(f"{where} does not describe data: {error}") from error
    return found


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
    if data is not None and source(directory) == "none":
        raise BadInputError(f"{directory} was fitted to a density, without data, and is evaluated without: leave --data out")
    if data is not None:
        other = _other(directory, data, array, label)
        check_columns(directory, other)
        return other
    if array is not None or label is not None:
        raise BadInputError("array and label are of other data than the run's: name them with --data")
    found: Data = getattr(data_of(Run.open(directory)), part)
    return found


def _other(directory: str, data: str, array: str | None, label: str | None) -> Data:
    """Other data than the run's, with labels and responses by the names that the run's had, where they have them."""
    recorded = facts(directory)
    codec, options = recorded.get("codec"), recorded.get("options") or {}
    named: dict[str, Any] = {"label": label or options.get("label"), "response": options.get("response")}
    given: dict[str, Any] = {"array": array, "codec": codec and codec_of(codec)}
    given |= {name: options[name] for name in ("layout", "window", "actions") if name in options}
    try:
        return load(data, **given, **named)
    except BadInputError:
        if named == {"label": label, "response": None}:
            raise
        return load(data, **given, label=label)  # data without them are fine, for what does not need them


def check_columns(directory: str, data: Data) -> None:
    """Other data than the run's have the same columns in the same order, where both have names.

    Raises:
        BadInputError: when they do not: a number would be taken for another one.
    """
    wanted = facts(directory).get("columns")
    if wanted and data.columns and list(data.columns) != wanted:
        came, known = ", ".join(data.columns[:10]), ", ".join(wanted[:10])
        raise BadInputError(
            f"the columns of {data.name} are {came}, and {directory} was trained on {known}: put them in that order"
        )


@contextmanager
def fitting(model: Any, data: Data) -> Iterator[Any]:
    """Rows as a model takes them; what it says in the block of their values is the user's to mend.

    Raises:
        BadInputError: for rows of another shape, or in other units.
    """
    shape = data.shape[1:] if data.sequence else data.shape  # sequences may have any length
    if shape != model.shape and data.source != "none":  # whose rows are no data
        came, wanted = (" x ".join(map(str, each)) for each in (shape, model.shape))
        what = f"a {'step' if data.sequence else 'datum'} of {data.name} is {came}"
        raise BadInputError(f"{what}, and this model takes {wanted}: give data of that shape")
    try:
        yield model.inputs(data)
    except ValueError as error:
        raise BadInputError(f"{data.name} does not suit this model: {error}") from error


def noise(seed: int, device: torch.device | None = None, kind: Literal["fresh", "antithetic", "sobol"] = "fresh") -> Source:
    """A source of noise that starts from a seed.

    Raises:
        BadInputError: when it is out of range.
    """
    if not 0 <= seed < 2**64:
        raise BadInputError(f"seed is {seed}: give a whole number from 0 to 2^64 - 1")
    return source_of(kind, seed, device or "cpu")


def able(model: Any, method: str, directory: str, command: str | None = None) -> Any:
    """A method of the model of a run.

    Raises:
        BadInputError: when it has none; it names the command, or the method where they are called the same.
    """
    if not hasattr(model, method):
        raise BadInputError(f"{directory} is a run of {record(directory)['model']['name']}, which does not {command or method}")
    return getattr(model, method)
