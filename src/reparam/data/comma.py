"""Comma-separated tables."""

from __future__ import annotations

import csv
import io
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from reprlib import repr as short

import numpy as np

from reparam.data.check import check_room
from reparam.data.columns import check_names, find_label, table_part
from reparam.data.dataset import LARGEST, Part
from reparam.errors import BadInputError

__all__ = ["read_csv"]

_MISSING = {"", "?", "na", "n/a", "nan", "null", "none"}
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
    raw = path.read_bytes()
    text = _decode(raw, title)
    _check_separator(text, raw, title)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    names: list[str] = []
    header, place = False, None
    cells, labels = array("d"), []
    try:
        for row in reader:
            if not row:
                continue
            where = f"{title} line {reader.line_num}"
            if not names:
                header = _is_header(row)
                names = [cell.strip() for cell in row] if header else [str(i + 1) for i in range(len(row))]
                check_names(names, title)
                place = find_label(names, label, title)
                if header:
                    continue
            if len(row) != len(names):
                raise BadInputError(f"{where} has {len(row)} field{'s' * (len(row) != 1)}, the first line has {len(names)}")
            if place is not None:
                labels.append(row.pop(place).strip())
                if labels[-1].lower() in _MISSING:
                    raise BadInputError(f"{where}, column {label!r}: the label is missing")
            try:
                cells.extend(map(_number_or_gap if gaps else _number, row))
            except ValueError:
                named = [name for i, name in enumerate(names) if i != place]
                raise BadInputError(_first_fault(row, named, where, gaps)) from None
    except csv.Error as error:
        raise BadInputError(f"{title} line {reader.line_num} is not CSV ({error})") from error
    if not cells:
        raise BadInputError(f"{title} has " + ("a header and no rows" if names else "nothing but blank lines"))
    columns = [name for i, name in enumerate(names) if i != place]
    x = np.frombuffer(cells, np.float64).reshape(-1, len(columns))
    y = None if place is None else np.array(labels)
    return {"train": table_part(x, y, columns, title, response, header=header)}


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


def _number(cell: str) -> float:
    value = float(cell)
    if not abs(value) <= LARGEST or "_" in cell:  # Python reads 1_000 as a number
        raise ValueError
    return value


def _number_or_gap(cell: str) -> float:
    return math.nan if cell.strip().lower() in _MISSING else _number(cell)


def _passes(reader: Callable[[str], float], cell: str) -> bool:
    try:
        reader(cell)
    except ValueError:
        return False
    return True


def _is_header(row: Sequence[str]) -> bool:
    counted = len(row) > 2 and list(row) == [str(i) for i in range(len(row))]
    return counted or not any(_passes(float, cell) for cell in row)


def _first_fault(row: Sequence[str], columns: Sequence[str], where: str, gaps: bool) -> str:
    """Why the first field that is no number for us is not one."""
    reader = _number_or_gap if gaps else _number
    cell, column = next(pair for pair in zip(row, columns, strict=True) if not _passes(reader, pair[0]))
    where = f"{where}, column {short(column)}:"
    if cell.strip().lower() in _MISSING:
        return f"{where} the value is missing ({short(cell)}); fill it in or drop the line"
    if _passes(float, cell) and "_" not in cell:
        return f"{where} {short(cell)} is not a finite float32 number"
    if "," in cell and _passes(float, cell.replace(",", ".")):
        return f"{where} {short(cell)} has a decimal comma; write numbers with a point"
    return f"{where} {short(cell)} is not a number; encode the column, drop it, or name it as the label (label=..., --label)"
