"""From the words of a command to its function: its flags, and those that the run it looks at brings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from reparam.cli import commands
from reparam.cli.parser import Parser
from reparam.errors import ArtefactError

__all__ = ["run"]

# The flag that a word without one was meant for.
_ALONE = {"compare": "--problem", "posterior": "--query"}


def run(name: str, words: Sequence[str]) -> None:
    """Run the command of a name with its flags."""
    opened = _run_among(words)
    if opened is None and "run" in signature(commands.COMMANDS[name]).parameters and _asks_of_a_run(words):
        from reparam.training import Run

        Run.open(words[0])  # which says what it is instead
    function = _of_its_own(opened).get(name, commands.COMMANDS[name])
    parser = Parser(f"reparam {name}", (function.__doc__ or "").split("\n\n")[0].strip())
    parser.add_parameters(function)
    parser.alone = _ALONE.get(name)
    options = _options(opened) if name == "sample" and function is commands.COMMANDS[name] else None
    if options is not None:
        parser.add_fields(options)
    graph = _own_graph(opened)
    if graph is not None:
        parser.add_argument("--graph", help=f"The function of your own that made the nodes, {graph}: imported as you name it.")
    settings = parser.read(words).as_dict()
    if graph is not None and (named := settings.pop("graph")) is not None:
        from reparam.models.graphical_examples import name_graph

        name_graph(named)
    if options is not None:
        settings["options"] = {field.name: settings.pop(field.name) for field in fields(options)}
    function(**settings)


def _asks_of_a_run(words: Sequence[str]) -> bool:
    """Whether the words are a run and its flags, which may be those that only the run knows."""
    return len(words) > 1 and not words[0].startswith("-") and words[1].startswith("--") and "--help" not in words


def _run_among(words: Sequence[str]) -> Any:
    """The run that one of the words names, or None."""
    for word in words:
        with suppress(ArtefactError, ValueError, OSError):  # of what is no run, the command says what it is
            if Path(word).is_dir():
                from reparam.training import Run  # torch comes with it

                return Run.open(word)
    return None


def _of_its_own(run: Any) -> Mapping[str, Callable[..., None]]:
    """The commands that are others for a run in an environment, and for one on sequences."""
    data = run and run.record.get("data")
    if not isinstance(data, dict):
        return {}
    if "environment" in data:
        from reparam.cli import play

        return play.COMMANDS
    if data.get("sequence"):
        from reparam.cli import foresee

        return {"predict": foresee.predict}
    return {}


def _options(run: Any) -> Any:
    """The options that the model of a run has for its samples; None where no run is named."""
    from reparam.models.trained import kind_of

    return None if run is None else getattr(kind_of(run), "Sampling", None)


def _own_graph(run: Any) -> str | None:
    """The `MODULE:FUNCTION` that made the nodes of a run: only the user's naming it again imports it."""
    found: Any = run and run.record
    for key in ("model", "config", "graph"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, str) and ":" in found else None
