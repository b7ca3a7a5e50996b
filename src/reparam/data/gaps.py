"""Data with gaps: values that are missing, for models that fill them in."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from torch import Tensor

from reparam.data.arrays import read_npy, read_npz
from reparam.data.check import DataWarning
from reparam.data.comma import read_csv
from reparam.data.dataset import Data, assemble
from reparam.errors import BadInputError

__all__ = ["load_with_gaps"]


def load_with_gaps(spec: str | Path, *, array: str | None = None, label: str | None = None) -> tuple[Data, Tensor]:
    r"""Read a file whose values may be missing: NaN in arrays, empty cells or NaN in a table.

    Args:
        spec: the path of a `.npz`, `.npy` or `.csv` file.
        array: the array of an `.npz` to use, when its names do not tell.
        label: the column of a table, or the array of an `.npz`, that holds the labels, none of which is missing.

    Returns:
        The data, with zeros where values are missing, and a mask of the shape of `x`, true where they are known.

    Raises:
        BadInputError: when there is no such file, when it is of another kind, and for all else that `load` refuses.

    Example:
        >>> import tempfile, pathlib
        >>> from reparam.data.gaps import load_with_gaps
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "table.csv")
        ...     _ = path.write_text("a,b\n1.5,\n,2\n3,4\n")
        ...     data, mask = load_with_gaps(path)
        >>> data.x.tolist(), mask.tolist()
        ([[1.5, 0.0], [0.0, 2.0], [3.0, 4.0]], [[True, False], [False, True], [True, True]])
    """
    path, suffix = Path(spec).expanduser(), Path(spec).suffix.lower()
    if suffix not in (".npz", ".npy", ".csv"):
        raise BadInputError(f"{str(spec)!r}: data with gaps are read from a .npz, .npy or .csv file: name one")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # data to be filled in may be constant
        try:
            parts = (
                read_npz(path, array, label)
                if suffix == ".npz"
                else read_csv(path, label, gaps=True)
                if suffix == ".csv"
                else read_npy(path)
            )
        except FileNotFoundError as error:
            raise BadInputError(f"there is no file {str(spec)!r}") from error
        except OSError as error:
            raise BadInputError(f"{str(spec)!r} cannot be read: {error.strerror or error}") from error
        part = parts["train"]
        if part.x.dtype.kind not in "biuf":
            raise BadInputError(f"{part.title} has dtype {part.x.dtype}: real numbers are wanted (integers, booleans or floats)")
        missing = np.isnan(part.x)
        data = assemble({"train": part._replace(x=np.where(missing, 0, part.x))}, name=path.stem, source=str(path))
        # As reals, the mask takes the way of the data, channels first.
        signs = part._replace(x=np.where(missing, -1.0, 1.0), y=None)
        known = assemble({"train": signs}, name=path.stem, source=str(path), values="real")
    return data, known.x > 0
