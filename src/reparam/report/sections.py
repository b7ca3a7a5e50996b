"""What a report shows of a model: a section for each thing that the model can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reparam.data import Splits
from reparam.noise import Fresh
from reparam.report.bnn import predictions
from reparam.report.bnn_inputs import certainty, inputs_that_matter
from reparam.report.bnn_weights import draws_of_weights, known_weights
from reparam.report.calibration import calibrated
from reparam.report.diffusion import filling, guidance, samplers, trajectories
from reparam.report.flow import bending, calibration, density
from reparam.report.gradients import gradients
from reparam.report.graphical import by_row, graph, learned
from reparam.report.graphical_check import gaps, new_rows
from reparam.report.graphical_classes import classes
from reparam.report.graphical_gradients import guide_gradients
from reparam.report.graphical_what_if import what_if
from reparam.report.levels import levels
from reparam.report.pieces import Section, Subject
from reparam.report.samples import samples
from reparam.report.target import fit_to_target, target_gradients
from reparam.report.vae import latent_space, reconstructions

__all__ = ["sections"]

# The method that a section is about, and what makes it; None of a model that has nothing to show of it after all.
_SECTIONS: tuple[tuple[str, Callable[[Subject], Section | None]], ...] = (
    ("reconstruct", reconstructions),
    ("trajectory", trajectories),
    ("pull", bending),
    ("pull", density),
    ("pull", fit_to_target),
    ("sample", samples),
    ("trajectory", guidance),
    ("impute", filling),
    ("trajectory", samplers),
    ("denoiser", levels),
    ("pull", calibration),
    ("encode", latent_space),
    ("encode", gradients),
    ("pull", target_gradients),
    ("plan", graph),
    ("plan", learned),
    ("plan", by_row),
    ("plan", classes),
    ("plan", gaps),
    ("plan", new_rows),
    ("plan", what_if),
    ("plan", guide_gradients),
    ("predict", predictions),
    ("predict", calibrated),
    ("predict", certainty),
    ("predict", inputs_that_matter),
    ("predict", known_weights),
    ("predict", draws_of_weights),
)


def sections(model: Any, splits: Splits) -> list[Section]:
    """The sections of a model, by its methods, such as `reconstruct`, `sample`, `encode`, `pull`, `trajectory`, `plan`, `predict`.

    A model gets the pictures of the methods that it has; it need not know of reports.
    """
    found = []
    for method, make in _SECTIONS:
        if hasattr(model, method):
            # Each section has its own noise, so that one more or fewer changes no other.
            section = make(Subject(model, splits, Fresh(torch.Generator().manual_seed(0))))
            found += [] if section is None else [section]
    return found
