"""From a run directory back to the model and the data it was trained on; nothing named in a file is imported."""

from __future__ import annotations

import warnings
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch

from reparam.data import Data, DataWarning, Splits, load, split
from reparam.data.sequences import Actions, Layout
from reparam.data.split import RULE
from reparam.environments.options import EnvironmentOptions
from reparam.errors import ArtefactError, BadInputError
from reparam.models import MODELS
from reparam.training import Run, Training

__all__ = [
    "ENVIRONMENT",
    "DataOptions",
    "data_of",
    "defaults_of",
    "environment_of",
    "kind_of",
    "model_of",
    "record",
    "record_in_environment",
    "rule_of",
]

#: The source of data of a run that has an environment in their place.
ENVIRONMENT = "environment"


@dataclass(frozen=True)
class DataOptions:
    """What to train on.

    Attributes:
        data: digits, moons, breast_cancer, diabetes, iris, eight_schools, mnist, or the path of a .npz, .npy, .csv, .parquet or
            .txt file, or of a folder of images, of IDX files or of WAV recordings.
        array: the array of a .npz file to use, where its names do not tell.
        label: the column of a table, or the array of a .npz file, that holds the labels; of recordings, name takes the first part
            of the file's name, as 7 in 7_jackson_3.wav.
        response: the columns of a table, or the array of a .npz file, that hold reals to be predicted.
        gaps: what a table with empty cells does; keep reads it as it is, texts as categories, for models of such tables.
        categorical: with gaps=keep, columns whose numbers are categories.
        bad_files: what an unusable image or recording in a folder does; skip warns.
        tokens: what a line of text is made of: characters, or bpe for pieces of words (byte-level byte pair encoding).
        vocabulary: pieces that bpe makes.
        longest: the most tokens that a line of text may have.
        long_lines: what a longer line does; cut keeps its first tokens.
        rate: samples a second that recordings are brought to; by default the lowest that one of them has.
        mels: bands of the log-mel spectrogram of a recording; 40 by default.
        seconds: to which recordings are cut or filled up with silence; by default the length of the longest.
        layout: what a .npz, .npy, .csv or .parquet file holds: auto reads rows, sequence what follows on one another in time, with
            actions and rewards beside it where there are arrays or columns of these names.
        window: the most steps of the windows that sequences are cut into, such as one long recording.
        actions: of sequences, whether action t of a file was taken at observation t, as gymnasium, minari and D4RL record, or led
            to it.
        split_seed: fixes which rows are for training, validation and test.
        validation_fraction: share of the rows for validation, unless the data come with their own; 0: the training rows serve.
        test_fraction: share of the rows for the test, unless the data come with their own.
    """

    data: str = "digits"
    array: str | None = None
    label: str | None = None
    response: tuple[str, ...] | None = None
    gaps: Literal["fail", "keep"] = "fail"
    categorical: tuple[str, ...] | None = None
    bad_files: Literal["fail", "skip"] = "fail"
    tokens: Literal["characters", "bpe"] = "characters"
    vocabulary: int = 1000
    longest: int = 512
    long_lines: Literal["fail", "cut"] = "fail"
    rate: int | None = None
    mels: int | None = None
    seconds: float | None = None
    layout: Layout = "auto"
    window: int | None = None
    actions: Actions = "taken"
    split_seed: int = 0
    validation_fraction: float = 0.1
    test_fraction: float = 0.1

    def load(self, rule: int = RULE) -> tuple[Data, Splits]:
        """The data, checked, and their split, by the rule of [`split`][reparam.data.split.split] that a run was begun with.

        Raises:
            BadInputError: for data that cannot be used, or fractions that leave nothing.
        """
        data = load(
            self.data,
            array=self.array,
            label=self.label,
            response=self.response,
            on_error=self.bad_files,
            text=self._given("tokens", "vocabulary", "longest", "long_lines"),
            sound=self._given("rate", "mels", "seconds"),
            **self._given("gaps", "categorical", "layout", "window", "actions"),
        )
        shares = {"validation": self.validation_fraction, "test": self.test_fraction}
        return data, split(data, seed=self.split_seed, **shares, rule=rule)

    def _given(self, *names: str) -> dict[str, Any]:
        """Those of these options that are not the default: data that have no use for them refuse them."""
        return {name: getattr(self, name) for name in names if getattr(self, name) != getattr(DataOptions, name)}


def record(
    name: str, model: Any, training: Training, options: DataOptions, data: Data, splits: Splits, rule: int = RULE
) -> dict[str, Any]:
    """What a run directory remembers: enough to make the model and find the data again, and to tell whether they are the same.

    Args:
        name: of the model, as `MODELS` has it.
        model: it; its `config` has every choice made.
        training: the settings of training.
        options: where the data came from.
        data: all of them.
        splits: their rows for training, validation and test.
        rule: by which they were drawn.
    """
    sizes = {"train": len(splits.train), "validation": len(splits.validation), "test": len(splits.test)}
    return {
        "model": {"name": name, "config": asdict(model.config)},
        "training": asdict(training),
        "data": {
            "source": data.source,
            "name": data.name,
            "digest": data.digest,
            "shape": list(model.shape),
            "values": data.values,
            "levels": data.levels,
            "classes": data.classes,
            "codec": data.codec and data.codec.facts(),
            "columns": data.columns,
            "responses": data.responses,
            "sequence": data.sequence,
            "beside": _beside(data),
            "scaling": data.scaling,
            "options": {key: value for key, value in asdict(options).items() if key != "data"},
            "sizes": sizes,
            "split_rule": rule,
        },
    }


def record_in_environment(name: str, model: Any, training: Training, options: EnvironmentOptions) -> dict[str, Any]:
    """What the directory of a run in an environment remembers.

    Args:
        name: of the model, as `MODELS` has it.
        model: it; its `config` has every choice made.
        training: the settings of training.
        options: the environment.
    """
    spaces = model.spaces
    return {
        "model": {"name": name, "config": asdict(model.config)},
        "training": asdict(training),
        "data": {
            "source": ENVIRONMENT,
            "name": options.environment,
            "environment": options.environment,
            "shape": list(spaces.observation),
            "values": spaces.values,
            "levels": spaces.levels,
            "spaces": spaces.facts(),
            "options": {key: value for key, value in asdict(options).items() if key != "environment"},
        },
    }


def environment_of(run: Run, named: str | None = None) -> EnvironmentOptions | None:
    """The environment that a run was trained in; None of a run on data.

    Args:
        run: it.
        named: another environment; or that of the run, where it is the user's own: only naming it again imports it.

    Raises:
        ArtefactError: when the record does not say.
        BadInputError: when it is the user's own, and not named.
    """
    recorded = run.record.get("data")
    if not isinstance(recorded, dict) or recorded.get("source") != ENVIRONMENT:
        return None
    try:
        options = EnvironmentOptions(environment=named or recorded["environment"], **recorded["options"])
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{run.path / 'run.json'} does not say what environment it is of: {error}") from error
    if named is None and ":" in options.environment:
        raise BadInputError(
            f"{run.path} was trained in an environment of your own: name it again, --environment {options.environment}, since "
            "nothing that a file names is imported"
        )
    return options


def _beside(data: Data) -> dict[str, Any] | None:
    """What comes beside the steps of sequences."""
    if not data.sequence:
        return None
    action = data.beside.get("action")
    shape = None if action is None else list(action.shape[2:])
    there = {name: name in data.beside for name in ("reward", "terminated")}
    return {"action": shape, "choices": list(data.choices or ()), **there}


def defaults_of(name: str) -> dict[str, Any]:
    """A record of the defaults of all settings, for runs that were made before there was one of them."""
    _, config = MODELS[name].load()
    options = {key: value for key, value in asdict(DataOptions()).items() if key != "data"} | asdict(EnvironmentOptions())
    data = {"options": options, "split_rule": 1, "sequence": False, "beside": None}
    return {"model": {"config": asdict(config())}, "training": asdict(Training()), "data": data}


def rule_of(run: Run) -> int:
    """The rule by which a run's rows were drawn."""
    data = run.record.get("data")
    found = data.get("split_rule", 1) if isinstance(data, dict) else RULE
    return found if isinstance(found, int) else RULE


def kind_of(run: Run) -> Any:
    """The class of the model of a run.

    Raises:
        ArtefactError: when the record does not say, or names one that is unknown.
    """
    made = run.record.get("model")
    name = made.get("name") if isinstance(made, dict) else None
    if not isinstance(name, str):
        raise ArtefactError(f"{run.path / 'run.json'} does not describe a model: it has no name of one")
    if name not in MODELS:
        raise ArtefactError(f"{run.path} is of a model {name!r}: this version knows {', '.join(MODELS)}")
    return MODELS[name].load()[0]


def model_of(run: Run, which: Literal["best", "last"] = "best") -> Any:
    """The model of a run, in evaluation mode, on the CPU.

    Raises:
        ArtefactError: when the record or the checkpoint cannot be used.
    """
    try:
        made, data = run.record["model"], run.record["data"]
        kind_of(run)
        kind, config = MODELS[made["name"]].load()
        with torch.random.fork_rng(devices=[]):  # first weights, soon replaced, are no reason to move the caller's generator
            model: Any = kind.from_record(config(**made["config"]), data)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(f"{run.path / 'run.json'} does not describe a model: {error}") from error
    run.load_weights(model, which)
    if hasattr(model, "remember"):  # what it is asked is about the rows it was trained on
        with suppress(BadInputError):  # they may be elsewhere now, and much can be asked without them
            model.remember(data_of(run).train)
    return model.eval()


def data_of(run: Run) -> Splits:
    """The data of a run, read again from where they were, split as they were.

    Raises:
        ArtefactError: when the record does not say.
        BadInputError: when they are not there any more, or not the same.
    """
    try:
        recorded = run.record["data"]
        if recorded["source"] == ENVIRONMENT:
            raise BadInputError(f"{run.path} was trained in {recorded['name']}, not on data: evaluate and sample let it act there")
        options = DataOptions(data=recorded["source"], **recorded["options"])
        digest = recorded["digest"]
    except (KeyError, TypeError) as error:
        raise ArtefactError(f"{run.path / 'run.json'} does not say what data it is of: {error}") from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)  # what is odd about them was said when they were trained on
        data, splits = options.load(rule_of(run))
    if data.digest != digest:
        raise BadInputError(f"{options.data!r} has changed since {run.path} was trained on it: put it back, or name other data")
    return splits
