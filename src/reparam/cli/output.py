"""What commands write: arrays, tables and pictures, each there as a whole or not at all."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from reparam.cli.sounds import sound_folder, write_sounds
from reparam.data.codec import codec_of
from reparam.errors import BadInputError
from reparam.training.storage import write_file

__all__ = ["destination", "place", "write_data", "write_frame", "write_npz", "write_parquet"]

# The files that data of each kind of codec are written to, the usual one first.
_SUFFIXES = {"text": (".txt",), "table": (".csv", ".parquet")}

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


def place(output: str | None, name: str, record: Mapping[str, Any], *inputs: str | None) -> Path:
    """Where data of a run go, in a form that fits them: by default a text, a table, a folder of sounds, a picture, or arrays.

    Args:
        output: the path, if the user gave one.
        name: the stem of the one to take otherwise.
        record: what the run remembers of its data.
        inputs: files that must not be replaced.

    Raises:
        BadInputError: when it is of a kind that does not fit the data, or in the way of something.
    """
    from reparam.report.images import is_image

    kind = (record.get("codec") or {}).get("kind")
    if record.get("sequence"):
        return _sequences(output or f"{name}.npz", *inputs)
    picture = kind not in ("text", "table") and is_image(tuple(record["shape"]))
    if kind == "audio" and (output is None or not Path(output).suffix):
        return sound_folder(output or name)
    fitting = _SUFFIXES.get(kind or "", ()) + ((".png",) if picture else ()) + (".npz", ".npy")
    fitting += (".csv",) if record.get("columns") and kind != "table" else ()
    if kind == "audio" and output is not None and Path(output).suffix.lower() == ".wav":
        raise BadInputError(f"--output {output}: sounds go into a folder, a file each: give the name of one")
    if output is not None and Path(output).suffix.lower() == ".png" and not picture:
        what = f"{kind}s" if kind in ("text", "table") else f"data of shape {tuple(record['shape'])}"
        raise BadInputError(f"{what} make no picture: give --output a name that ends in {' or '.join(fitting)}")
    return destination(output or name + fitting[0], fitting, *inputs)


def _sequences(output: str, *inputs: str | None) -> Path:
    if Path(output).suffix.lower() in (".csv", ".parquet", ".png"):
        raise BadInputError(f"--output {output}: sequences are N x T numbers or more, which make no table or picture: give an .npz")
    return destination(output, (".npz", ".npy"), *inputs)


def write_npz(path: Path, arrays: dict[str, Array]) -> None:
    """Write named arrays."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    write_file(path, file.getvalue())


def write_parquet(path: Path, columns: dict[str, Array]) -> None:
    """Write a table."""
    import pandas as pd

    write_frame(path, pd.DataFrame(columns))


def write_frame(path: Path, frame: Any) -> None:
    """Write a pandas DataFrame as .csv, with empty cells where a value is missing, or as .parquet."""
    file = io.BytesIO()
    if path.suffix.lower() == ".csv":
        frame.to_csv(file, index=False, lineterminator="\n")
    else:
        frame.to_parquet(file, index=False)
    write_file(path, file.getvalue())


def write_data(path: Path, arrays: dict[str, Array], record: Mapping[str, Any], labels: Sequence[str] = ()) -> None:
    """Write data in the units of a run, N + shape each: all as .npz, the first alone as .npy or table, else pairs of them.

    Args:
        path: of the kind to write, as `place` gives it.
        arrays: by name, the one that was asked for first.
        record: what the run remembers of its data.
        labels: of each datum, where there are labels: an array of a .npz, a column of a table, the beginning of a sound's name.
    """
    first, *others = arrays.values()
    file = io.BytesIO()
    if path.suffix.lower() in (".txt", ""):
        return _write_decoded(path, arrays, record, labels)
    if path.suffix.lower() == ".npz":
        return write_npz(path, arrays | ({"label": np.array(labels)} if labels else {}))
    if path.suffix.lower() in (".csv", ".parquet"):
        return write_frame(path, _frame(first, record, labels))
    if path.suffix.lower() == ".npy":
        np.save(file, first)
    else:
        from reparam.report.images import png

        low, high = (first.min(), first.max()) if record["values"] == "real" else (0, record["levels"] or 1)
        together = np.stack([*others, first], 1).reshape(-1, *first.shape[1:])  # what it was made of comes before it
        columns = 8 if others else math.ceil(math.sqrt(len(first)))
        file.write(png((together - low) / ((high - low) or 1), columns))
    return write_file(path, file.getvalue())


def _frame(x: Array, record: Mapping[str, Any], labels: Sequence[str]) -> Any:
    """N x D numbers as a pandas DataFrame: of a table with gaps, as its codec has it; of others, the labels as a column."""
    import pandas as pd

    if record.get("codec"):
        codec: Any = codec_of(record["codec"])
        return codec.frame(torch.from_numpy(x))
    table = pd.DataFrame(x, columns=record["columns"])
    name = record["options"].get("label")
    return table.assign(**{name: labels}) if labels and name else table


def _write_decoded(path: Path, arrays: dict[str, Array], record: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Texts, a line each, pairs of them with a blank line after; or a folder of sounds."""
    codec: Any = codec_of(record["codec"])
    decoded = {name: codec.decode(torch.from_numpy(array)) for name, array in reversed(arrays.items())}
    if path.suffix:
        together = zip(*decoded.values(), strict=True)
        texts = "".join("".join(f"{text}\n" for text in pair) + ("\n" if len(decoded) > 1 else "") for pair in together)
        return write_file(path, texts.encode())
    if len(decoded) == 1:
        (decoded,) = ({"": sounds} for sounds in decoded.values())
    kinds = [f"{label}_" for label in labels] or [""] * len(next(iter(decoded.values())))
    named = {
        f"{kind}{i:04d}{name and '_' + name}": sound
        for name, sounds in decoded.items()
        for i, (kind, sound) in enumerate(zip(kinds, sounds, strict=True), 1)
    }
    return write_sounds(path, named, codec.rate)
