"""Folders of IDX files, the format of MNIST and of its relatives."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from reparam.data.check import check_room
from reparam.data.dataset import Array, Part
from reparam.errors import BadInputError

__all__ = ["has_idx", "read_idx_folder"]

_NAMES = {"train": "train", "test": "t10k"}
_MOST_DEFLATED = 1032  # deflate cannot say more than this many bytes with one


def has_idx(folder: Path) -> bool:
    """Whether some file in the folder is named like an IDX file."""
    return any("idx3-ubyte" in path.name or "idx1-ubyte" in path.name for path in folder.iterdir())


def read_idx_folder(folder: Path) -> Mapping[str, Part]:
    """`train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, and `t10k-...`, which is the test set; plain or `.gz`.

    Only the training images must be there.

    Raises:
        BadInputError: naming the file whose header or length is wrong.
    """
    parts = {}
    for key, stem in _NAMES.items():
        images = _find(folder, f"{stem}-images", "idx3-ubyte")
        if images is None:
            continue
        x = read_idx(images, dimensions=3)
        labels = _find(folder, f"{stem}-labels", "idx1-ubyte")
        y = None if labels is None else read_idx(labels, dimensions=1)
        if y is not None and len(y) != len(x):
            raise BadInputError(f"{str(labels)!r} has {len(y)} labels, {str(images)!r} has {len(x)} images")
        parts[key] = Part(x, y, repr(str(images)))
    if "train" not in parts:
        raise BadInputError(f"{str(folder)!r} has IDX files but not 'train-images-idx3-ubyte' (or '.gz'), the training images")
    return parts


def _find(folder: Path, stem: str, kind: str) -> Path | None:
    names = [stem + joint + kind + ending for ending in ("", ".gz") for joint in ("-", ".")]
    return next((folder / name for name in names if (folder / name).is_file()), None)


def read_idx(path: Path, dimensions: int) -> Array:
    """The bytes of one IDX file: a magic number, one size a dimension (32 bits, big-endian), then the values."""
    size = path.stat().st_size
    zipped = path.suffix == ".gz"
    wanted = 0x0800 + dimensions
    length = 4 * (1 + dimensions)
    try:
        with gzip.open(path) if zipped else path.open("rb") as file:
            header = file.read(length)
            magic = int.from_bytes(header[:4], "big")
            if len(header) < length or magic != wanted:
                came = f"starts with {magic}" if len(header) >= 4 else f"has {len(header)} bytes"
                raise BadInputError(
                    f"{str(path)!r} {came}: not an IDX file of bytes in {dimensions} dimensions, which starts with {wanted}"
                )
            shape = tuple(int(n) for n in np.frombuffer(header, ">u4")[1:])
            claimed = int(np.prod(shape, dtype=object))
            if 0 in shape:
                raise BadInputError(f"{str(path)!r} has shape {shape}: there is nothing in it")
            check_room(claimed, repr(str(path)))
            possible = size * _MOST_DEFLATED if zipped else size - length
            if possible < claimed:
                raise BadInputError(_wrong_length(path, shape, "is truncated"))
            body = file.read(claimed)
            if len(body) < claimed:
                raise BadInputError(_wrong_length(path, shape, f"is truncated, with {len(body)} bytes of values"))
            if file.read(1):
                raise BadInputError(_wrong_length(path, shape, "goes on after them"))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadInputError(f"{str(path)!r} is damaged or truncated gzip ({error}): get the file again") from error
    return np.frombuffer(body, np.uint8).reshape(shape)


def _wrong_length(path: Path, shape: tuple[int, ...], what: str) -> str:
    sizes = " x ".join(map(str, shape))
    return f"{str(path)!r} promises {sizes} bytes of values and {what}: get the file again"
