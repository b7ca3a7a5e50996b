"""What a report shows of a diffusion model: noise becoming data, samplers, guidance, and what it fills in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from reparam.noise import Fresh
from reparam.report import charts, plane
from reparam.report.audio import mosaic
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["filling", "guidance", "samplers", "trajectories"]

_FRAMES, _ROWS, _POINTS = 8, 5, 400
# Samplers and their steps that are compared by pictures, and by distance.
_SHOWN = (("ddim", 5), ("heun", 5), ("ddpm", 10), ("ddim", 10), ("heun", 10), ("ddpm", 50), ("ddim", 50))
_STEPS = (3, 5, 10, 20, 40)
_GUIDANCE = (0.0, 1.0, 2.0, 4.0)


def _same(seed: int = 1) -> Fresh:
    """A source that gives the same noise each time it is made."""
    return Fresh(torch.Generator().manual_seed(seed))


def trajectories(subject: Subject) -> Section:
    """The states of chains from noise to samples."""
    model = subject.model
    lead = "Left pure noise, right the sample: each step takes a little of the noise away."
    if subject.kind in ("image", "audio"):
        frames = model.trajectory(_ROWS if subject.kind == "image" else 3, subject.source, frames=_FRAMES, steps=25)
        rows = frames.transpose(0, 1).flatten(0, 1)
        what = "Noise becoming data from left to right, a row each"
        picture = mosaic(subject, rows, _FRAMES, what)
        return Section(
            "From noise to data", lead, [Figure("A row each, from left to right.", [picture], wide=subject.kind == "audio")]
        )
    test = subject.splits.test.x.flatten(1).double().numpy()
    if test.shape[1] == 1:
        states = model.trajectory(60, subject.source, frames=50, sampler="ddim", steps=50).flatten(2).double().numpy()[..., 0]
        at = np.linspace(0, 1, len(states))
        series = {str(i): states[:, i].tolist() for i in range(states.shape[1])}
        chart = charts.lines("ways", "60 chains", at.tolist(), series, "share of the steps that are done", alike=True)
        return Section("From noise to data", lead, [Figure("Each line is a chain.", [chart])])
    states = model.trajectory(_POINTS, subject.source, frames=26, sampler="ddim", steps=50)
    states = states.flatten(2)[..., :2].double().numpy()
    frame = plane.window(np.concatenate([states[0], test[:, :2]]))
    last, seen = len(states) - 1, test[:_POINTS, :2]
    blocks = []
    for share in (0.0, 0.5, 0.75, 0.9, 1.0):
        title = {0.0: "noise", 1.0: "samples"}.get(share, f"{share:.0%} of the steps")
        described = f"{_POINTS} chains after {share:.0%} of their steps"
        blocks.append(plane.scatter(f"frame-{share:.0%}"[:-1], title, described, states[round(share * last)], frame, behind=seen))
    blocks.append(plane.ways("ways", "60 chains", "The ways of 60 chains from noise to data", states[:, :60], frame, seen))
    columns = "" if test.shape[1] == 2 else " The first two columns are shown."
    caption = "Blue the chains, grey test data; in the last picture orange where chains begin and red where they end." + columns
    return Section("From noise to data", lead, [Figure(caption, blocks, wide=True)])


def samplers(subject: Subject) -> Section:
    """Samples from the same noise by sampler and steps; of vectors, how far they are from data."""
    model = subject.model
    lead = (
        "How to take the noise away is chosen after training: ddpm draws new noise at each step, ddim none, heun "
        "corrects each step by a second look, which asks the network twice."
    )
    if subject.kind in ("image", "audio"):
        n, rows, names = (8, [], []) if subject.kind == "image" else (4, [], [])
        shown = _SHOWN if subject.kind == "image" else _SHOWN[::2]
        label = torch.arange(n) % len(subject.classes) if subject.classes else None
        for sampler, steps in shown:
            rows.append(model.sample(n, _same(), sampler=sampler, steps=steps, label=label))
            names.append(f"{sampler} {steps}")
        what = f"Samples from the same noise, a row each: {', '.join(names)} steps"
        x = torch.cat(rows)
        picture = mosaic(subject, x, n, what)
        return Section("Samplers", lead, [Figure(f"The same noise, by row: {', '.join(names)} steps.", [picture])])
    test = subject.splits.test.x
    n = min(len(test), 500)
    series = {
        sampler: [_distance(test[:n], model.sample(500, _same(), sampler=sampler, steps=steps)) for steps in _STEPS]
        for sampler in ("ddpm", "ddim", "heun")
    }
    train = subject.splits.train.x
    floor = _distance(test[:n], train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:500]])
    chart = charts.lines("samplers", "distance from test data", list(_STEPS), series, "steps", log="xy", level=floor)
    caption = (
        "The energy distance between 500 samples and test data, by steps; on the dotted line samples are as near as training data "
        "are. Near it the differences are chance."
    )
    return Section("Samplers", lead, [Figure(caption, [chart], tuple(series))])


def _distance(a: Tensor, b: Tensor) -> float:
    """The energy distance of two sets of vectors, in standard deviations of a: 2 E|a - b| - E|a - a'| - E|b - b'|, at least 0."""
    a, b = a.flatten(1).double(), b.flatten(1).double()
    scale = a.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    a, b = a / scale, b / scale
    return float(2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean())


def guidance(subject: Subject) -> Section | None:
    """Samples by label from the same noise, with more and more guidance."""
    model, names = subject.model, subject.classes
    if len(names) < 2 or not subject.unlabelled:
        return None
    lead = (
        "The model has learned data with their labels and without. Guidance goes further in the direction that sets it apart: "
        "0 ignores the label, 1 is the plain model, more makes samples more typical and less varied."
    )
    rows = ", ".join(f"{strength:g}" for strength in _GUIDANCE)
    if subject.kind in ("image", "audio"):
        count = min(len(names), 10 if subject.kind == "image" else 5)
        place = torch.arange(count)
        x = torch.cat(
            [model.sample(count, _same(2), label=place, guidance=strength, sampler="ddim", steps=25) for strength in _GUIDANCE]
        )
        what = f"Samples of {', '.join(names[:count])} from the same noise; guidance by row {rows}"
        picture = mosaic(subject, x, count, what)
        caption = f"By column {', '.join(names[:count])}; by row guidance {rows}. The noise of a column is the same."
        return Section("Guidance", lead, [Figure(caption, [picture], wide=subject.kind == "audio")])
    if int(np.prod(subject.shape)) < 2:
        return None
    test = subject.splits.test.x.flatten(1)[:, :2].double().numpy()
    place = torch.arange(_POINTS) % min(len(names), 10)
    labels = np.array(names)[place.numpy()]
    blocks = []
    for i, strength in enumerate(_GUIDANCE):
        x = (
            model.sample(_POINTS, _same(2), label=place, guidance=strength, sampler="ddim", steps=25)
            .flatten(1)[:, :2]
            .double()
            .numpy()
        )
        title = f"guidance {strength:g}"
        blocks.append(plane.scatter(f"guidance-{i}", title, f"Samples with {title}", x, plane.window(test), labels=labels))
    return Section("Guidance", lead, [Figure("Colours are the labels that were asked for.", blocks, wide=True)])


def filling(subject: Subject) -> Section | None:
    """Test data with a part hidden, filled in several times."""
    if not subject.unlabelled or hasattr(subject.model, "plan"):
        return None  # gaps of a table are shown in their own way
    model, test = subject.model, subject.splits.test.x
    lead = (
        "A part of a test datum is hidden, and drawn again as it goes with the rest. Each time it is another draw: where the rest "
        "does not say, they differ."
    )
    if subject.kind in ("image", "audio"):
        x = test[: 5 if subject.kind == "image" else 2]
        mask = torch.ones_like(x, dtype=torch.bool)
        half = x.shape[-2] // 2 if subject.kind == "image" else x.shape[-1] // 2
        if half == 0:
            return None
        (mask[..., half:, :] if subject.kind == "image" else mask[..., half:])[:] = False
        times = 6 if subject.kind == "image" else 2
        filled = model.impute(x.repeat_interleave(times, 0), mask.repeat_interleave(times, 0), subject.source, steps=25, repeats=4)
        hidden = torch.where(mask, x, torch.full_like(x, torch.nan))
        rows = torch.cat([x[:, None], hidden[:, None], filled.unflatten(0, (len(x), times))], 1).flatten(0, 1)
        part = "the lower half" if subject.kind == "image" else "the second half"
        what = f"Test data, {part} hidden, and filled in {times} times"
        picture = mosaic(subject, rows, times + 2, what)
        caption = f"By column: a test datum, what was given of it, and {times} ways to fill in {part}."
        return Section("Filling in", lead, [Figure(caption, [picture], wide=subject.kind == "audio")])
    dim = int(np.prod(subject.shape))
    if dim < 2:
        return None
    if subject.shape == (2,):
        values = torch.quantile(test[:, 0], torch.tensor([0.15, 0.5, 0.85]))
        x = torch.stack([values.repeat_interleave(60), torch.zeros(180)], 1)
        filled = model.impute(x, torch.tensor([True, False]).expand(180, 2), subject.source, steps=25, repeats=4)
        points, frame = filled.double().numpy(), plane.window(test.double().numpy())
        given = np.array([f"x₁ = {value:.2f}" for value in values.repeat_interleave(60).tolist()])
        what = "Draws of the second column, with the first one given"
        chart = plane.scatter("filling", "", what, points, frame, labels=given, behind=test[:600].double().numpy())
        return Section(
            "Filling in", lead, [Figure("The first column is given, three values of it; the second is drawn 60 times.", [chart])]
        )
    x = test[:100]
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) < 0.5
    filled = model.impute(x, mask, subject.source, steps=25, repeats=4)
    columns = [values.flatten(1).double() for values in (x, filled)]
    mean, spread = columns[0].mean(0), columns[0].std(0, correction=0)
    a, b = (((values - mean) / torch.where(spread > 0, spread, 1.0))[~mask.flatten(1)].numpy() for values in columns)
    chart = charts.agreement(a[:, None], b[:, None], ("hidden value (standardised by column)", "filled in"))
    told = np.corrcoef(a, b)[0, 1] if a.std() > 0 and b.std() > 0 else 0.0
    caption = f"Half of the values were hidden, chosen at random; their correlation with what was drawn for them is {told:.2f}."
    return Section("Filling in", lead, [Figure(caption, [chart])])
