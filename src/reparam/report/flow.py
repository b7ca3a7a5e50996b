"""What a report shows of a flow: its density, how it bends noise into data, and whether the noise of data is normal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reparam.nn.bijection import Chain
from reparam.noise import NORMAL, Noise
from reparam.report import charts, plane
from reparam.report.images import grid
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["bending", "calibration", "density"]

# Cells of a heat map along a side, labels that get their own, points drawn, and test data whose noise is looked at.
_SIDE, _LABELS, _POINTS, _ROWS = 110, 4, 500, 1000


def density(subject: Subject) -> Section | None:
    """The learned density of data of one or two columns, with test data on it; by label where it depends on labels."""
    model, dim = subject.model, int(np.prod(subject.shape))
    if model.config.target is not None or dim > 2 or (model.context and not subject.classes):
        return None
    x, labels = subject.splits.test.x.flatten(1).double().numpy(), subject.labels()
    lead = "The density that the flow has learned, exactly, at every point: no samples are counted."
    if dim == 1:
        return Section("Density", lead, [_curve(subject, x[:, 0])])
    frame = plane.window(x)
    at = torch.from_numpy(plane.lattice(frame, _SIDE)).float()
    found = _log_density(model, at, subject.classes)
    shown: dict[str, tuple[Tensor, str | None]] = {"the density": (found.logsumexp(0), None)}
    known = subject.classes[:_LABELS] if len(subject.classes) > 1 else ()
    shares = model.shares.log()
    shown |= {f"given {name}": (found[i] - shares[i], name) for i, name in enumerate(known)}
    blocks = []
    for i, (title, (values, name)) in enumerate(shown.items()):
        points = x if name is None or labels is None else x[labels == name]
        heat = values.exp().reshape(_SIDE, _SIDE).numpy()
        described = f"Heat map of {title}, with {len(points[:_POINTS])} test data"
        blocks.append(plane.heat(f"density-{i}", title, described, heat, frame, points[:_POINTS]))
    caption = "From blue to orange: more. Dots are test data, unseen in training."
    if known:
        caption += " Beside the density of all data, that of each label alone" + (
            ", of the first." if len(known) < len(subject.classes) else "."
        )
    return Section("Density", lead, [Figure(caption, blocks, wide=len(blocks) > 1)])


def _log_density(model: Any, x: Tensor, classes: tuple[str, ...]) -> Tensor:
    """The log-density at N points, 1 x N; with labels, joint with each of them, labels x N."""
    with torch.no_grad():
        rows = x.reshape(len(x), *model.shape)
        if not classes:
            return model.law().log_prob(rows)[None]  # type: ignore[no-any-return]
        places = (torch.full((len(x),), place) for place in range(len(classes)))
        return torch.stack([model.law(place).log_prob(rows) + model.shares[place[0]].log() for place in places])


def _curve(subject: Subject, x: np.ndarray) -> Figure:
    low, high = np.quantile(x, [0.001, 0.999])
    room = 0.15 * ((high - low) or 1.0)
    at = np.linspace(low - room, high + room, 300)
    found = _log_density(subject.model, torch.from_numpy(at).float()[:, None], subject.classes).logsumexp(0).exp().numpy()
    heights, edges = np.histogram(x, bins=40, range=(at[0], at[-1]), density=True)
    steps = heights[np.clip(np.searchsorted(edges, at, "right") - 1, 0, 39)]
    chart = charts.lines("density", "density", at.tolist(), {"flow": found.tolist(), "test data": steps.tolist()}, "x")
    return Figure("The density of the flow, and the histogram of test data.", [chart], ("flow", "test data"))


def bending(subject: Subject) -> Section | None:
    """How the flow makes data of noise: a grid of noise, bent; or the way between the noises of two data."""
    model = subject.model
    if model.context:
        if subject.shape != (2,) or not subject.classes:
            return None
        titles = [f"x, given {name}" for name in subject.classes[:_LABELS]]
        ends = [_pushed(model, place) for place in range(len(titles))]
        return _bent(subject, ["noise ε", *titles], [lambda z: z, *ends])
    if subject.shape == (2,):
        parts = list(reversed(model.bijection.parts))[:-1]  # the last one brings the units of the data back
        kept = sorted({0, round(len(parts) / 3), round(2 * len(parts) / 3)} - {len(parts)})
        titles = ["noise ε", *(f"after {k} of {len(parts)}" for k in kept[1:]), "data x = g(ε)"]
        maps = [lambda z, k=k: Chain(*reversed(parts[:k])).inverse(z)[0] if k else z for k in kept]
        return _bent(subject, titles, [*maps, _pushed(model, None)])
    if subject.kind == "image" and model.config.target is None and len(subject.splits.test) >= 2:
        return _between(subject)
    return None


def _pushed(model: Any, place: int | None) -> Callable[[Tensor], Tensor]:
    def push(z: Tensor) -> Tensor:
        context = None if place is None else torch.full((len(z),), place)
        made: Tensor = model.push(z, context)
        return made

    return push


def _bent(subject: Subject, titles: list[str], maps: list[Callable[[Tensor], Tensor]]) -> Section:
    """The same grid and points of noise, through each map."""
    ends, fine = torch.linspace(-3, 3, 13), torch.linspace(-3, 3, 121)
    across = [torch.stack([fine, torch.full_like(fine, end)], -1) for end in ends]
    up = [line.flip(-1) for line in across]
    turn = torch.linspace(0, 2 * torch.pi, 121)
    circles = [radius * torch.stack([turn.cos(), turn.sin()], -1) for radius in (1.0, 2.0)]
    groups = [across, up, circles]
    noise = Noise(NORMAL, torch.Size((2,)), torch.float32).draw((_POINTS,), source=subject.source)
    angles = torch.atan2(noise[:, 1], noise[:, 0]).numpy()
    blocks = []
    with torch.no_grad():
        for i, (title, push) in enumerate(zip(titles, maps, strict=True)):
            drawn = [[push(line).numpy() for line in group] for group in groups]
            points = push(noise).numpy()
            frame = plane.window(points) if i else (-3.4, 3.4, -3.4, 3.4)
            blocks.append(plane.bent(f"bent-{i}", title, f"A grid and points: {title}", drawn, points, angles, frame))
    lead = (
        "The trick to look at: x = g(θ, ε). The noise on the left is always the same; the flow bends the plane until it lies where "
        "the data are. Each point keeps its colour, and no line crosses another: g can be inverted."
    )
    return Section(
        "Noise into data", lead, [Figure("Circles hold 39% and 86% of the noise; dots are draws of it.", blocks, wide=True)]
    )


def _between(subject: Subject) -> Section:
    model, x = subject.model, subject.splits.test.x
    pairs = min(6, len(x) // 2)
    weight = torch.linspace(0, torch.pi / 2, 8).reshape(-1, *(1 for _ in x.shape))
    with torch.no_grad():
        a, b = model.pull(x[:pairs]), model.pull(x[pairs : 2 * pairs])
        # Along a circle, so that noise on the way is as far from zero as noise is.
        steps = torch.stack([model.push(z) for z in weight.cos() * a + weight.sin() * b], 1)
    steps = steps.clamp(0, subject.model.levels) if subject.model.levels is not None else steps
    caption = "At the ends two test data; between them what their noises, turned into each other, become."
    picture = grid(subject.pictures(steps.flatten(0, 1)), 8, "On the way from one test datum to another through their noises")
    return Section(
        "Noise into data", "Each datum has its own noise, ε = g⁻¹(x), and each noise its datum.", [Figure(caption, [picture])]
    )


def calibration(subject: Subject) -> Section | None:
    """The noise of test data against the normal law that it should have."""
    model, test = subject.model, subject.splits.test
    if model.config.target is not None or len(test) < 8:
        return None
    inputs = model.inputs(test)
    x, context = (inputs, None) if isinstance(inputs, Tensor) else inputs
    rows = x[:_ROWS]
    with torch.no_grad():
        noise = model.pull(rows, None if context is None else context[:_ROWS]).flatten(1).double()
    n, dim = noise.shape
    share = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    from scipy.stats import beta, chi2  # type: ignore[import-untyped]

    rank = np.arange(1, n + 1)
    ends = [beta.ppf(end, rank, n + 1 - rank) for end in (0.025, 0.975)]
    normal = torch.special.ndtri(share).numpy()
    low, high = (torch.special.ndtri(torch.from_numpy(end)).numpy() for end in ends)
    columns = [column.sort().values.numpy() for column in noise.T[:: max(1, dim // 12)]]
    pictures = [charts.quantiles("noise", "each column of ε", columns, normal, (low, high))]
    caption = "On the diagonal, the noise of test data is normal; 19 of 20 values of normal noise would lie in the band."
    if dim > 1:
        radius = noise.square().sum(1).sort().values.sqrt().numpy()
        expected, *around = (np.sqrt(chi2.ppf(p, dim)) for p in (share.numpy(), *ends))
        pictures.append(charts.quantiles("radius", "distance of ε from zero", [radius], expected, (around[0], around[1])))
        caption += " The distance from zero tells whether the columns are independent too: too large where test data are unlikely."
    lead = "Backwards, ε = g⁻¹(x): if the flow is right, test data become noise of the normal law."
    return Section("Is it right?", lead, [Figure(caption, pictures, wide=True)])
