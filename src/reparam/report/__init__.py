"""A run as one self-contained page of pictures."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch

from reparam.errors import ArtefactError
from reparam.models import MODELS
from reparam.models.model import Evaluation
from reparam.models.trained import DataOptions, data_of, model_of
from reparam.noise import Fresh
from reparam.training import Monitor, Run, Training
from reparam.training.config import each
from reparam.training.storage import write_file

__all__ = ["write"]

# The numbers at the top come from at most so many test data, so that a page takes seconds; the page says how many.
_ROWS, _IMPORTANCE_SAMPLES = 1000, 200


def write(run: Run, *, evaluation: Evaluation | None = None) -> Path:
    """Write `report.html` into a run's directory, and return its path.

    The page shows the weights with the best validation score. It needs nothing beside itself: no script, no network, no other file.
    The same run gives the same page.

    Args:
        run: finished or not; its data must still be where they were.
        evaluation: of the model on test data, when it has been made already.

    Raises:
        ArtefactError: when the run has no epoch or no checkpoint yet, or they cannot be read.
        BadInputError: when its data are not there any more, or not the same.
        StorageError: when the page cannot be written.
    """
    from reparam.report.charts import curves, ratios
    from reparam.report.page import render
    from reparam.report.pieces import Figure, Section
    from reparam.report.sections import sections

    history = run.history()
    if not history:
        raise ArtefactError(f"{run.path} has no finished epoch yet: train first")
    model, splits = model_of(run), data_of(run)
    if evaluation is None:
        source = Fresh(torch.Generator().manual_seed(run.record["training"]["seed"]))
        inputs = each(lambda tensor: tensor[:_ROWS], model.inputs(splits.test))
        evaluation = model.evaluate(inputs, k=_IMPORTANCE_SAMPLES, source=source)
    best = _best(history, model.monitor)
    training = Section(
        "Training",
        "The evidence lower bound and its two terms after each epoch, in nats per datum.",
        [
            Figure(
                f"The dotted line marks epoch {best}, whose weights this page shows. The first epochs may lie outside the frame.",
                curves(history, best),
                ("train", "validation"),
            )
        ],
    )
    if groups := [name.removeprefix("snr/") for name in history[-1] if name.startswith("snr/")]:
        caption = "Of one step's gradient in each part of the model, the noise of the minibatch included."
        training.figures.append(Figure(caption, [ratios(history, groups)], tuple(groups)))
    record = run.record
    page = render(
        "page.html.j2",
        title=f"{record['model']['name'].upper()} on {record['data']['name']}",
        summary=MODELS[record["model"]["name"]].summary,
        idea=_idea(model),
        tiles=_tiles(evaluation, history, best),
        sections=[training, *sections(model, splits)],
        tables=_tables(record),
        command=_command(run),
        rows=evaluation.rows,
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
    )
    path = run.path / "report.html"
    write_file(path, page.encode())
    return path


def _idea(model: Any) -> dict[str, Any]:
    """The words of the first picture: how the gradient gets through the model's samples."""
    if getattr(model.config, "latent", "normal") == "normal":
        return {
            "text": "A sample drawn inside the model would stop the gradient. Here the noise ε is an input: the sample z is a "
            "differentiable function of the parameters θ, and the gradient of the cost flows back through it, into the encoder.",
            "parameters": "θ = μ(x), σ(x)",
            "sample": "z = μ + σ · ε",
            "through": True,
        }
    kind = "coins" if model.config.latent == "bernoulli" else "choices"
    how = model.config.estimator or model.config.objective
    return {
        "text": f"A sample z of {kind} jumps as the parameters θ move: no derivative passes through it. Its expected cost has a "
        f"gradient all the same, of which an estimator, here {how}, makes an estimate from the costs of samples.",
        "parameters": "θ = logits(x)",
        "sample": f"{kind} z(θ, ε)",
        "through": False,
    }


def _best(history: list[dict[str, Any]], monitor: Monitor) -> int:
    """The epoch with the best validation score."""
    sign = 1 if monitor.higher else -1
    row: dict[str, Any] = max(history, key=lambda row: sign * row[f"validation/{monitor.part}"])
    return int(row["epoch"])


def _tiles(evaluation: Evaluation, history: list[dict[str, Any]], best: int) -> list[tuple[str, str, str]]:
    """Headline numbers: name, value, remark."""
    tiles = [*evaluation.tiles(), ("epochs", str(history[-1]["epoch"]), f"the best is {best}")]
    return [*tiles, ("training", _duration(history[-1]["seconds"]), "by the clock")]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _tables(record: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    data = record["data"]
    sizes = ", ".join(f"{count} {name}" for name, count in data["sizes"].items())
    provenance = {
        "source": data["source"],
        "SHA-256": data["digest"],
        "shape": " × ".join(map(str, data["shape"])),
        "scaling": data["scaling"],
        "rows": f"{sizes} (split by seed {data['options']['split_seed']})",
    }
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **record["versions"]}
    tables = {"Model": record["model"]["config"], "Training": record["training"], "Data": provenance, "Versions": versions}
    return [(name, [(key, _shown(value)) for key, value in rows.items()]) for name, rows in tables.items()]


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def _command(run: Run) -> str:
    """The command that makes this run, with the settings that are not defaults; the same one goes on with it."""
    record = run.record
    name = record["model"]["name"]
    entry = MODELS[name]
    _, config = entry.load()
    options = {"data": record["data"]["source"], **record["data"]["options"]}
    words = ["reparam", "train", name, "--out", str(run.path)]
    for kind, settings in ((DataOptions, options), (config, record["model"]["config"]), (Training, record["training"])):
        words += _flags(kind, settings, entry.defaults)
    return shlex.join(words)


def _flags(kind: Any, settings: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    defaults = {**asdict(kind()), **own}
    for field in fields(kind):
        value = settings.get(field.name, defaults[field.name])
        if value is None or _shown(value) == _shown(defaults[field.name]):
            continue
        yield f"--{field.name}"
        yield _shown(value).replace(" ", "") if isinstance(value, list | tuple) else str(value)
