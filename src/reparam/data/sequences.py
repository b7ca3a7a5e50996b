"""Sequences: recorded episodes and long recordings, cut and brought to one length, with what comes beside their steps."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch

from reparam.data.check import DataWarning, check_room
from reparam.data.dataset import Array, Data, Part, Values, channels_first, check_finite, describe, encode_labels, scaling_of
from reparam.data.recorded import BETWEEN, ENDS, Record
from reparam.errors import BadInputError

__all__ = ["Actions", "Layout", "check_options", "from_records"]

Layout = Literal["auto", "sequence"]
Actions = Literal["taken", "led"]
# As many categories are numbers rather than choices.
_MOST_CHOICES = 10_000


class Steps(NamedTuple):
    """A sequence whose actions have led to the observations of the same time."""

    x: Array
    beside: Mapping[str, Array]
    row: int


def check_options(layout: str, window: int | None, actions: str) -> None:
    """Refuse options that are none, or that only sequences have.

    Raises:
        BadInputError: naming the option.
    """
    if layout not in get_args(Layout):
        raise BadInputError(f"layout is {layout!r}: give auto or sequence")
    if actions not in get_args(Actions):
        raise BadInputError(f"actions is {actions!r}: give taken (action t was taken at observation t) or led (it led there)")
    if window is not None and (isinstance(window, bool) or window < 2):
        raise BadInputError(f"window is {window}: at least 2 steps are wanted")
    for name, value, default in (("window", window, None), ("actions", actions, "taken")):
        if layout == "auto" and value != default:
            raise BadInputError(
                f"{name}={value!r} is of sequences: give layout='sequence' (--layout sequence) too, or leave it out"
            )


def from_records(
    found: Sequence[Record],
    titles: Mapping[str, str],
    *,
    name: str,
    source: str,
    window: int | None = None,
    actions: Actions = "taken",
    y: Array | None = None,
    values: Values | None = None,
    levels: int | None = None,
    columns: tuple[str, ...] | None = None,
) -> Data:
    """A data set of recorded sequences.

    Args:
        found: the sequences.
        titles: what messages call their arrays, by role.
        name: what reports call it.
        source: what `load` takes to read it again.
        window: cut each into windows of at most so many steps, as few and as equal as can be.
        actions: "taken": action t, and the reward and the end that follow, belong between observations t and t + 1; "led": between
            t - 1 and t. Where there is one observation more than there are actions, they belong between.
        y: a label for each sequence.
        values: as [`from_tensor`][reparam.data.from_tensor] has it.
        levels: likewise.
        columns: the names of the numbers of an observation.

    Raises:
        BadInputError: for values that cannot be used, naming the array and the index, and for what does not belong together.
    """
    check_room(8 * sum(record.arrays["x"].size for record in found), titles["x"])
    whole = [_aligned(record, titles, actions) for record in found]
    known = _known(found[0].arrays)
    if known and any(record.arrays[known].any() for record in found) and not any(s.beside["terminated"].any() for s in whole):
        warnings.warn(
            f"{name}: episodes end at observations that were not recorded, so nothing can be learned of their ends: give "
            "next_observations, or an observation more than there are actions",
            DataWarning,
            stacklevel=4,
        )
    cut = [piece for steps in whole for piece in _pieces(steps, window)]
    x, beside = _packed(cut, titles)
    there = beside.get("mask", np.ones(x.shape[:2], dtype=bool))
    if x.shape[1] < 2:
        raise BadInputError(f"{titles['x']} has sequences of one step: what follows on what is wanted, 2 steps or more")
    alone = x[there] if "mask" in beside else x.reshape(-1, *x.shape[2:])
    part = Part(found[0].arrays["x"], None, titles["x"])
    values, levels = describe([part], [alone], values, levels)
    labels, classes = encode_labels({"train": Part(np.empty(max(record.row for record in found) + 1), y, titles["x"])})
    kept, integers = labels["train"], "action" in beside and beside["action"].dtype == np.int64
    choices = tuple(int(most) + 1 for most in np.atleast_1d(beside["action"].max((0, 1)))) if integers else None
    return Data(
        torch.from_numpy(x),
        None if kept is None else torch.from_numpy(kept[[steps.row for steps in cut]]),
        name,
        source,
        values,
        levels,
        f"{scaling_of(alone, values, levels)}; {_words(x, there, beside, choices)}",
        classes=classes,
        columns=columns,
        sequence=True,
        beside={name: torch.from_numpy(array) for name, array in beside.items()},
        choices=choices,
    )


def _pieces(steps: Steps, window: int | None) -> list[Steps]:
    """A sequence in windows: of equal length, up to a step, so that none is a mere rest."""
    length = len(steps.x)
    n = -(-length // (window or length))
    edges = [length * i // n for i in range(n + 1)]
    return [Steps(steps.x[a:b], {name: array[a:b] for name, array in steps.beside.items()}, steps.row) for a, b in pairwise(edges)]


def _aligned(record: Record, titles: Mapping[str, str], actions: Actions) -> Steps:
    arrays = record.arrays
    x = _numbers(record, "x", titles)
    steps = {name: _numbers(record, name, titles) for name in BETWEEN if name in arrays}
    more = any(len(array) < len(x) for array in steps.values())
    if "next" in arrays:
        if more or actions == "led":
            raise BadInputError(
                f"{titles['next']} has a meaning only where an action was taken at each observation: leave it out, or give as many "
                "actions as observations, and actions='taken'"
            )
        x = np.concatenate([x, _numbers(record, "next", titles)[-1:]])
    if more or actions == "taken":
        steps = {
            name: np.concatenate([np.zeros((1, *array.shape[1:]), array.dtype), array])[: len(x)] for name, array in steps.items()
        }
    first = np.zeros(len(x), dtype=bool)
    first[: len(arrays.get("first", ()))] = arrays.get("first", False)
    # What led to the first observation is not recorded, unless it is among what led to each.
    first[0] |= "first" not in arrays or more or actions == "taken"
    for array in steps.values():
        array[first] = 0
    ends = np.zeros(len(x), dtype=bool)
    for name in ENDS:
        ends |= steps.get(name, 0) != 0
    for t in np.flatnonzero(ends[:-1] & ~first[1:])[:1]:
        name = next(name for name in ENDS if name in steps and steps[name][t])
        index = (*record.at, record.start + int(t) - (more or actions == "taken"))
        raise BadInputError(
            f"{titles[name]} at index {index} says that the episode ends, and the sequence goes on: if what follows is no data, "
            "give `length` or `mask`; if it is another episode, give `first`, with ones where episodes begin"
        )
    made = {"first": first} | {name: steps[name] for name in ("action", "reward") if name in steps}
    known = _known(steps)
    return Steps(x, made if known is None else made | {"terminated": steps[known].astype(bool)}, record.row)


def _known(arrays: Mapping[str, Array]) -> str | None:
    """Which array says where episodes came to their end, rather than were cut short."""
    return next((name for name in ("terminated", "done") if name in arrays), None)


def _numbers(record: Record, name: str, titles: Mapping[str, str]) -> Array:
    """Values as float32, with channels first; of choices, as int64."""
    array = record.arrays[name]
    if array.dtype.kind not in "biuf":
        raise BadInputError(f"{titles[name]} has dtype {array.dtype}: real numbers are wanted (integers, booleans or floats)")
    if name == "action" and array.dtype.kind in "biu":
        return _choices(record, array, titles[name])
    placed = channels_first(array) if name in ("x", "next") else array
    with np.errstate(over="ignore"):
        made = np.array(placed[:, None] if name == "action" and array.ndim == 1 else placed, dtype=np.float32, order="C")
    check_finite(made, array, titles[name], record.at, record.start)
    return made


def _choices(record: Record, array: Array, title: str) -> Array:
    for bad in np.argwhere((array < 0) | (array >= _MOST_CHOICES))[:1]:
        index = (*record.at, record.start + int(bad[0]), *map(int, bad[1:]))
        raise BadInputError(
            f"{title} holds {array[tuple(bad)]} at index {index}: choices are counted from 0, to {_MOST_CHOICES - 1} at most; "
            "save actions that are numbers as floats"
        )
    return array.astype(np.int64)


def _packed(cut: Sequence[Steps], titles: Mapping[str, str]) -> tuple[Array, dict[str, Array]]:
    """All sequences in one array each, with zeros at the ends of those that are shorter, and a mask that says where."""
    lengths, like = [len(steps.x) for steps in cut], cut[0]
    shapes = {name: (array.shape[1:], array.dtype) for name, array in like.beside.items()}
    for i, steps in enumerate(cut):
        came = {name: (array.shape[1:], array.dtype) for name, array in steps.beside.items()}
        if came != shapes or steps.x.shape[1:] != like.x.shape[1:]:
            raise BadInputError(
                f"{titles['x']}: sequence {i} has {_listed(steps)}, the first has {_listed(like)}: all alike are wanted"
            )
    longest = max(lengths)
    check_room(4 * len(cut) * longest * int(np.prod(like.x.shape[1:])), titles["x"])

    def pack(arrays: Sequence[Array]) -> Array:
        made = np.zeros((len(cut), longest, *arrays[0].shape[1:]), dtype=arrays[0].dtype)
        for row, array in enumerate(arrays):
            made[row, : len(array)] = array
        return made

    beside = {name: pack([steps.beside[name] for steps in cut]) for name in like.beside}
    if min(lengths) < longest:
        beside["mask"] = np.arange(longest) < np.array(lengths)[:, None]
    return pack([steps.x for steps in cut]), beside


def _listed(steps: Steps) -> str:
    found = {"observation": steps.x} | {name: array for name, array in steps.beside.items() if name != "first"}
    return ", ".join(f"{name} ({' x '.join(map(str, array.shape[1:])) or 1} {array.dtype})" for name, array in found.items())


def _words(x: Array, there: Array, beside: Mapping[str, Array], choices: tuple[int, ...] | None) -> str:
    """How many sequences of which length, and what comes with them."""
    lengths = there.sum(1)
    steps = f"{lengths.min()} to {lengths.max()}" if lengths.min() < lengths.max() else f"{lengths.max()}"
    said = f"{len(x)} sequence{'s' * (len(x) > 1)} of {steps} steps"
    kinds = []
    if "action" in beside:
        what = _reals(beside["action"].shape[-1]) if choices is None else f"choices of {', '.join(map(str, choices))}"
        kinds.append(f"actions ({what})")
    kinds += [noun for name, noun in (("reward", "rewards"), ("terminated", "ends")) if name in beside]
    return said + (f" with {' and '.join([', '.join(kinds[:-1]), kinds[-1]] if kinds[1:] else kinds)}" if kinds else "")


def _reals(n: int) -> str:
    return f"{n} real{'s' * (n > 1)}"
