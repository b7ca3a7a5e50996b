"""A run directory: what was trained, how it went, and the checkpoints, best and last, safe from whatever happens to the process."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import torch
from torch import nn

from reparam.errors import ArtefactError, BadInputError
from reparam.training import checkpoint as checkpoints
from reparam.training.average import QUANTITY
from reparam.training.checkpoint import Checkpoint
from reparam.training.storage import remove_folder, storing, sweep, write_file

__all__ = ["Run"]

# What may change without making it another run. Where the data lie is free, since their digest says whether they are the same;
# it covers the names of their labels and their codec too.
FREE = frozenset(
    [f"training.{name}" for name in ("epochs", "patience", "checkpoint_every", "keep", "device", "threads")]
    + [f"data.options.{name}" for name in ("workers", "test_episodes")]  # of an environment
    + ["data.source", "data.name", "data.classes", "data.columns", "data.responses"]
)
NOT_COMPARED = ("format", "versions", "data.codec")

# Settings that were called otherwise once.
RENAMED = {("data", "options", "bad_images"): "bad_files"}


def _flat(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    else:
        yield prefix, value


def _differences(old: Mapping[str, Any], new: Mapping[str, Any], defaults: Mapping[str, Any]) -> list[str]:
    """Which settings are not the same, in words; one that the old record does not know had its default."""
    a, b = dict(_flat(old)), dict(_flat(new))
    a = {name: value for name, value in _flat(defaults) if name in b} | a
    # What a schedule ends at shapes all of it.
    free = FREE - {"training.epochs"} if b.get("training.learning_rate_schedule", "constant") != "constant" else FREE
    names = [name for name in {**a, **b} if name not in free and not f"{name}.".startswith(tuple(f"{n}." for n in NOT_COMPARED))]
    return [_change(name, a, b) for name in names if a.get(name) != b.get(name)]


def _change(name: str, a: Mapping[str, Any], b: Mapping[str, Any]) -> str:
    if name == "data.digest":
        return "the data are not what they were"
    return f"{name} was {a.get(name, 'not there')!r}, now {b.get(name, 'not there')!r}"


def _lock(directory: Path) -> int:
    """Take the directory for this process; the system gives it back when the process ends, however it ends."""
    path = directory / "lock"
    with storing(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return descriptor
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise BadInputError(f"{directory} is in use by process {holder}: wait for it to end, or give another directory") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


class Run:
    """A directory that holds one training run.

        run.json       the record: versions, model, training and data settings
        history.csv    one row an epoch
        checkpoints/   step-00000123/…, the last few and the best
        best           the name of the best of them
        lock           the process that trains here

    Make one with `Run.create` to train, in a `with` block that gives the directory back; look at one with `Run.open`.
    """

    def __init__(self, path: Path, record: dict[str, Any], lock: int | None = None) -> None:
        self.path = path
        self.record = record
        self.aside: Path | None = None
        self._release = weakref.finalize(self, os.close, lock) if lock is not None else None

    @classmethod
    def create(
        cls,
        directory: str | Path,
        record: dict[str, Any],
        *,
        force: bool = False,
        restart: bool = False,
        defaults: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run, or take up the one that is there.

        The same record resumes. So does one that differs only in `training.epochs`, `patience`, `checkpoint_every`, `keep`,
        `device` or `threads`, or in where the same data lie: that is the same run, gone on with.

        Under `accelerate launch` every process calls this; only the first one locks and writes.

        Args:
            directory: made if needed.
            record: JSON values: model, training, data.
            force: go on with the new record, whatever it changes.
            restart: begin anew; what is there moves into a new directory beside it, which `aside` names.
            defaults: a record of the defaults of all settings: those of a run that was made before there was one.

        Raises:
            BadInputError: when the directory is in use by another process, or holds a run with another record (the message
                lists the differences).
            ArtefactError: when what is there cannot be read.
            StorageError: when the directory cannot be written.
        """
        path = Path(directory)
        fresh = {"format": checkpoints.FORMAT, "versions": checkpoints.versions(), **json.loads(json.dumps(record))}
        if int(os.environ.get("RANK", "0")) > 0:
            return cls(path, fresh)
        if path.exists() and not path.is_dir():
            raise BadInputError(f"{path} is a file: give a directory for the run")
        with storing(path):
            (path / "checkpoints").mkdir(parents=True, exist_ok=True)
        run = cls(path, fresh, _lock(path))
        try:
            run._settle(force=force, restart=restart, defaults=json.loads(json.dumps(defaults or {})))
        except BaseException:
            run.close()
            raise
        return run

    def _settle(self, *, force: bool, restart: bool, defaults: Mapping[str, Any]) -> None:
        sweep(self.path)
        sweep(self.path / "checkpoints")
        place = self.path / "run.json"
        if restart:
            self.aside = self._set_aside()
        elif place.exists():
            old = parse_record(place)
            begun = self.checkpoints() or (self.path / "best").exists()  # or there is nothing that other settings could spoil
            if (differences := _differences(old, self.record, defaults)) and begun and not force:
                more = f" and {len(differences) - 5} more" if differences[5:] else ""
                if any(text.startswith("training.epochs ") for text in differences):
                    more += " (the learning rate falls to 0 at the last epoch, so that more of them are another run)"
                raise BadInputError(
                    f"{self.path} holds a run with other settings: {'; '.join(differences[:5])}{more}: give another directory, "
                    "force (--force) to go on with the new settings, or restart (--restart) to begin anew"
                )
            if (self.path / "best").exists() and not self.checkpoints():
                raise ArtefactError(f"{self.path} has lost its checkpoints: put them back, or restart (--restart) to begin anew")
        elif self.checkpoints():
            raise ArtefactError(
                f"{place} is missing though there are checkpoints: put it back, or restart (--restart) to begin anew"
            )
        if not place.exists() or parse_record(place) != self.record:
            write_file(place, json.dumps(self.record, indent=1).encode())

    def _set_aside(self) -> Path | None:
        """Move a run out of the way, its record last; None where there is none. What it did not write stays."""
        held = [
            place
            for name in ("checkpoints", "best", "history.csv", "report.html", "run.json")
            if (place := self.path / name).exists()
        ]
        if len(held) == 1 and not self.checkpoints():
            return None
        real = self.path.resolve()
        aside = next(place for n in itertools.count(1) if not (place := real.with_name(f"{real.name}.old-{n}")).exists())
        with storing(aside):
            aside.mkdir()
            for place in held:
                place.rename(aside / place.name)
            (self.path / "checkpoints").mkdir()
        return aside

    @classmethod
    def open(cls, directory: str | Path) -> Run:
        """Look at a run, without locking or writing.

        Raises:
            ArtefactError: when there is none, or its record cannot be read.
        """
        path = Path(directory)
        if not path.is_dir() or not (path / "run.json").exists():
            what = (
                "is not a run: it has no run.json"
                if path.is_dir()
                else "is a file, not a run"
                if path.exists()
                else "does not exist"
            )
            raise ArtefactError(f"{path} {what}; give a directory that training made")
        return cls(path, parse_record(path / "run.json"))

    def history(self) -> list[dict[str, Any]]:
        """One row an epoch: `epoch`, `step`, `seconds`, and `train/<part>`, `validation/<part>` in nats per datum.

        With a meter, `snr/<group>`, too: NaN for the epochs that had none.

        Raises:
            ArtefactError: when the file is damaged.
        """
        path = self.path / "history.csv"
        if not path.exists():
            return []
        try:
            rows = list(csv.DictReader(io.StringIO(path.read_text())))
            return [{k: int(v) if k in ("epoch", "step") else float(v) for k, v in row.items()} for row in rows]
        except (OSError, ValueError, TypeError) as error:
            raise ArtefactError(f"{path} is damaged: {error}; training writes it anew at the next epoch") from error

    def write_history(self, rows: list[dict[str, Any]]) -> None:
        """Replace `history.csv`. Numbers are written so that reading gives the same bits.

        Raises:
            StorageError: when it cannot be written.
        """
        text = io.StringIO()
        if rows:
            names = list(dict.fromkeys(name for row in rows for name in row))
            table = csv.DictWriter(text, fieldnames=names, restval="nan", lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        write_file(self.path / "history.csv", text.getvalue().encode())

    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        return sorted((self.path / "checkpoints").glob("step-*"), key=lambda path: (len(path.name), path.name))

    def _place(self, which: Literal["best", "last"]) -> Path | None:
        if which not in ("best", "last"):
            raise BadInputError(f"which is {which!r}: give best or last")
        if which == "last":
            return folders[-1] if (folders := self.checkpoints()) else None
        marker = self.path / "best"
        # Only the name counts: a marker cannot point out of the run.
        return self.path / "checkpoints" / Path(marker.read_text().strip()).name if marker.exists() else None

    def read(self, which: Literal["best", "last"]) -> Checkpoint | None:
        """The best or the last checkpoint, verified; None when there is none.

        Raises:
            ArtefactError: when it is damaged; the message names the newest one that is whole, which is never used unasked.
        """
        place = self._place(which)
        if place is None:
            return None
        try:
            return checkpoints.read(place)
        except ArtefactError as error:
            for other in reversed(self.checkpoints()):
                if other == place:
                    continue
                try:
                    checkpoints.read(other)
                except ArtefactError:
                    continue
                hint = (
                    f"remove {place} to go on from it"
                    if which == "last"
                    else "the last one (--checkpoint last) may do, or train on"
                )
                raise ArtefactError(f"{error}; {other} is whole: {hint}") from error
            raise ArtefactError(f"{error}; no other checkpoint here is whole: restart the run (--restart)") from error

    def save(self, checkpoint: Checkpoint, keep: int) -> None:
        """Write a checkpoint, mark the best, and remove all but the best and the last `keep`.

        Raises:
            StorageError: when it cannot be written; those before it stay.
        """
        name = "step-{:08d}"
        checkpoints.write(self.path / "checkpoints" / name.format(checkpoint.state["step"]), checkpoint)
        best = checkpoint.state["best"]
        best_name = name.format(best["step"]) if best else ""
        if best and (self.path / "checkpoints" / best_name).exists():
            write_file(self.path / "best", best_name.encode())
        for folder in self.checkpoints()[:-keep]:
            if folder.name != best_name:
                remove_folder(folder)

    def load_weights(self, model: nn.Module, which: Literal["best", "last"] = "best", *, allow_nonfinite: bool = False) -> None:
        """Load verified weights, or their moving average where there is one, into a model that must fit them exactly.

        Args:
            model: changed in place.
            which: the epoch with the best validation score, or the last state.
            allow_nonfinite: load weights that hold NaN or infinity too.

        Raises:
            ArtefactError: when there is no such checkpoint, it is damaged, it belongs to another model, or holds NaN or infinity.
        """
        loaded = self.read(which)
        if loaded is None:
            hint = "its last one may do (--checkpoint last)" if self.checkpoints() else "train first"
            raise ArtefactError(f"{self.path} has no {which} checkpoint: {hint}")
        install(f"the {which} checkpoint of {self.path}", loaded, model, allow_nonfinite=allow_nonfinite, averaged=True)

    def close(self) -> None:
        """Give the directory back to other processes."""
        if self._release is not None:
            self._release()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def parse_record(path: Path) -> dict[str, Any]:
    """The record in a `run.json`.

    Raises:
        ArtefactError: when it is damaged or of a newer format.
    """
    record = checkpoints.parse_json(path)
    checkpoints.check_format(path, record)
    for (*sections, old), new in RENAMED.items():
        part: Any = record
        for section in sections:
            part = part.get(section) if isinstance(part, dict) else None
        if isinstance(part, dict) and old in part:
            part[new] = part.pop(old)
    return record


def install(what: str, checkpoint: Checkpoint, model: nn.Module, *, allow_nonfinite: bool = False, averaged: bool = False) -> None:
    """Put a checkpoint's weights into a model, strictly; where `averaged`, the moving average of those that have one.

    Raises:
        ArtefactError: for weights of another model, or (unless allowed) NaN or infinity in a parameter.
    """
    parameters = dict(model.named_parameters())
    held = {key.partition("/")[2]: tensor for key, tensor in checkpoint.optimizer.items() if key.startswith(f"{QUANTITY}/")}
    averages = {name: tensor for name, tensor in held.items() if averaged and name in parameters}
    checkpoints.check_match(what, checkpoint.weights | averages, model.state_dict())
    if not allow_nonfinite:
        weights = checkpoint.weights | averages
        checkpoints.check_finite(what, ((name, tensor) for name, tensor in weights.items() if name in parameters))
    model.load_state_dict(checkpoint.weights)
    with torch.no_grad():
        for name, tensor in averages.items():  # by parameter: weights that are tied have one, under the first of their names
            parameters[name].copy_(tensor)
