"""Comma-separated tables of numbers and categories, with gaps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from reprlib import repr as short

import numpy as np

from reparam.data.check import check_room
from reparam.data.columns import check_names
from reparam.data.comma import MISSING, NO_NUMBER, fault, is_header, number, records
from reparam.data.dataset import Data
from reparam.data.frame import as_categories, from_columns
from reparam.data.table import Column, Place, TableCodec, named, unnamed
from reparam.errors import BadInputError

__all__ = ["read_cells"]


def read_cells(path: Path, *, categorical: Sequence[str] = (), codec: TableCodec | None = None) -> Data:
    """A table from a file in UTF-8, with commas between fields, points in numbers, and empty cells where a value is missing.

    A column that holds nothing but numbers is one of numbers, a column without any is one of categories, in order of the alphabet.
    Empty cells, "?", "NA", "N/A", "NaN", "null" and "None", in whatever case, are missing. The first line is a header where
    [`read_csv`][reparam.data.comma.read_csv] takes it for one; without, the columns are called x0, x1, ....

    Args:
        path: the file.
        categorical: columns of numbers that are names of categories, as class 1, 2 or 3.
        codec: of other data, to read these in the same way.

    Raises:
        BadInputError: naming the line (the first is 1) and the column: for a column that holds both numbers and texts, the rarer of
            them; and for all else that [`from_frame`][reparam.data.from_frame] refuses.
    """
    title = repr(str(path))
    check_room(25 * path.stat().st_size, title)
    names: list[str] = []
    lines: list[int] = []
    rows: list[list[str]] = []
    for line, row in records(path, title):
        if not names:
            header = is_header(row)
            names = [cell.strip() for cell in row] if header else unnamed(len(row))
            check_names(names, title)
            if header:
                continue
        lines.append(line)
        rows.append(row)
    if not rows:
        raise BadInputError(f"{title} has " + ("a header and no rows" if names else "nothing but blank lines"))

    def place(row: int) -> str:
        return f"line {lines[row]}"

    found = {}
    for name, cells in zip(names, zip(*rows, strict=True), strict=True):
        known = codec.categories.get(name) if codec else None
        if known is None:
            texts = [None if cell.strip().lower() in MISSING else cell.strip() for cell in cells]
            found[name] = _column(texts, name, title, place, mixed=name in categorical or codec is not None)
        else:
            found[name] = Column(np.array([_known(cell.strip(), known) for cell in cells], object))
    found = as_categories(found, categorical, title)
    return from_columns(found, name=path.stem, source=str(path), title=title, place=place, codec=codec)


def _column(texts: list[str | None], name: str, title: str, place: Place, *, mixed: bool) -> Column:
    """Numbers, or texts."""
    values = np.full(len(texts), np.nan)
    words = []
    for row, cell in enumerate(texts):
        if cell is None:
            continue
        try:
            values[row] = number(cell)
        except ValueError:
            words.append(row)
            if not mixed and (why := fault(cell)) != NO_NUMBER:
                raise BadInputError(f"{title} {place(row)}, column {short(name)}: {short(cell)} {why}") from None
    numbers = np.flatnonzero(~np.isnan(values))
    if not words:
        return Column(values)
    if mixed or not len(numbers):
        return Column(np.array(texts, object))
    rare, why = (words[0], NO_NUMBER) if len(words) <= len(numbers) else (numbers[0], "is a number")
    raise BadInputError(
        f"{title} {place(rare)}, column {short(name)}: {short(texts[rare])} {why}, and other lines differ: correct it, empty "
        "the cell, or read all of the column as categories (categorical=..., --categorical)"
    )


def _known(cell: str, known: Sequence[str]) -> str | None:
    """A category, even one that is called "none"; a number in another way of writing it is the same one."""
    if cell in known:
        return cell
    if cell.lower() in MISSING:
        return None
    try:
        plain = named(number(cell))
    except ValueError:
        return cell
    return plain if plain in known else cell
