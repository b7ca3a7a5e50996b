"""What a report shows of a model: a section for each thing that the model can do."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.data import Splits
from reparam.diagnostics import gradient_moments
from reparam.estimators import Estimator, LeaveOneOut, Pathwise, Score
from reparam.noise import Fresh, Replay
from reparam.report import charts
from reparam.report.charts import rounded
from reparam.report.images import grid, is_image

__all__ = ["Figure", "Section", "sections"]

# Images in a row: on a telephone they are still to be seen.
_ACROSS = 6
# Rows and draws of the gradient's variance: enough for two digits of a ratio, and seconds of work.
_GRADIENT_ROWS, _GRADIENT_DRAWS, _GRADIENT_SAMPLES = 32, 100, 4
# Data whose latents are shown: test data first.
_POINTS = 2000


@dataclass(frozen=True)
class Figure:
    """Pictures that share a caption.

    Attributes:
        caption: what they show.
        pictures: their markup; side by side where there is room.
        key: what the colours of their series stand for, in order.
    """

    caption: str
    pictures: list[str]
    key: tuple[str, ...] = ()


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        title: its heading.
        lead: what there is to see, in a sentence or two.
        figures: its pictures.
    """

    title: str
    lead: str
    figures: list[Figure]


@dataclass(frozen=True)
class _Subject:
    """What the sections look at."""

    model: Any
    splits: Splits
    source: Fresh

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.splits.test.shape)

    def pictures(self, x: Tensor) -> np.ndarray:
        """Data in their units as images in [0, 1]."""
        data = self.splits.train
        low, high = (0.0, float(data.levels or 1)) if data.values != "real" else (data.x.min().item(), data.x.max().item())
        return ((x - low) / ((high - low) or 1.0)).numpy()


def sections(model: Any, splits: Splits) -> list[Section]:
    """The sections of a model, by what it can do: `reconstruct`, `sample`, `encode`, `elbo` with an estimator.

    A model gets the pictures of the methods that it has; it need not know of reports.
    """
    found: list[Section] = []
    makers: dict[str, Callable[[_Subject], Section]] = {
        "reconstruct": _reconstructions,
        "sample": _samples,
        "encode": _latent_space,
        "elbo": _gradients,
    }
    for method, make in makers.items():
        if hasattr(model, method):
            # Each section has its own noise, so that one more or fewer changes no other.
            found.append(make(_Subject(model, splits, Fresh(torch.Generator().manual_seed(0)))))
    return found


def _reconstructions(subject: _Subject) -> Section:
    test = subject.splits.test.x
    lead = "Test data, unseen in training, through the encoder and back from the mean of their latents."
    if is_image(subject.shape):
        what = "Originals in the upper row, their reconstructions in the lower row"
        blocks = [
            grid(subject.pictures(torch.cat([x, subject.model.reconstruct(x)])), len(x), what)
            for x in test[: 2 * _ACROSS].split(_ACROSS)
        ]
        return Section("Reconstructions", lead, [Figure("Above the originals, below their reconstructions.", blocks)])
    x = test[:500]
    chart = charts.agreement(x.flatten(1).numpy(), subject.model.reconstruct(x).flatten(1).numpy())
    return Section("Reconstructions", lead, [Figure("A dot a value; on the line, they agree.", [chart])])


def _samples(subject: _Subject) -> Section:
    lead = "New data: latents drawn from the prior, decoded."
    if is_image(subject.shape):
        x = subject.model.sample(8 * _ACROSS, subject.source)
        blocks = [grid(subject.pictures(block), _ACROSS, "Samples of the model") for block in x.chunk(2)]
        return Section("Samples", lead, [Figure("Means of p(x | z), z drawn from the prior.", blocks)])
    test = subject.splits.test.x
    x = subject.model.sample(2000, subject.source, noisy=True)
    densities = charts.histograms(test.flatten(1).numpy(), x.flatten(1).numpy())
    return Section("Samples", lead, [Figure("How the first columns are distributed.", densities, ("test data", "samples"))])


def _latent_space(subject: _Subject) -> Section:
    test, model = subject.splits.test, subject.model
    parts = (test, subject.splits.validation, subject.splits.train)
    with torch.no_grad():
        means = model.encode(torch.cat([part.x for part in parts])[:_POINTS]).mean.double()
    labelled = [part.y for part in parts if part.y is not None]
    labels = torch.cat(labelled)[:_POINTS].numpy() if len(labelled) == len(parts) else None
    if means.shape[1] == 2:
        points, names = means, ("z₁", "z₂")
        how = f"Posterior means of {len(means):,} data."
    else:
        centred = means - means.mean(0)
        _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
        points, names = centred @ directions[:2].T, ("first principal component", "second")
        share = (spread[:2].square().sum() / spread.square().sum().clamp(min=1e-300)).item()
        how = f"Posterior means of {len(means):,} data, in the plane where they vary most ({share:.0%} of their variance)."
    figures = []
    if points.shape[1] == 2:
        caption = how + ("" if labels is None else " Colours are labels.")
        figures.append(Figure(caption, [charts.projection(points.numpy(), labels, names)]))
    if is_image(subject.shape):
        if means.shape[1] == 2:
            figures.append(Figure("The plane of latents, decoded at even quantiles of the prior.", [_manifold(subject)]))
        elif len(test) >= 2:
            figures.append(Figure("From one test datum to another, straight from latent to latent.", [_interpolations(subject)]))
    return Section("Latent space", "Where the encoder puts the data, and what lies between them.", figures)


def _manifold(subject: _Subject) -> str:
    side = 16 if subject.splits.test.x[0].numel() <= 1024 else 8
    quantiles = torch.special.ndtri(torch.linspace(0.02, 0.98, side))
    down, across = torch.meshgrid(-quantiles, quantiles, indexing="ij")
    z = torch.stack([across, down], -1).reshape(-1, 2)
    # The prior is standard normal, so its noise is the latent itself.
    x = subject.model.sample(len(z), Replay(z.to(next(subject.model.parameters()).dtype)))
    return grid(subject.pictures(x), side, "The decoded plane of latents")


def _interpolations(subject: _Subject) -> str:
    x, y = subject.splits.test.x, subject.splits.test.y
    starts = torch.arange(min(6, len(x) // 2))
    ends = starts + len(starts)
    if y is not None:  # to a datum of another kind, where there is one
        others = [int(j) for j in range(len(starts), len(x))]
        for i in starts.tolist():
            ends[i] = next((j for j in others if y[j] != y[i] and j not in ends[:i]), ends[i])
    steps = subject.model.interpolate(x[starts], x[ends], 8).transpose(0, 1).flatten(0, 1)
    return grid(subject.pictures(steps), 8, "Interpolations between pairs of test data, a row a pair")


def _gradients(subject: _Subject) -> Section:
    model = subject.model
    x = subject.splits.test.x[:_GRADIENT_ROWS]
    parameters = [p for p in model.encoder.parameters() if p.requires_grad]
    estimators: dict[str, Estimator] = {
        "pathwise (the trick)": Pathwise(),
        "score function, leave-one-out": LeaveOneOut(),
        "score function": Score(),
    }

    def variance(estimator: Estimator) -> float:
        def loss() -> Tensor:
            return model.elbo(x, estimator=estimator, n=_GRADIENT_SAMPLES, source=subject.source).mean()  # type: ignore[no-any-return]

        return gradient_moments(loss, parameters, _GRADIENT_DRAWS).total_variance

    found = {name: variance(estimator) for name, estimator in estimators.items()}
    trick, plain, best = found["pathwise (the trick)"], found["score function"], found["score function, leave-one-out"]
    size = f"{_GRADIENT_SAMPLES} samples a datum, {len(x)} test data, {_GRADIENT_DRAWS} draws"
    if min(found.values()) <= 0 or not all(map(math.isfinite, found.values())):
        return Section("What the trick buys", f"The gradients of this encoder do not vary ({size}).", [])
    lead = (
        "The gradient of the ELBO in this encoder's weights, estimated three ways from equally many samples. The variance of the "
        f"score function is {rounded(plain / trick, 2)} times that of the reparameterised sample: it would take that many times "
        f"the samples to do as well. With leave-one-out baselines it is {rounded(best / trick, 2)} times."
    )
    chart = charts.bars(found, "total variance of the encoder's gradient, nats² per datum²")
    return Section("What the trick buys", lead, [Figure(f"Shorter is better; the scale is logarithmic. {size}.", [chart])])
