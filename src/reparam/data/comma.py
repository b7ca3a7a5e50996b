"""Comma-separated tables."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short

import numpy as np

from reparam.data.check import check_room
from reparam.data.columns import check_names, find_label, table_part
from reparam.data.dataset import LARGEST, Part
from reparam.errors import BadInputError

__all__ = ["MISSING", "NO_NUMBER", "fault", "is_header", "number", "read_csv", "records"]

MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
NO_NUMBER = "is not a number"
_SEPARATORS = {";": "semicolons", "\t": "tabs"}


def read_csv(
    path: Path, label: str | None = None, response: Sequence[str] | None = None, *, gaps: bool = False
) -> Mapping[str, Part]:
    """A table in UTF-8 with commas between fields and points in numbers; a BOM, CRLF and blank lines are fine.

    The first line is a header if no field of it is a number, or if it counts at least three columns as pandas does
    ("0,1,2,..."). Without a header the columns are called "1", "2", ...

    Args:
        path: the file.
        label: the column of labels, whole numbers or texts.
        response: the columns that are to be predicted.
        gaps: read a missing value, such as an empty cell, as NaN; otherwise it is refused.

    Raises:
        BadInputError: naming the line (the first is 1) and the column, or the byte offset of what is not UTF-8.
    """
    title = repr(str(path))
    check_room(5 * path.stat().st_size, title)
    names: list[str] = []
    header, place = False, None
    cells, labels = array("d"), []
    for line, row in records(path, title):
        where = f"{title} line {line}"
        if not names:
            header = is_header(row)
            names = [cell.strip() for cell in row] if header else [str(i + 1) for i in range(len(row))]
            check_names(names, title)
            place = find_label(names, label, title)
            if header:
                continue
        if place is not None:
            labels.append(row.pop(place).strip())
            if labels[-1].lower() in MISSING:
                raise BadInputError(f"{where}, column {label!r}: the label is missing")
        try:
            cells.extend(map(_number_or_gap if gaps else number, row))
        except ValueError:
            named = [name for i, name in enumerate(names) if i != place]
            raise BadInputError(_first_fault(row, named, where, gaps)) from None
    if not cells:
        raise BadInputError(f"{title} has " + ("a header and no rows" if names else "nothing but blank lines"))
    columns = [name for i, name in enumerate(names) if i != place]
    x = np.frombuffer(cells, np.float64).reshape(-1, len(columns))
    y = None if place is None else np.array(labels)
    return {"train": table_part(x, y, columns, title, response, header=header)}


def records(path: Path, title: str) -> Iterator[tuple[int, list[str]]]:
    """The number of each line that is not blank, and its fields; all have as many as the first.

    Raises:
        BadInputError: for what is no such table, naming the line, or the byte offset of what is not UTF-8.
    """
    raw = path.read_bytes()
    text = _decode(raw, title)
    _check_separator(text, raw, title)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    width = 0
    try:
        for row in reader:
            width = width or len(row)
            if row and len(row) != width:
                fields = f"{len(row)} field{'s' * (len(row) != 1)}"
                raise BadInputError(f"{title} line {reader.line_num} has {fields}, the first line has {width}")
            if row:
                yield reader.line_num, row
    except csv.Error as error:
        raise BadInputError(f"{title} line {reader.line_num} is not CSV ({error})") from error


def _decode(raw: bytes, title: str) -> str:
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        hint = "it looks like UTF-16; " if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise BadInputError(
            f"{title} is not UTF-8 at byte {error.start} (0x{raw[error.start]:02x}): {hint}save it as UTF-8"
        ) from error


def _check_separator(text: str, raw: bytes, title: str) -> None:
    first = text.lstrip().partition("\n")[0]
    for separator, name in _SEPARATORS.items():
        if separator in first and '"' not in first:
            raise BadInputError(
                f"{title} has {name} between its fields (byte {raw.index(separator.encode())}): commas are wanted, and points in "
                f"numbers; convert it with pandas.read_csv(path, sep={separator!r}, decimal=',').to_csv(new_path, index=False)"
            )


def number(cell: str) -> float:
    """The number that a cell holds; a ValueError if it holds none that float32 has."""
    value = float(cell)
    if not abs(value) <= LARGEST or "_" in cell:  # Python reads 1_000 as a number
        raise ValueError
    return value


def _number_or_gap(cell: str) -> float:
    return math.nan if cell.strip().lower() in MISSING else number(cell)


def _passes(reader: Callable[[str], float], cell: str) -> bool:
    try:
        reader(cell)
    except ValueError:
        return False
    return True


def is_header(row: Sequence[str]) -> bool:
    """Whether a first line is a header: no field is a number, or they count at least three columns as pandas does."""
    counted = len(row) > 2 and list(row) == [str(i) for i in range(len(row))]
    return counted or not any(_passes(float, cell) for cell in row)


def _first_fault(row: Sequence[str], columns: Sequence[str], where: str, gaps: bool) -> str:
    """Why the first field that is no number for us is not one."""
    reader = _number_or_gap if gaps else number
    cell, column = next(pair for pair in zip(row, columns, strict=True) if not _passes(reader, pair[0]))
    where = f"{where}, column {short(column)}:"
    if cell.strip().lower() in MISSING:
        return f"{where} the value is missing ({short(cell)}); fill it in or drop the line"
    hint = "; encode the column, drop it, or name it as the label (label=..., --label)"
    return f"{where} {short(cell)} {fault(cell)}" + (hint if fault(cell) == NO_NUMBER else "")


def fault(cell: str) -> str:
    """Why a cell is no number."""
    if _passes(float, cell) and "_" not in cell:
        return "is not a finite float32 number"
    if "," in cell and _passes(float, cell.replace(",", ".")):
        return "has a decimal comma; write numbers with a point"
    return NO_NUMBER
