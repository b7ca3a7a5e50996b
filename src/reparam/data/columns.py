"""What all tables share: named columns, one of which may hold labels."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from reprlib import repr as short

import numpy as np

from reparam.data.check import DataWarning
from reparam.data.dataset import Array, Part
from reparam.errors import BadInputError

__all__ = ["check_names", "find_label", "table_part", "warn_constant"]


def check_names(names: Sequence[str], title: str) -> None:
    """Every column has a name of its own."""
    for i, name in enumerate(names):
        if not name:
            raise BadInputError(
                f"{title} has no name for column {i + 1} in its header (an index? pandas leaves it out with index=False)"
            )
        if name in names[:i]:
            raise BadInputError(f"{title} has two columns named {short(name)}: rename one")


def find_label(names: Sequence[str], label: str | None, title: str) -> int | None:
    """Where the column of labels is, if one is asked for."""
    if label is None:
        return None
    if label not in names:
        near = difflib.get_close_matches(label, names, n=1)
        listed = ", ".join(map(short, names[:10])) + (", ..." if len(names) > 10 else "")
        raise BadInputError(
            f"{title} has no column {label!r} for the labels: " + (f"did you mean {near[0]!r}?" if near else f"it has {listed}")
        )
    if len(names) == 1:
        raise BadInputError(f"{title} has no column but that of the labels: columns of numbers are wanted too")
    return list(names).index(label)


def table_part(
    x: Array, y: Array | None, names: Sequence[str], title: str, response: Sequence[str] | None, *, header: bool = True
) -> Part:
    """What a table holds: an N x D block of named columns, some of which may be the response.

    Raises:
        BadInputError: for a response that is no column, or when no other column is left.
    """
    at = []
    for name in response or ():
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            listed = ", ".join(map(short, names[:10])) + (", ..." if len(names) > 10 else "")
            hint = f"did you mean {near[0]!r}?" if near else f"beside labels it has {listed}"
            raise BadInputError(f"{title} has no column {name!r} for the response: {hint}")
        at.append(list(names).index(name))
    if len(set(at)) < len(at):
        raise BadInputError(f"the response names a column twice: {', '.join(response or ())}")
    rest = [i for i in range(len(names)) if i not in at]
    if not rest:
        raise BadInputError(f"{title} has no column but those of the response: columns to predict it from are wanted too")
    kept = [names[i] for i in rest]
    columns = tuple(kept) if header else None
    if not at:
        warn_constant(x, kept, title)
        return Part(x, y, title, columns)
    given = x[:, rest]
    warn_constant(given, kept, title)
    return Part(given, y, title, columns, x[:, at], tuple(response or ()))


def warn_constant(x: Array, names: Sequence[str], title: str) -> None:
    """Warn of the columns of an N x D table that never change."""
    constant = np.flatnonzero((x == x[0]).all(axis=0)) if len(x) > 1 else ()
    if len(constant):
        shown = ", ".join(f"{short(names[i])} is always {x[0, i]:g}" for i in constant[:3]) + (", ..." if len(constant) > 3 else "")
        warnings.warn(f"{title} has {len(constant)} constant of {x.shape[1]} columns: {shown}", DataWarning, stacklevel=4)
