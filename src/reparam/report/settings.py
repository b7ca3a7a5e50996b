"""How a run was made: its settings, its data, and the command that makes it again."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from typing import Any

from reparam.environments.options import EnvironmentOptions
from reparam.environments.spaces import Spaces
from reparam.models import MODELS
from reparam.models.trained import ENVIRONMENT, DataOptions
from reparam.training import Run, Training

__all__ = ["command", "tables"]

# Settings of acting and of learning to act, which a world model of recorded sequences has no use for.
_ACTING = frozenset(
    [
        "sequence_length",
        "updates",
        "random_steps",
        "horizon",
        "discount",
        "decay",
        "entropy",
        "actor_hidden",
        "actor_gradient",
        "target_rate",
        "starts",
    ]
)


def tables(record: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    """The settings of a run, by group: name and value."""
    data = record["data"]
    if data["source"] == ENVIRONMENT:
        about = {
            "environment": data["environment"],
            "spaces": Spaces.from_facts(data["spaces"]).words,
            **data["options"],
        }
        return _shown_in({"Environment": about}, record)
    sizes = ", ".join(f"{count} {name}" for name, count in data["sizes"].items())
    provenance = {
        "source": data["source"],
        "SHA-256": data["digest"],
        "shape": " × ".join(map(str, data["shape"])),
        "scaling": data["scaling"],
        **({"labels": ", ".join(data["classes"])} if data.get("classes") and len(data["classes"]) <= 20 else {}),
        "rows": f"{sizes} (split by seed {data['options']['split_seed']})",
    }
    return _shown_in({"Data": provenance}, record)


def _shown_in(source: Mapping[str, Mapping[str, Any]], record: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, str]]]]:
    versions = {"python": ".".join(map(str, sys.version_info[:3])), **record["versions"]}
    model = dict(record["model"]["config"])
    if MODELS[record["model"]["name"]].environment is not None and record["data"]["source"] != ENVIRONMENT:
        model = {name: value for name, value in model.items() if name not in _ACTING}
    groups = {"Model": model, "Training": record["training"], **source, "Versions": versions}
    return [(name, [(key, _shown(value)) for key, value in rows.items()]) for name, rows in groups.items()]


def _shown(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "–" if value is None else str(value)


def command(run: Run) -> str:
    """The command that makes this run, with the settings that are not defaults; the same one goes on with it."""
    record = run.record
    name = record["model"]["name"]
    entry = MODELS[name]
    _, config = entry.load()
    data, own = record["data"], dict(entry.defaults)
    if data["source"] == ENVIRONMENT:
        own |= {"environment": entry.environment}
        source: tuple[Any, Mapping[str, Any]] = EnvironmentOptions, {"environment": data["environment"], **data["options"]}
    else:
        source = DataOptions, {"data": data["source"], **data["options"]}
    words = ["reparam", "train", name, "--out", str(run.path)]
    for kind, settings in (source, (config, record["model"]["config"]), (Training, record["training"])):
        words += _flags(kind, settings, own)
    return shlex.join(words)


def _flags(kind: Any, settings: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    defaults = {**asdict(kind()), **own}
    for field in fields(kind):
        value = settings.get(field.name, defaults[field.name])
        if value is None or _shown(value) == _shown(defaults[field.name]):
            continue
        yield f"--{field.name}"
        yield _shown(value).replace(" ", "") if isinstance(value, list | tuple) else str(value)
