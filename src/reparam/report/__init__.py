"""A run as one self-contained page of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from reparam.errors import ArtefactError
from reparam.models import MODELS
from reparam.models.model import Evaluation
from reparam.models.trained import data_of, model_of
from reparam.noise import Fresh
from reparam.training import Run
from reparam.training.config import ELBO, each
from reparam.training.storage import write_file

if TYPE_CHECKING:
    from reparam.report.pieces import Section

__all__ = ["write"]

# The numbers at the top come from at most so many test data, so that a page takes seconds; the page says how many.
_ROWS, _IMPORTANCE_SAMPLES = 1000, 200
# Of texts, whose networks take a step for each token; and noises for each datum of a chain, whose network is asked at each.
_TEXTS, _NOISES = 200, 20


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
    from reparam.report.idea import idea
    from reparam.report.page import render
    from reparam.report.sections import sections
    from reparam.report.settings import command, tables

    history = run.history()
    if not history:
        raise ArtefactError(f"{run.path} has no finished epoch yet: train first")
    model, splits = model_of(run), data_of(run)
    if evaluation is None:
        source = Fresh(torch.Generator().manual_seed(run.record["training"]["seed"]))
        rows = _TEXTS if splits.test.values == "tokens" else _ROWS
        inputs = each(lambda tensor: tensor[:rows], model.inputs(splits.test))
        evaluation = model.evaluate(inputs, k=_NOISES if hasattr(model, "trajectory") else _IMPORTANCE_SAMPLES, source=source)
    best = _best(run)
    record = run.record
    page = render(
        "page.html.j2",
        title=_title(record),
        summary=MODELS[record["model"]["name"]].summary,
        idea=idea(model, record["training"]),
        tiles=_tiles(evaluation, history, best),
        sections=[_training(model, history, best, record), *sections(model, splits)],
        tables=tables(record),
        command=command(run),
        rows=f"{evaluation.rows} {_kind_of_rows(model, record)}",
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
    )
    path = run.path / "report.html"
    write_file(path, page.encode())
    return path


def _title(record: Mapping[str, Any]) -> str:
    name = record["model"]["name"]
    target = record["model"]["config"].get("target")
    on = f"fitted to {target}" if target else f"on {record['data']['name']}"
    shown = {"graphical": "Graphical model"}.get(name, name.upper() if len(name) <= 3 else name.capitalize())
    return f"{shown} {on}"


def _kind_of_rows(model: Any, record: Mapping[str, Any]) -> str:
    if getattr(model.config, "target", None):
        return "samples"
    return "test data" if record["data"]["options"].get("test_fraction", 0.1) > 0 else "training rows, as no others were kept"


def _training(model: Any, history: list[dict[str, Any]], best: int, record: Mapping[str, Any]) -> Section:
    from reparam.report.charts import curves, ratios
    from reparam.report.pieces import Figure, Section

    monitor = getattr(model, "monitor", ELBO)
    target = getattr(model, "target", None)
    truth = None if target is None else target.log_normaliser
    direction = "higher" if monitor.higher else "lower"
    unit = "in nats per datum" if target is None and monitor.part != "loss" else "in nats" if target is not None else ""
    caption = f"The dotted line marks epoch {best}, whose weights this page shows. The first epochs may lie outside the frame."
    if truth is not None:
        caption += f" The green line is the log-normaliser, {truth:.3f}: no ELBO is above it but by chance."
    if target is None and record["data"]["options"].get("validation_fraction") == 0:
        caption += " Validation is on the training rows, as no others were kept: the curves differ by the noise of their draws."
    drawn = curves(history, best, monitor, truth=truth)
    terms = " and the terms it is made of" if len(drawn) > 1 else ""
    words = monitor.words[0].upper() + monitor.words[1:]
    lead = f"{words}{terms} after each epoch{', ' if unit else ''}{unit}: {direction} is better."
    made = Section("Training", lead, [Figure(caption, drawn, ("train", "validation"), wide=len(drawn) > 2)])
    if groups := [name.removeprefix("snr/") for name in history[-1] if name.startswith("snr/")]:
        caption = "Of one step's gradient in each part of the model, the noise of the minibatch included."
        made.figures.append(Figure(caption, [ratios(history, groups)], tuple(groups)))
    return made


def _best(run: Run) -> int:
    """The epoch whose weights are the best."""
    checkpoint = run.read("best")
    if checkpoint is None or not checkpoint.state["best"]:
        raise ArtefactError(f"{run.path} has no best epoch: train on")
    return int(checkpoint.state["best"]["epoch"])


def _tiles(evaluation: Evaluation, history: list[dict[str, Any]], best: int) -> list[tuple[str, str, str]]:
    """Headline numbers: name, value, remark."""
    tiles = [*evaluation.tiles(), ("epochs", str(history[-1]["epoch"]), f"the best is {best}")]
    return [*tiles, ("training", _duration(history[-1]["seconds"]), "by the clock")]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
