"""Tables of numbers and categories, with gaps, from files and from data sets known by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from reparam.data.arrays import read_npy, read_npz
from reparam.data.cells import read_cells
from reparam.data.dataset import Data, Part
from reparam.data.frame import as_categories, columns_of, from_columns
from reparam.data.parquet import read_frame
from reparam.data.table import Column, TableCodec, unnamed
from reparam.errors import BadInputError

__all__ = ["as_table", "read_table"]


def read_table(
    path: Path,
    *,
    array: str | None = None,
    label: str | None = None,
    categorical: Sequence[str] = (),
    codec: TableCodec | None = None,
) -> Data:
    """A table from a `.csv`, `.parquet`, `.npz` or `.npy` file, in which values may be missing: empty cells, nulls, NaN.

    Args:
        path: the file; of arrays N x D, whose columns are called x0, x1, ..., with "label" for labels.
        array: the array of a `.npz`, when its names do not tell.
        label: the array of a `.npz` with labels.
        categorical: columns of numbers that are names of categories.
        codec: of other data, to read these in the same way.

    Raises:
        BadInputError: for what cannot be read, and for all that [`from_frame`][reparam.data.from_frame] refuses.
    """
    name, source, title = path.stem, str(path), repr(str(path))
    if path.suffix.lower() == ".csv":
        return read_cells(path, categorical=categorical, codec=codec)
    if path.suffix.lower() == ".parquet":
        found = as_categories(columns_of(read_frame(path), title), categorical, title)
        return from_columns(found, name=name, source=source, title=title, codec=codec)
    parts = read_npz(path, array, label) if path.suffix.lower() == ".npz" else read_npy(path)
    return _from_parts(parts, name, source, categorical, codec)


def as_table(data: Data, label: str, categorical: Sequence[str] = (), codec: TableCodec | None = None) -> Data:
    """Vectors, their labels and responses as one table, with the names of the labels as categories of a column.

    Raises:
        BadInputError: for data that are no vectors.
    """
    if len(data.shape) != 1 or data.values == "tokens" or data.source == "none":
        raise BadInputError(f"{data.name} is no table, as gaps='keep' (--gaps keep) and models of tables want: give one")
    y = None if data.y is None else np.array(data.classes)[data.places.numpy()]
    response = None if data.response is None else data.response.numpy()
    part = Part(data.x.numpy(), y, data.name, data.columns, response, data.responses)
    return _from_parts({"train": part}, data.name, data.source, categorical, codec, label)


def _from_parts(
    parts: Mapping[str, Part],
    name: str,
    source: str,
    categorical: Sequence[str],
    codec: TableCodec | None,
    label: str = "label",
) -> Data:
    made: dict[str, Data] = {}
    known = codec
    for key in sorted(parts, key=lambda key: key != "train"):  # the others are encoded as it is
        part = parts[key]
        found = as_categories(_columns(part, label), categorical, part.title)
        made[key] = from_columns(found, name=name, source=source, title=part.title, codec=known)
        known = known or cast(TableCodec, made[key].codec)
    return replace(made["train"], validation=made.get("validation"), test=made.get("test"))


def _columns(part: Part, label: str) -> dict[str, Column]:
    x, title = part.x, part.title
    if x.dtype.kind not in "biuf" or x.ndim != 2 or 0 in x.shape:
        raise BadInputError(f"{title} has shape {x.shape} and dtype {x.dtype}: N x D real numbers make a table")
    found = {name: Column(x[:, i].astype(np.float64)) for i, name in enumerate(part.columns or unnamed(x.shape[1]))}
    for i, name in enumerate(part.responses or ()):
        found[name] = Column(np.asarray(part.response).reshape(len(x), -1)[:, i].astype(np.float64))
    if part.y is not None:
        if part.y.shape != (len(x),):
            raise BadInputError(f"the labels of {title} have shape {part.y.shape}: one a row is wanted, {len(x)} in all")
        found[label] = Column(np.array([str(text) for text in part.y.tolist()], object))
    return found
