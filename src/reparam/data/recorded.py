"""Recorded sequences as a source has them: an array for all, with a row for each, or one long recording of many episodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from reparam.data.dataset import Array
from reparam.errors import BadInputError

__all__ = ["BETWEEN", "ENDS", "Record", "records"]

#: What says that an episode ends: it came to its end, it was cut short, or one of these.
ENDS = ("terminated", "truncated", "done")
#: What happens between two observations.
BETWEEN = ("action", "reward", *ENDS)


class Record(NamedTuple):
    """One sequence as it was recorded.

    Attributes:
        arrays: by role, time first.
        at: where it stands in the arrays of its source, for messages: the row, if they have rows.
        start: and the time.
        row: the number of its label.
    """

    arrays: Mapping[str, Array]
    at: tuple[int, ...]
    start: int
    row: int


def records(arrays: Mapping[str, Array], titles: Mapping[str, str], *, long: bool | None = None) -> list[Record]:
    """The sequences in arrays of a source: of each row one, or of one long recording its episodes.

    Args:
        arrays: by role; "x", the observations, must be there.
        titles: what messages call each.
        long: whether it is one long recording; None tells by the axes of the observations and of what is one number a step.

    Raises:
        BadInputError: for shapes that do not belong together, naming the array.
    """
    flags = [name for name in ("reward", *ENDS, "first", "episode") if name in arrays]
    guessed = long is None
    long = long or (guessed and (arrays["x"].ndim == 2 or any(arrays[name].ndim == 1 for name in flags)))
    rows = arrays["x"].ndim == 3 and "action" in arrays and arrays["action"].ndim > 1
    if guessed and long and rows and arrays["x"].shape[1] - arrays["action"].shape[1] in (0, 1):
        name = next(name for name in flags if arrays[name].ndim == 1)
        raise BadInputError(
            f"{titles[name]} has shape {arrays[name].shape} beside {titles['x']} of {arrays['x'].shape}: of N sequences one number "
            "a step is N x T; for one recording of pictures, give these as T x 1 x H x W"
        )
    arrays = {name: array[..., 0] if _is_column(name, array, 1 if long else 2) else array for name, array in arrays.items()}
    _check_shapes(arrays, titles, 1 if long else 2)
    for name in ("first", "mask", *ENDS):
        if name in arrays and len(bad := np.argwhere(~np.isin(arrays[name], (0, 1)))):
            index = tuple(map(int, bad[0]))
            raise BadInputError(f"{titles[name]} holds {arrays[name][tuple(bad[0])]} at index {index}: 0 and 1 are wanted")
    return list(_episodes(arrays) if long else _rows(arrays, titles))


def _is_column(name: str, array: Array, axes: int) -> bool:
    """Whether one number a step comes with an axis of its own."""
    return name not in ("x", "next", "action") and array.ndim == axes + 1 and array.shape[-1] == 1


def _check_shapes(arrays: Mapping[str, Array], titles: Mapping[str, str], axes: int) -> None:
    x, lead = arrays["x"], arrays["x"].shape[:axes]
    if x.ndim - axes not in (1, 2, 3) or 0 in x.shape:
        raise BadInputError(
            f"{titles['x']} has shape {x.shape}: N x T x D vectors, or N x T x H x W, N x T x C x H x W or N x T x H x W x C "
            "pictures are wanted, or one long recording, T x D; for one number a step, reshape it to N x T x 1"
        )
    fitting: dict[str, tuple[tuple[int, ...], ...]]
    fitting = dict.fromkeys(BETWEEN, (lead, (*lead[:-1], lead[-1] - 1))) | {"first": (lead,), "next": (x.shape,)}
    fitting |= {"episode": (lead,)} if axes == 1 else {"length": (lead[:1],), "mask": (lead,)}
    for name, array in arrays.items():
        if name == "x":
            continue
        came = array.shape[:axes] if name == "action" and array.ndim == axes + 1 else array.shape
        if came not in fitting.get(name, ()):
            sizes = " or ".join(" x ".join(map(str, shape)) for shape in fitting.get(name, ())) or "no such array"
            raise BadInputError(
                f"{titles[name]} has shape {array.shape}: {sizes}{', or with one more axis,' * (name == 'action')} is wanted, as "
                f"{titles['x']} has shape {x.shape}"
            )
    times = {array.shape[axes - 1]: name for name, array in arrays.items() if name in BETWEEN}
    if len(times) > 1:
        a, b = times.values()
        raise BadInputError(
            f"{titles[a]} has shape {arrays[a].shape} and {titles[b]} {arrays[b].shape}: of T + 1 observations all have T steps, "
            "or all have T + 1"
        )


def _rows(arrays: Mapping[str, Array], titles: Mapping[str, str]) -> Iterator[Record]:
    """A sequence for each row, up to its length."""
    lengths = _lengths(arrays, titles)
    n, kept = arrays["x"].shape[:2]
    for row in range(n):
        length = kept if lengths is None else int(lengths[row])
        found = {
            name: array[row, : length - (array.shape[1] < kept)]
            for name, array in arrays.items()
            if name not in ("length", "mask", "episode")
        }
        yield Record(found, (row,), 0, row)


def _lengths(arrays: Mapping[str, Array], titles: Mapping[str, str]) -> Array | None:
    n, kept = arrays["x"].shape[:2]
    if "length" in arrays:
        found = arrays["length"]
        odd = ~((found == np.rint(found)) & (found >= 1) & (found <= kept)) if found.dtype.kind in "iuf" else np.full(n, True)
        if odd.any():
            row = int(np.flatnonzero(odd)[0])
            raise BadInputError(
                f"{titles['length']} holds {found[row]} at index ({row},): how many of the {kept} observations are there is wanted"
            )
    if "mask" not in arrays:
        return arrays.get("length")
    there = arrays["mask"].astype(bool)
    made: Array = there.sum(1)
    holes = (there != (np.arange(kept) < made[:, None])).any(1) | (made == 0)
    if holes.any() or ("length" in arrays and (made != arrays["length"]).any()):
        row = int(np.flatnonzero(holes)[0]) if holes.any() else int(np.flatnonzero(made != arrays["length"])[0])
        raise BadInputError(
            f"{titles['mask']} in row {row} does not say how long the sequence is: ones, then zeros to its end, are wanted"
            + (", as many ones as its length" if "length" in arrays else "")
        )
    return made


def _episodes(arrays: Mapping[str, Array]) -> Iterator[Record]:
    """One long recording, cut where an episode ends or another one begins."""
    n = len(arrays["x"])
    starts = np.zeros(n, dtype=bool)
    if all(len(array) == n for array in arrays.values()):  # with an observation more, it is one episode
        for name in ENDS:
            if name in arrays:
                starts[1:] |= arrays[name][:-1].astype(bool)
        starts |= arrays["first"].astype(bool) if "first" in arrays else False
        if "episode" in arrays:
            starts[1:] |= arrays["episode"][1:] != arrays["episode"][:-1]
        arrays = {name: array for name, array in arrays.items() if name not in ("first", "episode")}
    edges = [0, *(int(i) for i in np.flatnonzero(starts) if i), n]
    for row, (start, end) in enumerate(pairwise(edges)):
        yield Record({name: array[start:end] for name, array in arrays.items() if name != "episode"}, (), start, row)
