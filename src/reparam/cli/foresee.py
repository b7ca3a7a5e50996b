"""`reparam predict RUN` of a world model: how sequences go on."""

from __future__ import annotations

from typing import Literal

import torch

from reparam.cli import opened
from reparam.cli.output import destination, write_npz
from reparam.errors import BadInputError
from reparam.training.config import pick

__all__ = ["predict"]

# Sequences that go through the model at once.
_BATCH = 32


def predict(
    run: str,
    output: str = "predictions.npz",
    context: int | None = None,
    n: int = 32,
    samples: int = 16,
    part: Literal["test", "validation", "train"] = "test",
    data: str | None = None,
    array: str | None = None,
    label: str | None = None,
    checkpoint: Literal["best", "last"] = "best",
    seed: int = 0,
) -> None:
    """How sequences go on after their first steps, as the world model of a run imagines it, given the actions that were taken.

    Args:
        run: the run's directory.
        output: .npz file to write, with arrays x, the steps to be predicted; prediction, the mean of what was imagined; samples, an
            imagination each, the means of the data given its states; reward, where the data have rewards; mask, which of the steps
            are there, where some sequences are shorter; row, and context.
        context: steps that the model sees; by default half of them.
        n: how many sequences, from the first on.
        samples: imaginations of each sequence.
        part: which rows of the run's data.
        data: other sequences than the run's.
        array: the array of a .npz file of other data.
        label: the column or array of other data that holds labels, which are left out.
        checkpoint: the weights with the best validation score, or the last.
        seed: of the noise.
    """
    for name, value in {"n": n, "samples": samples}.items():
        if value < 1:
            raise BadInputError(f"{name} is {value}: give at least 1")
    path = destination(output, (".npz",), data, opened.source(run))
    source = opened.noise(seed)
    model = opened.model(run, checkpoint)
    rows = opened.rows(run, part, data, array, label)
    steps = rows.shape[0]
    seen = max(1, steps // 2) if context is None else context
    if not 1 <= seen < steps:
        raise BadInputError(f"context is {seen}: give at least 1 step, and fewer than the {steps} of the sequences")
    with opened.fitting(model, rows) as inputs:
        places = torch.arange(min(n, len(rows)))
        found = [model.open_loop(pick(inputs, some), seen, samples=samples, source=source) for some in places.split(_BATCH)]
    imagined = torch.cat([one.imagined for one in found], 1)
    arrays = {"x": rows.x[places, seen:], "prediction": imagined.mean(0), "samples": imagined}
    if "mask" in rows.beside:
        arrays["mask"] = rows.beside["mask"][places, seen:]
    if found[0].reward is not None:
        arrays["reward"] = torch.cat([one.reward for one in found], 1).mean(0)
    numbers = places if rows.rows is None else rows.rows[places]
    arrays |= {"row": numbers, "context": torch.tensor(seen)}
    write_npz(path, {name: tensor.numpy() for name, tensor in arrays.items()})
    print(path)
