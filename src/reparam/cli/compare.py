"""Which gradient estimator: the meter on standard problems or the user's own, as tables and a page."""

from __future__ import annotations

import json as json_
import os
from pathlib import Path

import torch

from reparam.cli.problems import PROBLEMS, Problem, problem
from reparam.diagnostics import Diagnosis, diagnose
from reparam.diagnostics.entries import parameters_of
from reparam.errors import BadInputError, StorageError
from reparam.noise import Fresh
from reparam.report import comparison
from reparam.training import engine
from reparam.training.storage import write_file

__all__ = ["show"]


def show(names: tuple[str, ...], n: int, draws: int, seconds: float, seed: int, threads: int, out: Path, *, json: bool) -> None:
    """Compare on each problem, print as it goes, and write the page."""
    _check_place(out)
    problems = {name: problem(name) for given in names for name in (PROBLEMS if given == "all" else (given,))}
    if not problems:
        raise BadInputError(f"--problem is empty: give {', '.join(PROBLEMS)}, MODULE:FUNCTION, or all")
    found: dict[str, tuple[Problem, Diagnosis]] = {}
    for name, given in problems.items():
        with engine.threads(threads):
            found[name] = given, _diagnose(name, given, n, draws, seconds, seed)
        if not json:
            print(f"{given.title}\n{given.text}\n\n{found[name][1]}\n", flush=True)
    page = comparison.page([(given.title, given.text, result) for given, result in found.values()], seed)
    write_file(out, page.encode())
    print(json_.dumps({name: result.to_dict() for name, (_, result) in found.items()}) if json else out)


def _check_place(out: Path) -> None:
    """Say before the work what would be said after it.

    Raises:
        StorageError: for a place that cannot be written to.
    """
    folder = Path(os.path.realpath(out)).parent
    if not folder.is_dir():
        raise StorageError(f"{out}: there is no folder {folder}: make it, or give another --out")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise StorageError(f"{out}: nothing can be written to {folder}: give another --out")


def _diagnose(name: str, given: Problem, n: int, draws: int, seconds: float, seed: int) -> Diagnosis:
    device = next(iter(parameters_of(given.q).values()), torch.zeros(())).device
    source = Fresh(torch.Generator(device).manual_seed(seed))
    own = ":" in name
    try:
        return diagnose(given.f, given.q, given.estimators, n=n, exact=given.exact, source=source, draws=draws, seconds=seconds)
    except Exception as error:
        if not own and not isinstance(error, ValueError):
            raise
        raise BadInputError(
            f"{name}: {error}" if isinstance(error, ValueError) else f"{name}: {type(error).__name__}: {error}"
        ) from error
