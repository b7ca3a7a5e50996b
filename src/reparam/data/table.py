"""Tables of numbers and categories, with gaps: rows of them as rows of float32 numbers, and back."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from reparam.data.check import check_room
from reparam.data.dataset import LARGEST, Array
from reparam.errors import BadInputError

__all__ = ["Column", "Place", "TableCodec", "learned", "named", "row_number", "unnamed"]

# Where the i-th row is, for messages: "row 7", "line 9".
Place: TypeAlias = Callable[[int], str]

# Below, a float64 has all whole numbers.
_EXACT = 2.0**53


class Column(NamedTuple):
    """What a reader found in one column.

    Attributes:
        values: N numbers, float64, NaN where one is missing; or N objects, texts and None.
        categories: all texts that there may be, in order, where the source tells.
    """

    values: Array
    categories: tuple[str, ...] | None = None

    @property
    def texts(self) -> list[str | None]:
        """What there is as texts, numbers too."""
        if self.values.dtype.kind == "O":
            return list(self.values)
        return [None if np.isnan(value) else named(value) for value in self.values]

    @property
    def filled(self) -> Array:
        """Where there is something, N booleans."""
        if self.values.dtype.kind == "O":
            return np.array([value is not None for value in self.values], bool)
        return ~np.isnan(self.values)


@dataclass(frozen=True)
class TableCodec:
    r"""From rows of a table to rows of numbers and back.

    A number stays what it is; a category becomes its place c in {0, ..., K - 1} among the K categories of its column; what is
    missing is NaN.

    Args:
        columns: the D names.
        categories: for each column of categories, their names in order.
        gaps: the columns in which something was missing, where the codec was learned.

    Raises:
        BadInputError: for two columns or categories of one name, and for categories or gaps of a column that is not there.

    Example:
        >>> import numpy as np
        >>> from reparam.data.table import Column, TableCodec
        >>> codec = TableCodec(("length", "kind"), {"kind": ("cat", "dog")})
        >>> x = codec.encode({"length": Column(np.array([1.5, np.nan])), "kind": Column(np.array(["dog", None], object))})
        >>> x
        tensor([[1.5000, 1.0000],
                [   nan,    nan]])
        >>> codec.decode(x)
        [{'length': 1.5, 'kind': 'dog'}, {'length': None, 'kind': None}]
    """

    kind: ClassVar[str] = "table"

    columns: Sequence[str]
    categories: Mapping[str, Sequence[str]]
    gaps: Sequence[str] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", tuple(self.columns))
        object.__setattr__(self, "categories", {name: tuple(names) for name, names in self.categories.items()})
        if not self.columns or len(set(self.columns)) < len(self.columns):
            raise BadInputError(f"the columns of a table are {short(list(self.columns))}: at least one, all different, is wanted")
        object.__setattr__(self, "gaps", tuple(self.gaps))
        for name in (*self.categories, *self.gaps):
            if name not in self.columns:
                raise BadInputError(f"there are facts of a column {short(name)}: the columns are {_listed(self.columns)}")
        for name, names in self.categories.items():
            if not names or len(set(names)) < len(names):
                raise BadInputError(
                    f"the categories of column {short(name)} are {short(list(names))}: all different ones are wanted"
                )

    def facts(self) -> dict[str, Any]:
        """What JSON holds, and `codec_of` makes the codec of."""
        categories = {name: list(names) for name, names in self.categories.items()}
        return {"kind": self.kind, "columns": list(self.columns), "categories": categories, "gaps": list(self.gaps)}

    def encode(self, found: Mapping[str, Column], *, title: str = "the table", place: Place | None = None) -> Tensor:
        """Columns by name, in any order, to N x D float32 in the order of `columns`; a column that is not there is all missing.

        Args:
            found: at least one of the columns, N values each.
            title: what messages call the table.
            place: what messages call the i-th row; "row 1" is the first by default.

        Raises:
            BadInputError: for a column of another name, a category that is not known, a text where a number is wanted, and what is
                no finite float32 number; it names row and column.
        """
        place = place or row_number
        for name in found:
            if name not in self.columns:
                near = difflib.get_close_matches(name, self.columns, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"the columns are {_listed(self.columns)}; drop it"
                raise BadInputError(f"{title} has a column {short(name)}, which the data of the model have not: {hint}")
        if not found:
            raise BadInputError(f"{title} has no column: at least one of {_listed(self.columns)} is wanted")
        n = len(next(iter(found.values())).values)
        check_room(12 * n * len(self.columns), title)
        x = np.full((n, len(self.columns)), np.nan, np.float32)
        for i, name in enumerate(self.columns):
            if name in found:
                x[:, i] = (
                    self._codes(name, found[name], title, place)
                    if name in self.categories
                    else _numbers(name, found[name], title, place)
                )
        return torch.from_numpy(x)

    def decode(self, x: Tensor) -> list[dict[str, float | str | None]]:
        """Rows of numbers, N x D, to N rows of a table: numbers, names of categories, None for what is missing.

        Raises:
            ValueError: for another number of columns, and for a number that is the place of no category.
        """
        columns = [self._names(i, x) for i in range(len(self.columns))]
        return [dict(zip(self.columns, row, strict=True)) for row in zip(*columns, strict=True)]

    def frame(self, x: Tensor) -> Any:
        """The rows as a pandas DataFrame: columns of float32, and categoricals.

        Raises:
            ValueError: as `decode`.
        """
        import pandas as pd

        made: dict[str, Any] = {}
        for i, name in enumerate(self.columns):
            values, known = self._values(i, x), self.categories.get(name)
            if known is not None:
                codes = np.nan_to_num(values, nan=-1.0).astype(np.int64)
                made[name] = pd.Categorical.from_codes(codes, categories=pd.Index(known))
            else:
                made[name] = values.copy()
        return pd.DataFrame(made)

    def _codes(self, name: str, column: Column, title: str, place: Place) -> Array:
        codes = {text: float(code) for code, text in enumerate(self.categories[name])}
        made = np.full(len(column.values), np.nan)
        for row, text in enumerate(column.texts):
            if text is None:
                continue
            if text not in codes:
                near = difflib.get_close_matches(text, codes, n=1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise BadInputError(
                    f"{title} {place(row)}, column {short(name)}: {short(text)} is none of the categories that the model knows: "
                    f"{hint}They are {_listed(tuple(codes))}"
                )
            made[row] = codes[text]
        return made

    def _names(self, i: int, x: Tensor) -> list[float | str | None]:
        """The values of a column for people; a number has no more digits than tell it from other float32 numbers."""
        values, known = self._values(i, x), self.categories.get(self.columns[i])
        return [
            None if gone else float(str(value)) if known is None else known[int(value)]
            for value, gone in zip(values, np.isnan(values), strict=True)
        ]

    def _values(self, i: int, x: Tensor) -> Array:
        if x.ndim != 2 or x.shape[1] != len(self.columns):
            raise ValueError(f"x has shape {tuple(x.shape)}: N x {len(self.columns)} is wanted")
        values: Array = x[:, i].detach().cpu().float().numpy()
        known = self.categories.get(self.columns[i])
        if known is not None and len(bad := values[~np.isnan(values) & ~np.isin(values, np.arange(len(known)))]):
            raise ValueError(
                f"{bad[0]:g} is the place of no category of {self.columns[i]!r}: whole numbers 0 to {len(known) - 1} are wanted"
            )
        return values


def learned(found: Mapping[str, Column], *, title: str = "the table", place: Place | None = None) -> TableCodec:
    """The codec of columns that were found: categories are the different texts, sorted, unless the source has an order of them.

    Raises:
        BadInputError: for a column with nothing in it, and for a category that cannot be printed.
    """
    place = place or row_number
    if not found:
        raise BadInputError(f"{title} has no columns: at least one is wanted")
    categories: dict[str, Sequence[str]] = {}
    for name, column in found.items():
        if not column.filled.any():
            raise BadInputError(
                f"{title}, column {short(name)} has nothing in it: drop it, or fill some in (what is latent needs no column)"
            )
        if column.values.dtype.kind != "O" and column.categories is None:
            continue
        texts = column.texts
        row = next((row for row, text in enumerate(texts) if text is not None and not text.isprintable()), None)
        if row is not None:
            raise BadInputError(f"{title} {place(row)}, column {short(name)}: {short(texts[row])} holds what cannot be printed")
        categories[name] = column.categories or _sorted({text for text in texts if text is not None})
    return TableCodec(tuple(found), categories, [name for name, column in found.items() if not column.filled.all()])


def named(value: float) -> str:
    """A number as the name of a category: the same however it was written, as 3, 3.0 or 3e0."""
    return f"{value + 0.0:.0f}" if abs(value) < _EXACT and value == round(value) else f"{value:.9g}"


def unnamed(count: int) -> list[str]:
    """What columns are called that have no names: as functions call their arguments, and as no number in a row."""
    return [f"x{i}" for i in range(count)]


def row_number(row: int) -> str:
    """The place of a row in tables that have no lines."""
    return f"row {row + 1}"


def _sorted(texts: set[str]) -> tuple[str, ...]:
    """Numbers by size, texts by alphabet."""
    try:
        return tuple(sorted(texts, key=float))
    except ValueError:
        return tuple(sorted(texts))


def _numbers(name: str, column: Column, title: str, place: Place) -> Array:
    where = f"column {short(name)}"
    if column.values.dtype.kind == "O":
        texts = [row for row, value in enumerate(column.values) if value is not None]
        if not texts:
            return np.full(len(column.values), np.nan)
        row = next((row for row in texts if not _is_number(column.values[row])), texts[0])
        raise BadInputError(f"{title} {place(row)}, {where}: {short(column.values[row])} is not a number, as the model wants one")
    bad = np.flatnonzero(np.abs(column.values) > LARGEST)
    if len(bad):
        raise BadInputError(f"{title} {place(bad[0])}, {where}: {column.values[bad[0]]} is not a finite float32 number")
    return column.values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(short, names[:10])) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
