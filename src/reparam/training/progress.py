"""What a person sees of training: a bar in a terminal, a line an epoch elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

from reparam.training.config import ELBO, Monitor

__all__ = ["Progress", "describe", "flags"]


def describe(row: dict[str, Any], epochs: int, monitor: Monitor = ELBO) -> str:
    """One epoch in a line: `epoch 3/100  elbo -101.2  kl 12.3 …  validation elbo -102.0`, in nats per datum."""
    parts = [name.removeprefix("train/") for name, value in row.items() if name.startswith("train/") and not math.isnan(value)]
    shown = [f"{name} {rounded(row[f'train/{name}'])}" for name in sorted(parts, key=lambda name: name != monitor.part)]
    last = f"validation {monitor.part} {rounded(row[f'validation/{monitor.part}'])}"
    return "  ".join([f"epoch {row['epoch']}/{epochs}", *shown, last])


def rounded(value: float) -> str:
    """Two decimals, or of what is small three digits; none of large whole numbers."""
    if abs(value) >= 100 and value.is_integer():
        return f"{value:.0f}"
    return f"{value:.2f}" if abs(value) >= 1 or value == 0 else f"{value:.3g}"


def flags(history: list[dict[str, Any]], monitor: Monitor = ELBO) -> list[str]:
    """What is odd about the last epoch of a history, though training goes on; empty when nothing is.

    A KL below 0.01 nats from epoch 5 on means that the latent variable is not used; a validation score that is worse than the best
    by more than ten times its size means that training explodes.
    """
    found = []
    row, name, scores = history[-1], f"validation {monitor.words}", [row[f"validation/{monitor.part}"] for row in history]
    if row["epoch"] >= 5 and row.get("validation/kl", math.inf) < 0.01:
        found.append(
            "the posterior has collapsed onto the prior, the KL is below 0.01 nats: the latent variable is not used; lower beta or "
            "use free bits"
        )
    finite = [score for score in scores if math.isfinite(score)] or [0.0]
    best = max(finite) if monitor.higher else min(finite)
    if not math.isfinite(scores[-1]):
        found.append(f"the {name} is {scores[-1]}: look for values in the validation data that are not finite")
    elif abs(scores[-1] - best) > 10 * max(1.0, abs(best)):
        moved = f"{'fell' if monitor.higher else 'rose'} from {best:.4g} to {scores[-1]:.4g}"
        found.append(f"the {name} {moved}: lower learning_rate or set clip")
    return found


class Progress:
    """A bar over the epochs when standard error is a terminal, plain lines when it is not, nothing when `on` is False."""

    def __init__(self, *, on: bool, epochs: int, steps: int, done: int, monitor: Monitor = ELBO) -> None:
        self._on, self._epochs, self._monitor, self._bar, self._due = on, epochs, monitor, None, 0.0
        if on and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
                console=Console(stderr=True),
                auto_refresh=False,  # a second thread would take turns with the loop
            )
            self._task = self._bar.add_task("first epoch", total=epochs * steps, completed=done)

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.stop()

    def step(self, step: int) -> None:
        """Show the step, at most ten times a second."""
        if self._bar is not None and (now := time.monotonic()) >= self._due:
            self._due = now + 0.1
            self._bar.update(self._task, completed=step, refresh=True)

    def epoch(self, row: dict[str, Any], step: int) -> None:
        """Show a finished epoch."""
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=describe(row, self._epochs, self._monitor))
        elif self._on:
            print(describe(row, self._epochs, self._monitor), file=sys.stderr, flush=True)
