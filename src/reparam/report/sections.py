"""What a report shows of a model: a section for each thing that the model can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from reparam.data import Splits
from reparam.noise import Fresh, Replay
from reparam.report import charts
from reparam.report.codes import codes, flips
from reparam.report.gradients import gradients
from reparam.report.images import grid, is_image
from reparam.report.pieces import ACROSS, Figure, Section, Subject

__all__ = ["sections"]

# Data whose latents are shown: test data first.
_POINTS = 2000


def sections(model: Any, splits: Splits) -> list[Section]:
    """The sections of a model, by what it can do: `reconstruct`, `sample`, `encode`, `elbo` with an estimator.

    A model gets the pictures of the methods that it has; it need not know of reports.
    """
    found: list[Section] = []
    makers: dict[str, Callable[[Subject], Section]] = {
        "reconstruct": _reconstructions,
        "sample": _samples,
        "encode": _latent_space,
        "elbo": gradients,
    }
    for method, make in makers.items():
        if hasattr(model, method):
            # Each section has its own noise, so that one more or fewer changes no other.
            found.append(make(Subject(model, splits, Fresh(torch.Generator().manual_seed(0)))))
    return found


def _reconstructions(subject: Subject) -> Section:
    test = subject.splits.test.x
    lead = "Test data, unseen in training, through the encoder and back."
    if is_image(subject.shape):
        what = "Originals in the upper row, their reconstructions in the lower row"
        blocks = [
            grid(subject.pictures(torch.cat([x, subject.model.reconstruct(x)])), len(x), what)
            for x in test[: 2 * ACROSS].split(ACROSS)
        ]
        return Section("Reconstructions", lead, [Figure("Above the originals, below their reconstructions.", blocks)])
    x = test[:500]
    chart = charts.agreement(x.flatten(1).numpy(), subject.model.reconstruct(x).flatten(1).numpy())
    return Section("Reconstructions", lead, [Figure("A dot a value; on the line, they agree.", [chart])])


def _samples(subject: Subject) -> Section:
    lead = "New data: latents drawn from the prior, decoded."
    if is_image(subject.shape):
        x = subject.model.sample(8 * ACROSS, subject.source)
        blocks = [grid(subject.pictures(block), ACROSS, "Samples of the model") for block in x.chunk(2)]
        return Section("Samples", lead, [Figure("Means of p(x | z), z drawn from the prior.", blocks)])
    test = subject.splits.test.x
    x = subject.model.sample(2000, subject.source, noisy=True)
    densities = charts.histograms(test.flatten(1).numpy(), x.flatten(1).numpy())
    return Section("Samples", lead, [Figure("How the first columns are distributed.", densities, ("test data", "samples"))])


def _latent_space(subject: Subject) -> Section:
    test, model, discrete = subject.splits.test, subject.model, subject.discrete
    parts = (test, subject.splits.validation, subject.splits.train)
    with torch.no_grad():
        means = model.encode(torch.cat([part.x for part in parts])[:_POINTS]).mean.double().flatten(1)
    what = "Probabilities of the latents" if discrete else "Posterior means"
    labelled = [part.y for part in parts if part.y is not None]
    labels = torch.cat(labelled)[:_POINTS].numpy() if len(labelled) == len(parts) else None
    if means.shape[1] == 2:
        points, names = means, ("z₁", "z₂")
        how = f"{what} of {len(means):,} data."
    else:
        centred = means - means.mean(0)
        _, spread, directions = torch.linalg.svd(centred, full_matrices=False)
        points, names = centred @ directions[:2].T, ("first principal component", "second")
        share = (spread[:2].square().sum() / spread.square().sum().clamp(min=1e-300)).item()
        how = f"{what} of {len(means):,} data, in the plane where they vary most ({share:.0%} of their variance)."
    figures = []
    if points.shape[1] == 2:
        caption = how + ("" if labels is None else " Colours are labels.")
        figures.append(Figure(caption, [charts.projection(points.numpy(), labels, names)]))
    if is_image(subject.shape):
        if discrete:
            figures += [codes(subject), flips(subject)]
        if means.shape[1] == 2 and not discrete:
            figures.append(Figure("The plane of latents, decoded at even quantiles of the prior.", [_manifold(subject)]))
        elif len(test) >= 2:
            way = "latent by latent, those that differ" if discrete else "straight from latent to latent"
            figures.append(Figure(f"From one test datum to another, {way}.", [_interpolations(subject)]))
    return Section("Latent space", "Where the encoder puts the data, and what lies between them.", figures)


def _manifold(subject: Subject) -> str:
    side = 16 if subject.splits.test.x[0].numel() <= 1024 else 8
    quantiles = torch.special.ndtri(torch.linspace(0.02, 0.98, side))
    down, across = torch.meshgrid(-quantiles, quantiles, indexing="ij")
    z = torch.stack([across, down], -1).reshape(-1, 2)
    # The prior is standard normal, so its noise is the latent itself.
    x = subject.model.sample(len(z), Replay(z.to(next(subject.model.parameters()).dtype)))
    return grid(subject.pictures(x), side, "The decoded plane of latents")


def _interpolations(subject: Subject) -> str:
    x, y = subject.splits.test.x, subject.splits.test.y
    starts = torch.arange(min(6, len(x) // 2))
    ends = starts + len(starts)
    if y is not None:  # to a datum of another kind, where there is one
        others = [int(j) for j in range(len(starts), len(x))]
        for i in starts.tolist():
            ends[i] = next((j for j in others if y[j] != y[i] and j not in ends[:i]), ends[i])
    steps = subject.model.interpolate(x[starts], x[ends], 8).transpose(0, 1).flatten(0, 1)
    return grid(subject.pictures(steps), 8, "Interpolations between pairs of test data, a row a pair")
