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
from reparam.noise import Source
from reparam.training.storage import write_file

__all__ = ["run"]

Array = np.ndarray[Any, Any]

# Of the intervals that are written.
_LEVEL = 0.9
# Predictions, of all draws of the weights, that are held at once.
_CHUNK = 2**22


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
    parts, draw = [], source
    for x in rows.x.split(max(1, _CHUNK // samples)):
        found = predict(x, samples, source)
        parts.append({**(_classes(found) if hasattr(found, "classes") else _reals(found)), **_draws(found, draws, draw)})
        source = opened.noise(seed)  # the same networks for all data
    arrays = {name: np.concatenate([part[name] for part in parts], int(name == "draws")) for name in parts[0]}
    arrays = {"row": np.arange(len(rows)) if rows.rows is None else rows.rows.numpy(), **_truth(rows, model), **arrays}
    if path.suffix.lower() == ".npz":
        write_npz(path, arrays | ({"class": np.array(model.classes)} if model.classes else {}))
    else:
        write_file(path, _csv(list(_class_table(arrays, model.classes) if model.classes else _table(arrays, model.responses))))
    print(path)


def _check_shape(rows: Data, model: Any) -> None:
    """What `opened.fitting` looks at, but for what is to be predicted: data to be predicted for need not have it."""
    if rows.values in ("tokens", "table") or rows.shape != model.shape:
        came, wanted = (" x ".join(map(str, shape)) for shape in (rows.shape, model.shape))
        raise BadInputError(f"a datum of {rows.name} is {came}, and this model takes {wanted} numbers: give data of that shape")


def _truth(rows: Data, model: Any) -> dict[str, Array]:
    """What was to be predicted, where the data say."""
    if model.classes:
        return {} if rows.y is None or rows.classes is None else {"label": np.array(rows.classes)[rows.places.numpy()]}
    known = rows.response is not None and rows.response.shape[1] == len(model.responses)
    return {"response": rows.response.numpy()} if known and rows.response is not None else {}


def _reals(found: Any) -> dict[str, Array]:
    """By name, N x R each."""
    low, high = found.interval(_LEVEL)
    made = {"mean": found.mean, "epistemic": found.epistemic, "aleatoric": found.aleatoric, "low": low, "high": high}
    return {name: _as_floats(value) for name, value in made.items()}


def _classes(found: Any) -> dict[str, Array]:
    """By name: texts N, probabilities N x C, nats N."""
    parts = {"probability": found.mean, "epistemic": found.epistemic, "aleatoric": found.aleatoric}
    return {"predicted": np.array(found.labels), **{name: _as_floats(value) for name, value in parts.items()}}


def _draws(found: Any, n: int, source: Source) -> dict[str, Array]:
    """Drawn at random, n x N x R, of classes n x N texts; nothing for none."""
    if not n:
        return {}
    drawn = found.sample(n, source)
    return {"draws": np.array(found.classes)[drawn.numpy()] if hasattr(found, "classes") else _as_floats(drawn)}


def _as_floats(x: Tensor) -> Array:
    """What predictions are computed in has more digits than what they are computed from."""
    return x.float().numpy()


def _table(arrays: dict[str, Array], responses: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
    """The columns, those of each response together."""
    yield "row", arrays["row"]
    for i, name in enumerate(responses):
        for key, value in arrays.items():
            if key == "draws":
                yield from ((f"{name}_draw_{j}", row[:, i]) for j, row in enumerate(value))
            elif key != "row":
                yield name if key == "response" else f"{name}_{key}", value[:, i]


def _class_table(arrays: dict[str, Array], classes: tuple[str, ...]) -> Iterator[tuple[str, Array]]:
    """The columns, of probabilities one for each class."""
    for key, value in arrays.items():
        if key == "draws":
            yield from ((f"draw_{j}", row) for j, row in enumerate(value))
        elif key == "probability":
            yield from ((f"probability_{name}", value[:, i]) for i, name in enumerate(classes))
        else:
            yield key, value


def _csv(columns: list[tuple[str, Array]]) -> bytes:
    import pandas as pd

    names = [name for name, _ in columns]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise BadInputError(f"two columns of the table would be called {twice[0]!r}: give --output a name that ends in .npz")
    return pd.DataFrame(dict(columns)).to_csv(index=False).encode()
