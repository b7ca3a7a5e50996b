"""Where a diffusion model's loss comes from, and what spreading the noise levels of a batch evenly takes away of its variance."""

from __future__ import annotations

import torch
from torch import Tensor

from reparam.noise import Fresh, Noise, Sobol, Source
from reparam.objectives.denoising import WEIGHTINGS, denoising
from reparam.report import charts
from reparam.report.charts import rounded
from reparam.report.pieces import Figure, Section, Subject

__all__ = ["levels"]

# Noise levels at which the loss is drawn, with as many data each; batches whose variance is taken, and data of one.
_LEVELS, _EACH, _BATCHES, _BATCH = 20, 48, 60, 64
# What a ratio of two variances of so many batches exceeds by chance in few cases.
_CHANCE = 1.5


class _At(Source):
    """A source of the one time t, for the loss at a noise level."""

    def __init__(self, t: float) -> None:
        self.t = t

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        shape = (*rows, *noise.shape)
        return torch.full(shape, self.t, dtype=noise.dtype, device=noise.device)


@torch.no_grad()
def levels(subject: Subject) -> Section | None:
    """The loss by noise level, and the variance of the loss of a batch by how its levels are drawn."""
    if not subject.unlabelled:
        return None
    model, source = subject.model, subject.source
    rows = torch.cat([subject.splits.test.x, subject.splits.validation.x, subject.splits.train.x[:2000]])
    x: Tensor = model.units.standardise(rows)
    schedule, weighting = model.training_schedule, WEIGHTINGS[model.config.weighting]
    generator = torch.Generator().manual_seed(0)

    def batch(n: int) -> Tensor:
        return x.index_select(0, torch.randint(len(x), (n,), generator=generator))

    at = ((torch.arange(_LEVELS, dtype=torch.float64) + 0.5) / _LEVELS).tolist()
    denoise = model.denoiser(schedule=schedule)
    same, found = batch(_EACH), []
    for t in at:  # the same data and noise at each level, so that the curve shows the level alone
        each = denoising(denoise, same, schedule, weighting=weighting, times=_At(t), source=Fresh(torch.Generator().manual_seed(0)))
        found.append(each.mean().item())
    noise = [10 * schedule.log_snr(torch.tensor(t, dtype=torch.float64)).item() / 2.302585 for t in at]
    curve = charts.lines("levels", "loss", noise, {"loss": found}, "signal to noise, in decibels")
    batches = max(2, _BATCHES // 3) if subject.quick else _BATCHES
    variances = {}
    for name in ("independent", "sobol"):
        losses = []
        for i in range(batches):
            # The same data and noise for both, so that they differ by the levels alone.
            generator.manual_seed(i)
            noises = Fresh(torch.Generator().manual_seed(i))
            times = Sobol(seed=i) if name == "sobol" else source
            drawn = denoising(denoise, batch(_BATCH), schedule, weighting=weighting, times=times, source=noises)
            losses.append(drawn.double().mean())
        variances[name] = torch.stack(losses).var().item()
    lead = (
        "A batch is trained at many noise levels at once, one for each datum. The loss differs among them, so levels that "
        "are drawn independently make it vary by chance."
    )
    figures = [Figure("The loss by noise level: little noise on the right.", [curve])]
    if min(variances.values()) > 0:
        own = "sobol" if model.config.times == "sobol" else "independent"
        named = {
            "levels drawn independently": variances["independent"],
            "levels spread evenly (Sobol)": variances["sobol"],
        }
        mark = list(named)[("independent", "sobol").index(own)]
        chart = charts.bars(named, f"variance of the loss of {_BATCH} data", mark=mark, name="batches")
        ratio = variances["independent"] / variances["sobol"]
        much = f"Spread evenly, the variance of the loss is {rounded(ratio, 2)} times less"
        caption = much if ratio > _CHANCE else "Here the levels make little of the variance, most comes of data and noise"
        caption += f"; blue is this run. {batches} batches of each."
        figures.append(Figure(caption, [chart]))
    return Section("Noise levels", lead, figures)
