"""What a report shows of a model with latents: reconstructions, and the space of the latents."""

from __future__ import annotations

import torch

from reparam.noise import Replay
from reparam.report import charts
from reparam.report.audio import mosaic, reconstructed_sounds
from reparam.report.codes import codes, flips
from reparam.report.images import grid
from reparam.report.pieces import ACROSS, Figure, Section, Subject
from reparam.report.text import pairs, units, walks

__all__ = ["latent_space", "reconstructions"]

# Data whose latents are shown: test data first.
_POINTS = 2000


def reconstructions(subject: Subject) -> Section:
    """Test data beside what comes back of them."""
    test = subject.splits.test.x
    lead = "Test data, unseen in training, through the encoder and back."
    if subject.kind == "text":
        return Section("Reconstructions", lead, [pairs(subject)])
    if subject.kind == "audio":
        return Section("Reconstructions", lead, reconstructed_sounds(subject))
    if subject.kind == "image":
        what = "Originals in the upper row, their reconstructions in the lower row"
        blocks = [
            grid(subject.pictures(torch.cat([x, subject.model.reconstruct(x)])), len(x), what)
            for x in test[: 2 * ACROSS].split(ACROSS)
        ]
        return Section("Reconstructions", lead, [Figure("Above the originals, below their reconstructions.", blocks)])
    x = test[:500]
    chart = charts.agreement(x.flatten(1).numpy(), subject.model.reconstruct(x).flatten(1).numpy())
    return Section("Reconstructions", lead, [Figure("A dot a value; on the line, they agree.", [chart])])


def latent_space(subject: Subject) -> Section:
    """Where the encoder puts the data, and what lies between them."""
    model, discrete = subject.model, subject.discrete
    parts = (subject.splits.test, subject.splits.validation, subject.splits.train)
    with torch.no_grad():
        x = torch.cat([part.x for part in parts])[:_POINTS]
        means = torch.cat([model.encode(rows).mean for rows in x.split(500)]).double().flatten(1)
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
    if subject.kind == "text":
        figures = [units(subject), *figures, walks(subject)] if not discrete else [*figures, walks(subject)]
    if subject.kind == "image":
        if discrete:
            figures += [codes(subject), flips(subject)]
        if means.shape[1] == 2 and not discrete:
            figures.append(Figure("The plane of latents, decoded at even quantiles of the prior.", [_manifold(subject)]))
        elif len(subject.splits.test) >= 2:
            way = "latent by latent, those that differ" if discrete else "straight from latent to latent"
            figures.append(Figure(f"From one test datum to another, {way}.", [_interpolations(subject)]))
    if subject.kind == "audio" and len(subject.splits.test) >= 2:
        caption = "From one recording to another, straight from latent to latent."
        figures.append(Figure(caption, [_interpolations(subject)], wide=len(figures) > 1))
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
    return mosaic(subject, steps, 8, "Interpolations between pairs of test data, a row a pair")
