"""`reparam impute RUN --data F`: what is missing of data, filled in by a run's model."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reparam.cli import opened
from reparam.cli.output import destination, write_frame, write_npz
from reparam.data import load
from reparam.data.codec import codec_of
from reparam.data.gaps import load_with_gaps
from reparam.data.table import TableCodec, unnamed
from reparam.errors import BadInputError
from reparam.training.storage import write_file

__all__ = ["run"]

Array = np.ndarray[Any, Any]

# Those of a model that draws what is missing in steps, and their defaults; others have none.
OPTIONS = {"guidance": 1.0, "steps": 50, "repeats": 10}

# Data that go through the model at once.
_BATCH = 512


def run(
    directory: str,
    data: str,
    output: str | None,
    array: str | None,
    label: str | None,
    n: int,
    options: dict[str, Any],
    checkpoint: Literal["best", "last"],
    seed: int,
) -> None:
    """Fill in what is missing of a file, and write the result.

    Args:
        directory: of the run.
        data: the file with gaps; for a run whose data are a table of numbers and categories, columns may lack altogether.
        output: the file to write: .npz with arrays `known` and `x`, of shape N + shape, or n x N + shape for several fillings; .npy
            with x alone; or for a table .csv (of runs with categories .parquet too), the table itself with its gaps filled.
        array: of a .npz file.
        label: the column or array of labels.
        n: how many fillings of each datum.
        options: of `impute`: guidance, steps, repeats.
        checkpoint: whose weights.
        seed: of the noise.

    Raises:
        BadInputError: when the data do not suit the model, or the output them.
    """
    if not data:
        raise BadInputError(
            "the data are missing: reparam impute RUN --data FILE, with NaN or empty cells where a value is missing"
        )
    codec = _table_codec(directory)
    fitting = _fitting(data, codec, n)
    path = destination(output or f"imputed{fitting[0]}", fitting, data, opened.source(directory))
    model = opened.model(directory, checkpoint)
    impute = opened.able(model, "impute", directory)
    if codec is None:
        rows, known = load_with_gaps(data, array=array, label=label)
        opened.check_columns(directory, rows)
    else:
        options = _none_of(options, directory)
        rows = load(data, array=array, label=label, codec=codec)
        known = ~rows.x.isnan()
    source = opened.noise(seed)
    with opened.fitting(model, rows) as inputs:
        x, labels = (rows.x, None) if codec else inputs if isinstance(inputs, tuple) else (inputs, None)
        if label is not None and labels is None and not codec:
            raise BadInputError(f"label is {label!r}, and the model of {directory} knows no labels: leave --label out")
        found = torch.stack([_filled(impute, x, known, labels, source, options) for _ in range(n)])
    made = found.numpy() if n > 1 else found[0].numpy()
    if path.suffix.lower() == ".npz":
        write_npz(path, {"x": made, "known": known.numpy()})
    elif path.suffix.lower() == ".npy":
        file = io.BytesIO()
        np.save(file, made)
        write_file(path, file.getvalue())
    elif codec is not None and (path.suffix.lower(), Path(data).suffix.lower()) != (".csv", ".csv"):
        write_frame(path, codec.frame(found[0]))
    else:
        write_file(path, _table(Path(data), rows.columns, _cells(found[0], codec), known.numpy(), label))
    print(f"{path}: {int((~known).sum())} of {known.numel()} values were missing")


def _table_codec(directory: str) -> TableCodec | None:
    """How the data of a run become a table, where they are one of numbers and categories."""
    found = opened.facts(directory).get("codec")
    codec = found and codec_of(found)
    return codec if isinstance(codec, TableCodec) else None


def _fitting(data: str, codec: TableCodec | None, n: int) -> tuple[str, ...]:
    """The kinds of file to write, the usual one first."""
    arrays = (".npz", ".npy")
    if n > 1:
        return arrays
    return (".csv", ".parquet", *arrays) if codec else (".csv", *arrays) if Path(data).suffix.lower() == ".csv" else arrays


def _none_of(options: dict[str, Any], directory: str) -> dict[str, Any]:
    for name, value in options.items():
        if value != OPTIONS[name]:
            raise BadInputError(f"{name} is {value}, and the model of {directory} fills gaps without any: leave --{name} out")
    return {}


def _filled(
    impute: Any, x: torch.Tensor, known: torch.Tensor, labels: torch.Tensor | None, source: Any, options: dict[str, Any]
) -> torch.Tensor:
    """One filling of each datum that has gaps; the others are let alone."""
    made = x.clone()
    rows = (~known).flatten(1).any(1).nonzero()[:, 0]
    for some in rows.split(_BATCH) if len(rows) else ():
        given = {} if labels is None else {"label": labels[some]}
        made[some] = impute(x[some], known[some], source, **given, **options)
    return made


def _cells(x: torch.Tensor, codec: TableCodec | None) -> list[list[str]]:
    """What stands in the cells of a table: of numbers as many digits as a float32 has, or as few as tell it from others."""
    if codec is None:
        return [[f"{value:.9g}" for value in row] for row in x.tolist()]
    return [["" if value is None else str(value) for value in row.values()] for row in codec.decode(x)]


def _table(path: Path, columns: Sequence[str] | None, cells: list[list[str]], known: Array, label: str | None) -> bytes:
    """The table at a path with its gaps filled, all that was there letter by letter as it was, and the columns that it lacked."""
    rows = [row for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")) if row]
    header, body = rows[: len(rows) - len(cells)], rows[len(rows) - len(cells) :]
    width = len(body[0])
    given = unnamed(width) if columns else [str(i + 1) for i in range(width)]
    names = [name.strip() for name in header[0]] if header else given
    wanted = columns or [name for name in names if name != label]
    places = {name: i for i, name in enumerate(names)}
    for name in wanted:
        places.setdefault(name, len(places))
    for row in header:
        row += list(places)[len(row) :]
    for row, values, mask in zip(body, cells, known, strict=True):
        row += [""] * (len(places) - len(row))
        for name, value, there in zip(wanted, values, mask, strict=True):
            if not there:
                row[places[name]] = value
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(header + body)
    return file.getvalue().encode()
