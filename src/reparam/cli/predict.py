"""`reparam predict RUN`: what a run's model predicts for data, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from torch import Tensor

from reparam.cli import opened
from reparam.cli.output import destination, write_npz
from reparam.data import Data
from reparam.errors import BadInputError
from reparam.training.storage import write_file

__all__ = ["run"]

Array = np.ndarray[Any, Any]

# Of the intervals that are written.
_LEVEL = 0.9


def run(
    directory: str,
    output: str | None,
    part: Literal["test", "validation", "train"],
    data: str | None,
    array: str | None,
    samples: int,
    draws: int,
    checkpoint: Literal["best", "last"],
    seed: int,
) -> None:
    """Predict for data, and write a table or arrays.

    The table has a row for each datum, with its place in the source of the data. For each response: what it is, where the data say,
    and `_mean`, `_epistemic`, `_aleatoric`, `_low` and `_high`, the ends of the interval that holds it with probability 0.9, and
    `_draw_0`, .... For classes: the label, where the data say, `predicted`, the probability of each class, and `epistemic` and
    `aleatoric` in nats. The arrays of a .npz have the same names, without those of the responses: `mean`, ..., of shape N x R.

    Args:
        directory: of the run.
        output: the file to write, .csv or .npz.
        part: which rows of the run's data.
        data: other data than the run's.
        array: of a .npz file.
        samples: draws of the weights.
        draws: predictions drawn at random for each datum.
        checkpoint: whose weights.
        seed: of the noise.

    Raises:
        BadInputError: when the data do not suit the model, or the output them.
    """
    path = destination(output or "predictions.csv", (".csv", ".npz"), data, opened.source(directory))
    source = opened.noise(seed)
    model = opened.model(directory, checkpoint)
    predict = opened.able(model, "predict", directory)
    try:
        rows = opened.rows(directory, part, data, array)
    except BadInputError as error:
        if not any(repr(name) in str(error) for name in getattr(model, "responses", ())):
            raise
        raise BadInputError(f"{error}; or leave that column out, as it is to be predicted") from error
    _check_shape(rows, model)
    found = predict(rows.x, samples, source)
    drawn = _as_floats(found.sample(draws, source)) if draws else None
    places = np.arange(len(rows)) if rows.rows is None else rows.rows.numpy()
    arrays = _classes(found, rows) if hasattr(found, "classes") else _reals(found, rows)
    if path.suffix.lower() == ".npz":
        more = {} if drawn is None else {"draws": drawn}
        write_npz(path, {"row": places, **arrays, **more})
    else:
        columns = (
            _class_table(arrays, drawn, found.classes) if hasattr(found, "classes") else _table(arrays, drawn, found.responses)
        )
        write_file(path, _csv([("row", places), *columns]))
    print(path)


def _check_shape(rows: Data, model: Any) -> None:
    """What `opened.fitting` looks at, but for what is to be predicted: data to be predicted for need not have it."""
    if rows.values in ("tokens", "table") or rows.shape != model.shape:
        came, wanted = (" x ".join(map(str, shape)) for shape in (rows.shape, model.shape))
        raise BadInputError(f"a datum of {rows.name} is {came}, and this model takes {wanted} numbers: give data of that shape")


def _as_floats(x: Tensor) -> Array:
    """What the predictions are computed in has more digits than what they are computed from."""
    return (x.float() if x.is_floating_point() else x).numpy()


def _reals(found: Any, rows: Data) -> dict[str, Array]:
    """By name, N x R each."""
    low, high = found.interval(_LEVEL)
    made = {"mean": found.mean, "epistemic": found.epistemic, "aleatoric": found.aleatoric, "low": low, "high": high}
    known = rows.response is not None and rows.response.shape[1] == len(found.responses)
    arrays = {name: _as_floats(value) for name, value in made.items()}
    return {"response": rows.response.numpy(), **arrays} if known and rows.response is not None else arrays


def _classes(found: Any, rows: Data) -> dict[str, Array]:
    """By name: texts N, probabilities N x C, nats N."""
    known = {} if rows.y is None or rows.classes is None else {"label": np.array(rows.classes)[rows.places.numpy()]}
    parts = {"epistemic": _as_floats(found.epistemic), "aleatoric": _as_floats(found.aleatoric)}
    return {
        **known,
        "predicted": np.array(found.labels),
        "probability": _as_floats(found.mean),
        "class": np.array(found.classes),
        **parts,
    }


def _table(arrays: dict[str, Array], drawn: Array | None, responses: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
    """The columns of each response."""
    for i, name in enumerate(responses):
        for key, value in arrays.items():
            yield name if key == "response" else f"{name}_{key}", value[:, i]
        for j, row in enumerate(() if drawn is None else drawn):
            yield f"{name}_draw_{j}", row[:, i]


def _class_table(arrays: dict[str, Array], drawn: Array | None, classes: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
    """The columns, of probabilities one for each class."""
    for key, value in arrays.items():
        if key == "probability":
            yield from ((f"probability_{name}", value[:, i]) for i, name in enumerate(classes))
        elif key != "class":
            yield key, value
    for j, row in enumerate(() if drawn is None else drawn):
        yield f"draw_{j}", np.array(classes)[row]


def _csv(columns: list[tuple[str, Array]]) -> bytes:
    import pandas as pd

    names = [name for name, _ in columns]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BadInputError(f"two columns of the table would be called {twice[0]!r}: give --output a name that ends in .npz")
    return pd.DataFrame(dict(columns)).to_csv(index=False).encode()
