"""`reparam train MODEL`: data, model, run directory, training, and what came of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from reparam.cli.parser import Parser
from reparam.cli.work import Evaluating, InEnvironment, OnData, Work
from reparam.diagnostics import GradientMeter
from reparam.environments.options import EnvironmentOptions
from reparam.errors import ArtefactError, BadInputError
from reparam.models import MODELS, Entry
from reparam.models.trained import DataOptions, defaults_of, model_of
from reparam.training import Result, Run, Training, fit
from reparam.training.engine import leave
from reparam.training.progress import rounded
from reparam.training.randomness import stream_seed

__all__ = ["Outcome", "groups", "run"]


@dataclass(frozen=True)
class Outcome:
    """Where it goes.

    Attributes:
        out: the run's directory; runs/MODEL by default. The same command again goes on from its last checkpoint.
        restart: begin anew; what is there moves aside.
        force: go on with other settings than the run was begun with.
        gradient_snr: after each epoch, note the signal to noise of the gradient of each part of the model, for the report.
    """

    out: str | None = None
    restart: bool = False
    force: bool = False
    gradient_snr: bool = False

    def __post_init__(self) -> None:
        if self.out is not None and (not self.out or "\0" in self.out):
            raise BadInputError(f"out is {self.out!r}: give the path of a directory")


def groups(name: str) -> list[Any]:
    """The dataclasses whose fields are the flags of a model."""
    entry = MODELS[name]
    on_data = [DataOptions, Evaluating] if entry.on_data else []
    return [Outcome, *on_data, *([EnvironmentOptions] if entry.environment else []), entry.load()[1], Training]


def run(name: str, words: Sequence[str]) -> None:
    """Train a model, or go on training it.

    Args:
        name: as `MODELS` has it.
        words: the flags.
    """
    entry = MODELS[name]
    kind, config = entry.load()
    parser = Parser(f"reparam train {name}", f"Train a {entry.summary}.")
    parser.add_config()
    for group in groups(name):
        parser.add_fields(group)
    general = {name: parser.get_default(name) for name in entry.defaults}
    parser.set_defaults(dict(entry.defaults))
    settings = parser.read(words)
    if entry.data_defaults and settings["data"] != "none":
        parser.set_defaults(general | dict(entry.data_defaults))
        settings = parser.read(words)
    outcome, model_config, training = (_take(group, settings) for group in (Outcome, config, Training))
    first = os.environ.get("RANK", "0") == "0"  # the process that prints and writes, of several
    directory = Path(outcome.out or f"runs/{name}")
    work = _work(entry, settings, model_config, directory, outcome)
    with torch.random.fork_rng(devices=[]):  # the caller's generator is not ours to move
        torch.manual_seed(training.seed)
        model = work.model(kind, model_config)
    if first:
        print(work.about(model, training), flush=True)
    if first and hasattr(model, "plan"):
        print(model.plan(), flush=True)
    remembered = work.record(name, model, training)
    if outcome.force and not outcome.restart:
        _check_fit(directory, model, work, training)
    settings = {"force": outcome.force, "restart": outcome.restart, "defaults": defaults_of(name)}
    with Run.create(directory, remembered, **settings) as made:
        if made.aside:
            print(f"The run that was here is now {made.aside}", flush=True)
        meter = GradientMeter(model) if outcome.gradient_snr else None
        with torch.random.fork_rng(devices=[]), work.batches(model, training) as (train, validation):
            torch.manual_seed(stream_seed(training.seed, "torch", int(os.environ.get("RANK", "0"))))  # what dropout draws from
            result = fit(model, train, validation, training, made, meter=meter)
        leave()  # all together: none waits while the first one concludes
        if first:
            _conclude(made, result, work, training)


def _work(entry: Entry, settings: Any, config: Any, directory: Path, outcome: Outcome) -> Work:
    """What to train on: data where they are named, or else the environment, of a model that can have either.

    Raises:
        BadInputError: for both, or what cannot be used.
    """
    if entry.environment is not None:
        environment: EnvironmentOptions = _take(EnvironmentOptions, settings)
        if not entry.on_data:
            return InEnvironment(environment)
        if settings["data"] == "none":
            what = "an environment: name data (--data), or leave it out"
            _refuse_unused(DataOptions(data="none"), _take(DataOptions, settings), what)
            return InEnvironment(environment)
        plain = EnvironmentOptions(environment=entry.environment)
        _refuse_unused(plain, environment, f"the data {settings['data']!r}: leave it out")
    options = _of_density(_take(DataOptions, settings), config, entry.defaults)
    return OnData(options, _take(Evaluating, settings), directory, restart=outcome.restart)


def _refuse_unused(plain: Any, given: Any, what: str) -> None:
    """Settings of what a model is not trained on now.

    Raises:
        BadInputError: naming the first that is not the default.
    """
    for field in fields(plain):
        if (value := getattr(given, field.name)) != getattr(plain, field.name):
            raise BadInputError(f"{field.name}={value!r} has no meaning for {what}")


def _of_density(options: DataOptions, config: Any, defaults: Mapping[str, Any]) -> DataOptions:
    """The options of data; none for a model that is fitted to a density (`target`), and for no other.

    Raises:
        BadInputError: for a density and data, or neither.
    """
    if getattr(config, "target", None) is None:
        if options.data == "none":
            raise BadInputError("data is none, and there is no density to fit instead: name data (--data)")
        return options
    if options.data not in ("none", defaults.get("data", DataOptions.data)):
        raise BadInputError(f"target {config.target!r} is a density to fit, and data are {options.data!r}: leave one out")
    return replace(options, data="none")


def _check_fit(directory: Path, model: Any, work: Work, training: Training) -> None:
    """Before a run that is there gets the record of other settings: what they cannot go on from is refused."""
    if not (directory / "run.json").exists() or not (there := Run.open(directory)).checkpoints():
        return
    try:
        there.load_weights(model, "last", allow_nonfinite=True)
        if (last := there.read("last")) is not None:
            work.check(model, training, last)
    except ArtefactError as error:
        raise BadInputError(f"{error}: these settings cannot go on from it: give another --out, or --restart") from error


def _take(kind: Any, settings: Any) -> Any:
    return kind(**{field.name: settings[field.name] for field in fields(kind)})


def _conclude(made: Run, result: Result, work: Work, training: Training) -> None:
    """Evaluate the best weights, write the report, and say where things are and how to go on."""
    from reparam.report import write

    page, last = made.path / "report.html", made.checkpoints()[-1]
    device = torch.device("cuda" if training.device != "cpu" and torch.cuda.is_available() else "cpu")
    model = model_of(made).to(device)
    score = f"validation {model.monitor.words}"
    epochs = f"{result.epochs} epoch{'s' if result.epochs > 1 else ''}"
    print(
        {
            "finished": f"Finished {epochs}.",
            "stopped early": f"Stopped early after {epochs}, {training.patience} without a better {score}.",
            "already finished": f"{made.path} is finished already, after {epochs}: {_how_to_go_on(training)}.",
        }[result.status],
        f"The best {score} is {rounded(result.best)}.",
    )
    if result.status == "already finished" and page.exists() and page.stat().st_mtime >= last.stat().st_mtime:
        print(f"Report: {page}")
        return
    print(f"Looking at {work.looked_at}, and writing the report…", flush=True)
    heading, found = work.evaluate(model, training.seed)
    print("\n".join([heading, *found.lines()]), flush=True)
    print(f"Report: {write(made, evaluation=found, environment=work.environment)}")
    named = f" --environment {work.environment}" if work.environment and ":" in work.environment else ""
    print("Next:" + "".join(f"\n  reparam {command} {shlex.quote(str(made.path))}{named}" for command in work.next(model)))


def _how_to_go_on(training: Training) -> str:
    if training.learning_rate_schedule != "constant":  # it has come to its end
        return "--restart begins anew"
    return "--epochs or --patience with a larger number goes on, --restart begins anew"
