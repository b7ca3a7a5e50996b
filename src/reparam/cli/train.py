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
from reparam.data import Data, Splits
from reparam.data.split import RULE
from reparam.diagnostics import GradientMeter
from reparam.errors import ArtefactError, BadInputError
from reparam.models import MODELS
from reparam.models.trained import DataOptions, defaults_of, model_of, record, rule_of
from reparam.training import Result, Run, Training, fit
from reparam.training.config import each
from reparam.training.engine import leave
from reparam.training.progress import rounded
from reparam.training.randomness import source_of, stream_seed

__all__ = ["Outcome", "run"]


@dataclass(frozen=True)
class Outcome:
    """Where it goes.

    Attributes:
        out: the run's directory; runs/MODEL by default. The same command again goes on from its last checkpoint.
        restart: begin anew; what is there moves aside.
        force: go on with other settings than the run was begun with.
        importance_samples: samples of noise for each test datum, in the evaluation at the end.
        gradient_snr: after each epoch, note the signal to noise of the gradient of each part of the model, for the report.
    """

    out: str | None = None
    restart: bool = False
    force: bool = False
    importance_samples: int = 200
    gradient_snr: bool = False

    def __post_init__(self) -> None:
        if self.importance_samples < 1:
            raise BadInputError(f"importance_samples is {self.importance_samples}: give at least 1")
        if self.out is not None and (not self.out or "\0" in self.out):
            raise BadInputError(f"out is {self.out!r}: give the path of a directory")


def run(name: str, words: Sequence[str]) -> None:
    """Train a model, or go on training it.

    Args:
        name: as `MODELS` has it.
        words: the flags.
    """
    kind, config = MODELS[name].load()
    parser = Parser(f"reparam train {name}", f"Train a {MODELS[name].summary}.")
    parser.add_config()
    for group in (Outcome, DataOptions, config, Training):
        parser.add_fields(group)
    parser.set_defaults(dict(MODELS[name].defaults))
    settings = parser.read(words)
    outcome, options, model_config, training = (_take(group, settings) for group in (Outcome, DataOptions, config, Training))
    first = os.environ.get("RANK", "0") == "0"  # the process that prints and writes, of several
    options = _of_density(options, model_config, MODELS[name].defaults)
    directory = Path(outcome.out or f"runs/{name}")
    rule = _rule(directory, outcome)
    data, splits = options.load(rule)
    if first:
        steps = training.passes * max(1, len(splits.train) // training.batch_size)
        about = "" if data.source == "none" else f"{data.name}: {_parts(splits)}; "
        print(f"{about}{data.scaling}; {steps} step{'s' * (steps > 1)} an epoch", flush=True)
    with torch.random.fork_rng(devices=[]):  # the caller's generator is not ours to move
        torch.manual_seed(training.seed)
        model = kind.for_data(model_config, splits.train)
    if first and hasattr(model, "plan"):
        print(model.plan(), flush=True)
    remembered = record(name, model, training, options, data, splits, rule)
    if outcome.force and not outcome.restart:
        _check_weights_fit(directory, model)
    settings = {"force": outcome.force, "restart": outcome.restart, "defaults": defaults_of(name)}
    with Run.create(directory, remembered, **settings) as made:
        if made.aside:
            print(f"The run that was here is now {made.aside}", flush=True)
        meter = GradientMeter(model) if outcome.gradient_snr else None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(training.seed, "torch", int(os.environ.get("RANK", "0"))))  # what dropout draws from
            result = fit(model, model.inputs(splits.train), model.inputs(splits.validation), training, made, meter=meter)
        leave()  # all together: none waits while the first one concludes
        if first:
            _conclude(made, result, splits, outcome, training)


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


def _rule(directory: Path, outcome: Outcome) -> int:
    """By which rule rows are drawn: that of the run that is there, if it goes on."""
    if outcome.restart or not (directory / "run.json").exists():
        return RULE
    try:
        return rule_of(Run.open(directory))
    except ArtefactError:  # whoever goes on with it will say
        return RULE


def _check_weights_fit(directory: Path, model: Any) -> None:
    """Before a run that is there gets the record of other settings: what they cannot go on from is refused."""
    if not (directory / "run.json").exists() or not (there := Run.open(directory)).checkpoints():
        return
    try:
        there.load_weights(model, "last", allow_nonfinite=True)
    except ArtefactError as error:
        raise BadInputError(f"{error}: these settings cannot go on from it: give another --out, or --restart") from error


def _take(kind: Any, settings: Any) -> Any:
    return kind(**{field.name: settings[field.name] for field in fields(kind)})


def _parts(splits: Splits) -> str:
    parts = {"for training": splits.train, "for validation": splits.validation, "for the test": splits.test}
    # Rows that serve more than once are counted once.
    own = {use: part for use, part in parts.items() if part is splits.train or not _same_rows(part, splits.train)}
    more = [use for use in parts if use not in own]
    words = [f"{len(part)} {use}" for use, part in own.items()]
    words[0] += "".join(f" and {use}" for use in more)
    return ", ".join(words)


def _same_rows(a: Data, b: Data) -> bool:
    return a.rows is not None and b.rows is not None and a.rows.equal(b.rows)


def _conclude(made: Run, result: Result, splits: Splits, outcome: Outcome, training: Training) -> None:
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
    of = "the training rows" if _same_rows(splits.test, splits.train) else "the test set"
    print(f"Looking at {of}, and writing the report…", flush=True)
    source = source_of("fresh", training.seed, device)
    inputs = each(lambda tensor: tensor.to(device), model.inputs(splits.test))
    found = model.evaluate(inputs, k=outcome.importance_samples, source=source)
    print("\n".join([f"On {of}, {found.rows} data, nats per datum:", *found.lines()]), flush=True)
    print(f"Report: {write(made, evaluation=found)}")
    able = [name for name, method in _COMMANDS.items() if hasattr(model, method)]
    if made.record["data"]["source"] == "none" and "encode" in able:
        able.remove("encode")  # there is nothing to encode
    print("Next:" + "".join(f"\n  reparam {command} {shlex.quote(str(made.path))}" for command in able))


def _how_to_go_on(training: Training) -> str:
    if training.learning_rate_schedule != "constant":  # it has come to its end
        return "--restart begins anew"
    return "--epochs or --patience with a larger number goes on, --restart begins anew"


# What to do with a run, and the method of a model that it needs.
_COMMANDS = {
    "sample": "sample",
    "predict": "predict",
    "posterior": "posterior",
    "reconstruct": "reconstruct",
    "encode": "describe",
}
