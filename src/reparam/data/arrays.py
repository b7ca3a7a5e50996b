"""NumPy files: `.npy` and `.npz`, never unpickled, with headers checked before anything is allocated."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from reparam.data.check import check_room
from reparam.data.dataset import Array, Part
from reparam.errors import BadInputError

__all__ = ["LABELS", "read_arrays", "read_npy", "read_npz"]

_DATA = ("x", "data", "images", "samples")
LABELS = ("y", "labels", "label", "targets", "target")
_SETS = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
_DAMAGED = (ValueError, SyntaxError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, struct.error)


class _Header(NamedTuple):
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    size: int

    def __str__(self) -> str:
        return f"{' x '.join(map(str, self.shape)) or 'one value'} {self.dtype}"


@dataclass(frozen=True)
class _Member:
    """One array of an archive."""

    archive: zipfile.ZipFile
    info: zipfile.ZipInfo
    title: str

    def header(self) -> _Header:
        with _reading(self.title), self.archive.open(self.info) as file:
            return _read_header(file, self.info.file_size, self.title)

    def read(self) -> Array:
        with _reading(self.title), self.archive.open(self.info) as file:
            return np.lib.format.read_array(file, allow_pickle=False)


def read_npy(path: Path) -> Mapping[str, Part]:
    """One array.

    Raises:
        BadInputError: for objects, for a header that does not match the file's length, and for damage.
    """
    title = repr(str(path))
    with _reading(title), path.open("rb") as file:
        check_room(_read_header(file, path.stat().st_size, title).size, title)
        file.seek(0)
        return {"train": Part(np.lib.format.read_array(file, allow_pickle=False), None, title)}


def read_npz(
    path: Path, array: str | None = None, label: str | None = None, response: Sequence[str] | None = None
) -> Mapping[str, Part]:
    """The data array of an archive and its labels; or its own training, validation and test sets.

    Sets of its own are arrays named `train`, `x_train` or `train_images` (with `y_train` or `train_labels`), and likewise for
    `validation`, `valid` or `val`, and `test`. Otherwise the data are the array named `x`, `data`, `images` or `samples`, or the
    only one with at least two axes that is not named like labels.

    Args:
        path: the archive.
        array: the data array, when the names do not tell.
        label: the array of labels; `y`, `labels` or `targets` by default.
        response: the array of what is to be predicted, a name; of sets of its own, as `y` for `y_train` and `y_test`.

    Raises:
        BadInputError: naming the array; when several arrays could be meant, with a list of them.
    """
    title = repr(str(path))
    with _members(path) as members:
        if response is not None and len(response) != 1:
            raise BadInputError(f"response is {', '.join(response)}: of {title} name one array, which may have several columns")
        chosen = _choose(members, title, array, label, response[0] if response else None)
        names = {name for found in chosen.values() for name in found if name is not None}
        check_room(sum(members[name].header().size for name in names), title)

        def read(name: str | None) -> Array | None:
            return None if name is None else members[name].read()

        return {
            key: Part(
                members[data].read(),
                read(labels),
                members[data].title,
                response=read(reals),
                responses=_names(read(reals), response),
            )
            for key, (data, labels, reals) in chosen.items()
        }


def read_arrays(path: Path, choose: Callable[[Sequence[str], str], Mapping[str, str]]) -> tuple[dict[str, Array], dict[str, str]]:
    """Arrays of an archive by the part they play.

    Args:
        path: the archive.
        choose: from the names of its arrays, and its title, to the name of each part.

    Returns:
        The arrays, and what messages call them.

    Raises:
        BadInputError: as `choose`, and for arrays that cannot be read.
    """
    title = repr(str(path))
    with _members(path) as members:
        if not members:
            raise BadInputError(f"{title} has no arrays: one of observations is wanted")
        chosen = {part: members[name] for part, name in choose(list(members), title).items()}
        check_room(sum(member.header().size for member in chosen.values()), title)
        return {part: member.read() for part, member in chosen.items()}, {part: member.title for part, member in chosen.items()}


@contextmanager
def _members(path: Path) -> Iterator[dict[str, _Member]]:
    title = repr(str(path))
    with _reading(title):
        archive = zipfile.ZipFile(path)
    with archive:
        yield {
            name: _Member(archive, info, f"array {name!r} of {title}")
            for info in archive.infolist()
            if (name := info.filename.removesuffix(".npy")) != info.filename
        }


def _names(reals: Array | None, response: Sequence[str] | None) -> tuple[str, ...] | None:
    if reals is None or not response:
        return None
    columns = 1 if reals.ndim < 2 else reals.shape[1]
    return (response[0],) if columns == 1 else tuple(f"{response[0]}_{i + 1}" for i in range(columns))


def _choose(
    members: Mapping[str, _Member], title: str, array: str | None, label: str | None, response: str | None
) -> dict[str, tuple[str, str | None, str | None]]:
    """For each set, the names of its data, of its labels and of its response."""
    if array is None and label is None and (sets := _own_sets(list(members), response)):
        return sets
    for name in (array, label, response):
        if name is not None and name not in members:
            raise BadInputError(f"{title} has no array {name!r}; it has {_listing(members)}")
    by_name = {name.lower(): name for name in members}
    if label is None:
        label = next((by_name[name] for name in LABELS if name in by_name and by_name[name] not in (array, response)), None)
    if array is None:
        rest = [name for name in members if name not in (label, response)]
        named = [by_name[name] for name in _DATA if name in by_name and by_name[name] in rest]
        found = named or [name for name in rest if len(members[name].header().shape) >= 2] or rest
        if len(found) != 1:
            todo = "name the one to use (array=..., --array)" if found else "an array of data is wanted"
            raise BadInputError(f"{title} has {_listing(members)}: {todo}")
        array = found[0]
    return {"train": (array, label, response)}


def _own_sets(names: list[str], response: str | None) -> dict[str, tuple[str, str | None, str | None]]:
    """The sets that an archive brings, when it has a training and a test set."""
    by_name = {name.lower(): name for name in names}

    def find(templates: tuple[str, ...], words: tuple[str, ...]) -> str | None:
        tried = (template.format(word) for word in words for template in templates)
        return next((by_name[name] for name in tried if name in by_name), None)

    sets = {}
    for key, words in _SETS.items():
        data = find(("{}", "x_{}", "{}_x", "{}_images", "{}_data"), words)
        if data is not None:
            reals = find((f"{response.lower()}_{{}}", f"{{}}_{response.lower()}"), words) if response else None
            labels = find(("y_{}", "{}_y", "{}_labels"), words)
            sets[key] = (data, None if labels == reals else labels, reals)
    return sets if {"train", "test"} <= sets.keys() and not (response and sets["train"][2] is None) else {}


def _listing(members: Mapping[str, _Member]) -> str:
    shown = [f"{name} ({member.header()})" for name, member in list(members.items())[:10]]
    return (", ".join(shown) or "no arrays") + (f" and {len(members) - 10} more" if len(members) > 10 else "")


@contextmanager
def _reading(title: str) -> Iterator[None]:
    try:
        yield
    except BadInputError:
        raise
    except _DAMAGED as error:
        reason = str(error).split("\n")[0]
        raise BadInputError(f"{title} is damaged or truncated ({reason}): get or save it again") from error


def _read_header(file: IO[bytes], length: int, title: str) -> _Header:
    """Shape and dtype, once they are known to be numbers and to fill the file exactly."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(file)
    if version not in readers:
        raise ValueError(f"format version {version}")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise BadInputError(f"{title} holds Python objects, which could run code when read: save it as an array of numbers")
    claimed, held = math.prod(shape) * dtype.itemsize, length - file.tell()
    if min(shape, default=0) < 0 or claimed != held:
        state = "is truncated" if claimed > held else "goes on after its values"
        raise BadInputError(f"{title} {state}: its header promises {claimed} bytes and {held} follow; save it again")
    return _Header(shape, dtype, claimed)
