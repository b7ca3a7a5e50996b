"""Parquet tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from reparam.data.check import check_room
from reparam.data.columns import check_names, find_label, table_part
from reparam.data.dataset import LARGEST, Array, Part
from reparam.errors import BadInputError

__all__ = ["read_frame", "read_parquet"]


def read_parquet(path: Path, label: str | None = None, response: Sequence[str] | None = None) -> Mapping[str, Part]:
    """A table of columns of numbers or booleans.

    Args:
        path: the file.
        label: the column of labels, whole numbers or texts.
        response: the columns that are to be predicted.

    Raises:
        BadInputError: naming the column, and for missing values the row (the first is 1).
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    title = repr(str(path))
    try:
        with pq.ParquetFile(path) as file:
            schema, rows = file.schema_arrow, file.metadata.num_rows
            names = list(schema.names)
            check_names(names, title)
            place = find_label(names, label, title)
            for i, field in enumerate(schema):
                _check_type(field.type, f"{title}, column {field.name!r}", text=i == place)
            if not rows or not names:
                raise BadInputError(f"{title} has {rows} rows and {len(names)} columns: at least one of each is wanted")
            check_room(16 * rows * len(names), title)
            table = file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise BadInputError(f"{title} is damaged or not parquet ({reason}): get or save it again") from error
    columns = {name: _column(table.column(name), f"{title}, column {name!r}") for name in names}
    y = None if label is None else columns.pop(label)
    x = np.column_stack([column.astype(np.float64, copy=False) for column in columns.values()])
    return {"train": table_part(x, y, list(columns), title, response)}


def read_frame(path: Path) -> Any:
    """A table as a pandas DataFrame, with the types of the file, and with its gaps; an index that pandas wrote is a column.

    Raises:
        BadInputError: for damage.
    """
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    def kind(found: Any) -> Any:
        own = pa.types.is_dictionary(found) or pa.types.is_string_view(found)  # pandas' categoricals and texts
        return None if own else pd.ArrowDtype(found)

    title = repr(str(path))
    try:
        with pq.ParquetFile(path) as file:
            check_room(16 * file.metadata.num_rows * max(len(file.schema_arrow.names), 1), title)
            return file.read().to_pandas(ignore_metadata=True, types_mapper=kind)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).split("\n")[0]
        raise BadInputError(f"{title} is damaged or not parquet ({reason}): get or save it again") from error


def _check_type(kind: Any, where: str, *, text: bool) -> None:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind)
    if not (types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind) or (is_text and text)):
        hint = "; encode it, drop it, or name it as the label (label=..., --label)" if is_text else "; convert or drop it"
        raise BadInputError(f"{where} has type {kind}: numbers are wanted{hint}")


def _column(column: Any, where: str) -> Array:
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + 1
        raise BadInputError(
            f"{where} has {column.null_count} missing values, the first in row {row}: fill them in or drop the rows"
        )
    values: Array = column.to_numpy()
    if values.dtype.kind == "f" and len(bad := np.flatnonzero(~(np.abs(values) <= LARGEST))):
        raise BadInputError(f"{where} holds {values[bad[0]]} in row {bad[0] + 1}: finite float32 numbers are wanted")
    return values
