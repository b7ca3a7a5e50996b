"""What `reparam train` trains a model on: rows of data, or steps in an environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from reparam.data import Data
from reparam.data.split import RULE
from reparam.environments.episodes import Returns, play
from reparam.environments.experience import Rollout
from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.errors import ArtefactError, BadInputError
from reparam.models.model import Evaluation
from reparam.models.trained import DataOptions, record, record_in_environment, rule_of
from reparam.training import Batch, Run, Stream, Training
from reparam.training.checkpoint import Checkpoint
from reparam.training.config import each
from reparam.training.randomness import source_of, stream_seed

__all__ = ["Evaluating", "InEnvironment", "OnData", "Work"]


# What to do with a run, and the method of a model that it needs.
_COMMANDS = (
    ("sample", "sample"),
    ("predict", "predict"),
    ("predict", "open_loop"),
    ("posterior", "posterior"),
    ("reconstruct", "reconstruct"),
    ("encode", "describe"),
)


@dataclass(frozen=True)
class Evaluating:
    """How it is judged.

    Attributes:
        importance_samples: samples of noise for each test datum, in the evaluation at the end.
    """

    importance_samples: int = 200

    def __post_init__(self) -> None:
        if self.importance_samples < 1:
            raise BadInputError(f"importance_samples is {self.importance_samples}: give at least 1")


class Work(Protocol):
    """What a model is trained on, and judged by."""

    def about(self, model: Any, training: Training) -> str:
        """A line that says what there is."""
        ...

    def model(self, kind: Any, config: Any) -> Any:
        """A model for it."""
        ...

    def record(self, name: str, model: Any, training: Training) -> dict[str, Any]:
        """What the run remembers."""
        ...

    def batches(self, model: Any, training: Training) -> AbstractContextManager[tuple[Batch | Stream, Batch | None]]:
        """What `fit` takes: for training, and for validation."""
        ...

    def check(self, model: Any, training: Training, checkpoint: Checkpoint) -> None:
        """Whether it can go on from a checkpoint.

        Raises:
            BadInputError, ArtefactError: when it cannot.
        """
        ...

    @property
    def looked_at(self) -> str:
        """What the model is evaluated on, in words."""
        ...

    @property
    def environment(self) -> str | None:
        """The environment as the user named it; None on data."""
        ...

    def next(self, model: Any) -> list[str]:
        """The commands that show what the model can do now."""
        ...

    def evaluate(self, model: Any, seed: int) -> tuple[str, Evaluation]:
        """What the trained model is worth, with a heading."""
        ...


class OnData:
    """Rows of data.

    Args:
        options: which, and how they are split.
        evaluating: how the model is judged.
        directory: of the run, which may have begun with an older rule of splitting.
        restart: whether it begins anew.

    Raises:
        BadInputError: for data that cannot be used.
    """

    def __init__(self, options: DataOptions, evaluating: Evaluating, directory: Path, *, restart: bool) -> None:
        self.options, self.evaluating = options, evaluating
        self.rule = RULE if restart else _rule(directory)
        self.data, self.splits = options.load(self.rule)

    def about(self, model: Any, training: Training) -> str:
        steps = training.passes * max(1, len(self.splits.train) // training.batch_size)
        about = "" if self.data.source == "none" else f"{self.data.name}: {self._parts()}; "
        return f"{about}{self.data.scaling}; {steps} step{'s' * (steps > 1)} an epoch"

    def model(self, kind: Any, config: Any) -> Any:
        return kind.for_data(config, self.splits.train)

    def record(self, name: str, model: Any, training: Training) -> dict[str, Any]:
        return record(name, model, training, self.options, self.data, self.splits, self.rule)

    def batches(self, model: Any, training: Training) -> AbstractContextManager[tuple[Batch | Stream, Batch | None]]:
        return nullcontext((model.inputs(self.splits.train), model.inputs(self.splits.validation)))

    def check(self, model: Any, training: Training, checkpoint: Checkpoint) -> None:
        pass

    @property
    def environment(self) -> str | None:
        return None

    def next(self, model: Any) -> list[str]:
        able = [name for name, method in _COMMANDS if hasattr(model, method)]
        return [name for name in able if name != "encode" or self.data.source != "none"]  # there is nothing to encode

    @property
    def looked_at(self) -> str:
        return "the training rows" if _same_rows(self.splits.test, self.splits.train) else "the test set"

    def evaluate(self, model: Any, seed: int) -> tuple[str, Evaluation]:
        device = next(model.parameters()).device
        inputs = each(lambda tensor: tensor.to(device), model.inputs(self.splits.test))
        found = model.evaluate(inputs, k=self.evaluating.importance_samples, source=source_of("fresh", seed, device))
        what = "sequences" if self.data.sequence else "data, nats per datum"
        return f"On {self.looked_at}, {found.rows} {what}:", found

    def _parts(self) -> str:
        splits = self.splits
        parts = {"for training": splits.train, "for validation": splits.validation, "for the test": splits.test}
        # Rows that serve more than once are counted once.
        own = {use: part for use, part in parts.items() if part is splits.train or not _same_rows(part, splits.train)}
        more = [use for use in parts if use not in own]
        words = [f"{len(part)} {use}" for use, part in own.items()]
        words[0] += "".join(f" and {use}" for use in more)
        return ", ".join(words)


class InEnvironment:
    """Steps in an environment.

    Args:
        options: which, and how much of it.

    Raises:
        BadInputError: for an environment that cannot be used, and when several processes were launched.
    """

    def __init__(self, options: EnvironmentOptions) -> None:
        if (world := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
            raise BadInputError(
                f"{options.environment} is an environment, which drives training in one process, and {world} were launched: start "
                "reparam train without a launcher (--copies and --workers use more cores)"
            )
        self.options, self.spaces = options, options.spaces()

    def about(self, model: Any, training: Training) -> str:
        options, plan = self.options, model.learns_from
        steps = f"{options.epoch_steps} steps"
        if isinstance(plan, Rollout):
            whole = plan.an_epoch(options.epoch_steps, options.copies) * plan.steps * options.copies
            steps = f"{whole} steps and restarts, in whole rollouts,"
        return f"{options.environment}: {self.spaces.words}; {steps} an epoch"

    def model(self, kind: Any, config: Any) -> Any:
        return kind.for_environment(config, self.spaces)

    def record(self, name: str, model: Any, training: Training) -> dict[str, Any]:
        return record_in_environment(name, model, training, self.options)

    def batches(self, model: Any, training: Training) -> AbstractContextManager[tuple[Batch | Stream, Batch | None]]:
        return _open(Interaction(model, self.options, training))

    def check(self, model: Any, training: Training, checkpoint: Checkpoint) -> None:
        with Interaction(model, self.options, training) as stream:
            stream.restore(checkpoint.state.get("stream", {}), checkpoint.experience)

    @property
    def environment(self) -> str | None:
        return self.options.environment

    def next(self, model: Any) -> list[str]:
        return ["sample"]

    @property
    def looked_at(self) -> str:
        return f"{self.options.test_episodes} episodes"

    def evaluate(self, model: Any, seed: int) -> tuple[str, Evaluation]:
        options = self.options
        episodes = play(
            model,
            options.environment,
            episodes=options.test_episodes,
            seed=stream_seed(seed, "test episodes", 0),
            copies=min(10, options.test_episodes),
            limit=options.episode_limit,
        )
        return f"In {options.environment}:", Returns.of(episodes)


@contextmanager
def _open(stream: Interaction) -> Iterator[tuple[Stream, None]]:
    with stream:
        yield stream, None


def _rule(directory: Path) -> int:
    """By which rule rows are drawn: that of the run that is there, if it goes on."""
    if not (directory / "run.json").exists():
        return RULE
    try:
        return rule_of(Run.open(directory))
    except ArtefactError:  # whoever goes on with it will say
        return RULE


def _same_rows(a: Data, b: Data) -> bool:
    return a.rows is not None and b.rows is not None and a.rows.equal(b.rows)
