"""Which array or column of recorded sequences is what, by its name."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from reparam.data.arrays import LABELS, read_arrays, read_npy
from reparam.data.check import DataWarning
from reparam.data.columns import warn_constant
from reparam.data.comma import read_csv
from reparam.data.dataset import Array, Data
from reparam.data.parquet import read_parquet
from reparam.data.recorded import records
from reparam.data.sequences import Actions, from_records
from reparam.errors import BadInputError

__all__ = ["ROLES", "find_roles", "read_sequences"]

#: The names that arrays may have, the usual one first.
ROLES = {
    "x": ("observation", "observations", "obs", "x", "data", "images", "samples"),
    "action": ("action", "actions"),
    "reward": ("reward", "rewards"),
    "terminated": ("terminated", "terminations", "terminals", "terminal", "is_terminal"),
    "truncated": ("truncated", "truncations", "timeouts", "timeout", "is_last"),
    "done": ("done", "dones"),
    "first": ("first", "is_first"),
    "next": ("next_observation", "next_observations", "next_obs"),
    "length": ("length", "lengths"),
    "mask": ("mask",),
    "episode": ("episode", "episodes"),
    "label": LABELS,
}
# What D4RL and others add, which no model takes.
_REMARKS = ("info", "metadata")
_OF = {name: role for role, names in ROLES.items() for name in names}


def find_roles(names: Sequence[str], title: str, *, array: str | None = None, label: str | None = None) -> dict[str, str]:
    """The name of the array for each role.

    Args:
        names: of all arrays.
        title: of their source.
        array: the one with the observations, where the names do not tell.
        label: the one with labels.

    Raises:
        BadInputError: for a name that is unknown, and where two could be meant.
    """
    found: dict[str, str] = {}
    for role, asked in (("x", array), ("label", label)):
        if asked is not None and asked not in names:
            raise BadInputError(f"{title} has no array {asked!r}; it has {', '.join(names)}")
        if asked is not None:
            found[role] = asked
    given = set(found.values())
    unknown = [name for name in names if name.lower() not in _OF and name not in given and not name.lower().startswith(_REMARKS)]
    if len(unknown) == 1 and not any(_OF.get(name.lower()) == "x" for name in names) and array is None:
        found["x"] = unknown.pop()  # as in an archive of one array
        given.add(found["x"])
    for name in names:
        meant = _OF.get(name.lower())
        if name in given or (meant == "x" and array is not None) or name.lower().startswith(_REMARKS):
            continue
        if meant is None:
            near = difflib.get_close_matches(name.lower(), _OF, n=1)
            known = ", ".join(names[0] for names in ROLES.values())
            raise BadInputError(
                f"{title} has {name!r}, which has no meaning for sequences: "
                + (f"did you mean {near[0]!r}?" if near else f"name it as one of {known}, or leave it out")
            )
        if meant in found and not (meant == "label" and label is not None):
            todo = "name the one to use (array=..., --array)" if meant == "x" else "keep one"
            raise BadInputError(f"{title} has {found[meant]!r} and {name!r}, which mean the same: {todo}")
        found.setdefault(meant, name)
    if "x" not in found:
        raise BadInputError(
            f"{title} has {', '.join(names)}, and no observations: call their array {ROLES['x'][0]!r}, or name it "
            "(array=..., --array)"
        )
    return found


def read_sequences(
    path: Path, suffix: str, *, array: str | None = None, label: str | None = None, window: int | None, actions: Actions
) -> Data:
    """Sequences from a file: arrays, or a table whose rows are times.

    Args:
        path: the file.
        suffix: its kind.
        array: of an `.npz` the array of observations, where the names do not tell.
        label: of an `.npz` the array of labels, one a sequence.
        window: as [`load`][reparam.data.load] has it.
        actions: likewise.

    Raises:
        BadInputError: for what cannot be read, and as `find_roles`, `records` and `from_records`.
    """
    columns = None
    if suffix == ".npz":
        arrays, titles = read_arrays(path, lambda names, title: find_roles(names, title, array=array, label=label))
    elif suffix == ".npy":
        part = read_npy(path)["train"]
        arrays, titles = {"x": part.x}, {"x": part.title}
    else:
        arrays, titles, columns = _read_table(path, suffix)
    y = arrays.pop("label", None)
    found = records(arrays, titles)
    return from_records(found, titles, name=path.stem, source=str(path), window=window, actions=actions, y=y, columns=columns)


def _read_table(path: Path, suffix: str) -> tuple[dict[str, Array], dict[str, str], tuple[str, ...] | None]:
    """The columns of a table by their roles; `action_0`, `action_1`, ... are the numbers of an action."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # that nothing ends or is rewarded is no oddity
        part = (read_csv if suffix == ".csv" else read_parquet)(path)["train"]
    if part.columns is None:
        return {"x": part.x}, {"x": part.title}, None
    places: dict[str, list[int]] = {"x": []}
    for i, name in enumerate(part.columns):
        role = _OF.get(name.lower(), "x")
        beside = "action" if name.lower().startswith(("action_", "action.")) else role if role in _BESIDE else "x"
        places.setdefault(beside, []).append(i)
    kept = tuple(part.columns[i] for i in places["x"])
    if not kept:
        raise BadInputError(f"{part.title} has no column of observations beside {', '.join(part.columns)}: give some")
    titles = {role: f"column {part.columns[at[0]]!r} of {part.title}" for role, at in places.items()} | {"x": part.title}
    for role, at in places.items():
        if role not in ("x", "action") and len(at) > 1:
            raise BadInputError(
                f"{part.title} has {part.columns[at[0]]!r} and {part.columns[at[1]]!r}, which mean the same: keep one"
            )
    arrays: dict[str, Array] = {role: part.x[:, at] if role in ("x", "action") else part.x[:, at[0]] for role, at in places.items()}
    warn_constant(arrays["x"], kept, part.title)
    if "action" in arrays and bool(((arrays["action"] >= 0) & (arrays["action"] == np.rint(arrays["action"]))).all()):
        action = arrays["action"].astype(np.int64)  # a table has no types of its own: these count choices
        arrays["action"] = action[:, 0] if action.shape[1] == 1 else action
    return arrays, titles, kept


# The roles that a column may have.
_BESIDE = ("action", "reward", "terminated", "truncated", "done", "first", "episode")
