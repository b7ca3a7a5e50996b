"""`reparam impute RUN --data F`: what is missing of data, filled in by a run's model."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from reparam.cli import opened
from reparam.cli.output import destination, write_npz
from reparam.data.gaps import load_with_gaps
from reparam.errors import BadInputError
from reparam.training.storage import write_file

__all__ = ["run"]

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
        data: the file with gaps.
        output: the file to write: .npz with arrays `known` and `x`, of shape N + shape, or n x N + shape for several fillings; .npy
            with x alone; or for a table .csv, the table itself with its gaps filled.
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
    table = Path(data).suffix.lower() == ".csv" and n == 1
    fitting = ((".csv",) if table else ()) + (".npz", ".npy")
    path = destination(output or f"imputed{fitting[0]}", fitting, data, opened.source(directory))
    model = opened.model(directory, checkpoint)
    impute = opened.able(model, "impute", directory)
    rows, known = load_with_gaps(data, array=array, label=label)
    opened.check_columns(directory, rows)
    source = opened.noise(seed)
    with opened.fitting(model, rows) as inputs:
        x, labels = inputs if isinstance(inputs, tuple) else (inputs, None)
        if label is not None and labels is None:
            raise BadInputError(f"label is {label!r}, and the model of {directory} knows no labels: leave --label out")
        found = torch.stack([_filled(impute, x, known, labels, source, options) for _ in range(n)])
    made = found.numpy() if n > 1 else found[0].numpy()
    if path.suffix.lower() == ".csv":
        write_file(path, _table(Path(data), made, known.numpy(), label))
    elif path.suffix.lower() == ".npz":
        write_npz(path, {"x": made, "known": known.numpy()})
    else:
        file = io.BytesIO()
        np.save(file, made)
        write_file(path, file.getvalue())
    print(f"{path}: {int((~known).sum())} of {known.numel()} values were missing")


def _filled(
    impute: Any, x: torch.Tensor, known: torch.Tensor, labels: torch.Tensor | None, source: Any, options: dict[str, Any]
) -> torch.Tensor:
    """One filling of each datum that has gaps; the others are let alone."""
    made = x.clone()
    rows = (~known).flatten(1).any(1).nonzero()[:, 0]
    for some in rows.split(_BATCH) if len(rows) else ():
        label = None if labels is None else labels[some]
        made[some] = impute(x[some], known[some], source, label=label, **options)
    return made


def _table(path: Path, x: np.ndarray[Any, Any], known: np.ndarray[Any, Any], label: str | None) -> bytes:
    """The table at a path with its gaps filled, and all that was there letter by letter as it was."""
    rows = [row for row in csv.reader(io.StringIO(path.read_text("utf-8-sig"), newline="")) if row]
    header, body = rows[: len(rows) - len(x)], rows[len(rows) - len(x) :]
    names = [name.strip() for name in header[0]] if header else [str(i + 1) for i in range(len(body[0]))]
    columns = [i for i, name in enumerate(names) if name != label]
    for row, values, mask in zip(body, x, known, strict=True):
        for i in np.flatnonzero(~mask):
            row[columns[i]] = f"{values[i]:.9g}"  # as many digits as a float32 has
    file = io.StringIO(newline="")
    csv.writer(file, lineterminator="\n").writerows(header + body)
    return file.getvalue().encode()
