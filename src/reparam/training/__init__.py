"""Training: `fit` a model in a run directory that survives whatever happens to the process."""

from __future__ import annotations

from reparam.errors import Interrupted
from reparam.training.config import Loss, Training
from reparam.training.fit import Result, fit
from reparam.training.run import Run

__all__ = ["Interrupted", "Loss", "Result", "Run", "Training", "fit"]
