"""A run as one self-contained page of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from reparam.errors import ArtefactError
from reparam.models import MODELS
from reparam.models.model import Evaluation
from reparam.models.trained import ENVIRONMENT, data_of, environment_of, model_of
from reparam.noise import Fresh
from reparam.training import Run
from reparam.training.config import ELBO, each
from reparam.training.storage import write_file

if TYPE_CHECKING:
    from reparam.environments.options import EnvironmentOptions
    from reparam.report.pieces import Section

__all__ = ["write"]

# The numbers at the top come from at most so many test data, so that a page takes seconds; the page says how many.
_ROWS, _IMPORTANCE_SAMPLES = 1000, 200
# Of texts, whose networks take a step for each token; and noises for each datum of a chain, whose network is asked at each.
_TEXTS, _NOISES = 200, 20
# What people call the models, where that is not the name of the command.
_NAMES = {"graphical": "Graphical model", "reinforce": "REINFORCE", "world": "World model"}


def write(run: Run, *, evaluation: Evaluation | None = None, environment: str | None = None) -> Path:
    """Write `report.html` into a run's directory, and return its path.

    The page shows the weights with the best validation score. It needs nothing beside itself: no script, no network, no other file.
    The same run gives the same page.

    Args:
        run: finished or not; its data must still be where they were, and its environment be installed.
        evaluation: of the model on test data or episodes, when it has been made already.
        environment: that of the run, where it is the user's own: nothing that a file names is imported.

    Raises:
        ArtefactError: when the run has no epoch or no checkpoint yet, or they cannot be read.
        BadInputError: when its data are not there any more, or not the same; when its environment cannot be had, or is the user's
            own and not named.
        StorageError: when the page cannot be written.
    """
    from reparam.report.idea import idea
    from reparam.report.page import render
    from reparam.report.settings import command, tables

    history = run.history()
    if not history:
        raise ArtefactError(f"{run.path} has no finished epoch yet: train first")
    options = environment_of(run, environment)
    model, best, record = model_of(run), _best(run), run.record
    shown = _of_data(run, model, history, best, evaluation) if options is None else _of_agent(run, model, options, best, evaluation)
    page = render(
        "page.html.j2",
        title=_title(record),
        summary=MODELS[record["model"]["name"]].summary if options is not None else _of_what(record),
        idea=idea(model, record["training"]),
        tiles=_tiles(shown.evaluation, history, best),
        sections=shown.sections,
        tables=tables(record),
        command=command(run),
        rows=f"{shown.evaluation.rows} {shown.rows}",
        parameters=f"{sum(p.numel() for p in model.parameters()):,}",
    )
    path = run.path / "report.html"
    write_file(path, page.encode())
    return path


class _Shown(NamedTuple):
    """What the page shows of a run.

    Attributes:
        evaluation: the numbers at its top.
        rows: what they are of.
        sections: its pictures.
    """

    evaluation: Evaluation
    rows: str
    sections: list[Section]


def _of_data(run: Run, model: Any, history: list[dict[str, Any]], best: int, evaluation: Evaluation | None) -> _Shown:
    from reparam.report.sections import sections

    splits = data_of(run)
    if evaluation is None:
        source = Fresh(torch.Generator().manual_seed(run.record["training"]["seed"]))
        rows = _TEXTS if splits.test.values == "tokens" else _ROWS
        inputs = each(lambda tensor: tensor[:rows], model.inputs(splits.test))
        evaluation = model.evaluate(inputs, k=_NOISES if hasattr(model, "trajectory") else _IMPORTANCE_SAMPLES, source=source)
    found = [_training(model, history, best, run.record)]
    if hasattr(model, "open_loop"):
        from reparam.report.agents import sections_of_world
        from reparam.report.recorded import recorded

        found += sections_of_world(recorded(model, splits), evaluation)
    else:
        found += sections(model, splits)
    return _Shown(evaluation, _kind_of_rows(model, run.record), found)


def _of_agent(run: Run, model: Any, options: EnvironmentOptions, best: int, evaluation: Evaluation | None) -> _Shown:
    from reparam.environments.episodes import Returns
    from reparam.report.agents import sections_of, watch

    agent = watch(model, options, run.record["training"]["seed"])
    evaluation = Returns.of(agent.episodes) if evaluation is None else evaluation
    return _Shown(evaluation, "test episodes", sections_of(agent, run.history(), best, evaluation))


def _of_what(record: Mapping[str, Any]) -> str:
    """What the model is, in a line, without the actor that there is in environments only."""
    return MODELS[record["model"]["name"]].summary.partition(", and an actor")[0]


def _title(record: Mapping[str, Any]) -> str:
    name = record["model"]["name"]
    target = record["model"]["config"].get("target")
    acts = record["data"]["source"] == ENVIRONMENT
    on = f"fitted to {target}" if target else f"{'in' if acts else 'on'} {record['data']['name']}"
    shown = _NAMES.get(name, name.upper() if len(name) <= 3 else name.capitalize())
    return f"{shown} {on}"


def _kind_of_rows(model: Any, record: Mapping[str, Any]) -> str:
    if getattr(model.config, "target", None):
        return "samples"
    kind = "sequences" if hasattr(model, "open_loop") else "data"
    return f"test {kind}" if record["data"]["options"].get("test_fraction", 0.1) > 0 else "training rows, as no others were kept"


def _training(model: Any, history: list[dict[str, Any]], best: int, record: Mapping[str, Any]) -> Section:
    from reparam.report.charts import curves, ratios
    from reparam.report.pieces import Figure, Section

    monitor = getattr(model, "monitor", ELBO)
    target = getattr(model, "target", None)
    truth = None if target is None else target.log_normaliser
    direction = "higher" if monitor.higher else "lower"
    each_one = "step" if hasattr(model, "open_loop") else "datum"
    unit = f"in nats per {each_one}" if target is None and monitor.part != "loss" else "in nats" if target is not None else ""
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
