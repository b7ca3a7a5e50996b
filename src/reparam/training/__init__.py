"""Training: `fit` a model in a run directory that survives whatever happens to the process."""

from __future__ import annotations

from reparam.errors import Interrupted
from reparam.training.config import Batch, Loss, Monitor, Training
from reparam.training.fit import Result, fit
from reparam.training.run import Run
from reparam.training.stream import Stream

__all__ = ["Batch", "Interrupted", "Loss", "Monitor", "Result", "Run", "Stream", "Training", "fit"]
