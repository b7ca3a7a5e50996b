"""What all tables share: named columns, one of which may hold labels."""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence
from reprlib import repr as short

import numpy as np

from reparam.data.check import DataWarning
from reparam.data.dataset import Array
from reparam.errors import BadInputError

__all__ = ["check_names", "find_label", "warn_constant"]


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


def warn_constant(x: Array, names: Sequence[str], title: str) -> None:
    """Warn of the columns of an N x D table that never change."""
    constant = np.flatnonzero((x == x[0]).all(axis=0)) if len(x) > 1 else ()
    if len(constant):
        shown = ", ".join(f"{short(names[i])} is always {x[0, i]:g}" for i in constant[:3]) + (", ..." if len(constant) > 3 else "")
        warnings.warn(f"{title} has {len(constant)} constant of {x.shape[1]} columns: {shown}", DataWarning, stacklevel=4)
