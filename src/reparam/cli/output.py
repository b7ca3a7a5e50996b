"""What commands write: arrays, tables and pictures, each there as a whole or not at all."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from reparam.errors import BadInputError
from reparam.training.storage import write_file

__all__ = ["destination", "write_data", "write_npz", "write_parquet"]

Array = np.ndarray[Any, Any]


def destination(output: str, suffixes: tuple[str, ...], *inputs: str | None, flag: str = "--output") -> Path:
    """The path of a file to write, of one of the kinds wanted. A file that is there is replaced, unless it is an input.

    Raises:
        BadInputError: when it is of another kind, a folder, or one of the inputs.
    """
    path = Path(output)
    if "\0" in output:
        raise BadInputError(f"{flag} {output!r} is no name of a file")
    if path.suffix.lower() not in suffixes:
        raise BadInputError(f"{flag} {output}: give a name that ends in {' or '.join(suffixes)}")
    if path.is_dir():
        raise BadInputError(f"{flag} {output} is a folder: give the name of a file")
    if any(given is not None and path.resolve() == Path(given).expanduser().resolve() for given in inputs):
        raise BadInputError(f"{flag} {output} would replace the data that are read: give another name")
    return path


def write_npz(path: Path, arrays: dict[str, Array]) -> None:
    """Write named arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_file(path, file.getvalue())


def write_parquet(path: Path, columns: dict[str, Array]) -> None:
    """Write a table."""
    import pandas as pd

    file = io.BytesIO()
    pd.DataFrame(columns).to_parquet(file, index=False)
    write_file(path, file.getvalue())


def write_data(path: Path, arrays: dict[str, Array], record: Mapping[str, Any]) -> None:
    """Write data in the units of a run, N + shape each: all of them as .npz, the first alone as .npy, pairs of them as .png.

    Args:
        path: of the kind to write.
        arrays: by name, the one that was asked for first.
        record: what the run remembers of its data.
    """
    first, *others = arrays.values()
    file = io.BytesIO()
    if path.suffix.lower() == ".npz":
        return write_npz(path, arrays)
    if path.suffix.lower() == ".npy":
        np.save(file, first)
    else:
        from reparam.report.images import is_image, png

        if not is_image(first.shape[1:]):
            raise BadInputError(f"data of shape {first.shape[1:]} make no picture: give --output a name that ends in .npz or .npy")
        low, high = (first.min(), first.max()) if record["values"] == "real" else (0, record["levels"] or 1)
        together = np.stack([*others, first], 1).reshape(-1, *first.shape[1:])  # what it was made of comes before it
        columns = 8 if others else math.ceil(math.sqrt(len(first)))
        file.write(png((together - low) / ((high - low) or 1), columns))
    return write_file(path, file.getvalue())
