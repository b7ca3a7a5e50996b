"""How well a world model explains sequences, and how far ahead it sees."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from reparam.errors import BadInputError
from reparam.models.evaluation import nats
from reparam.models.world_sequences import hide, read, rewarded
from reparam.nn.likelihood import GaussianLikelihood
from reparam.noise import Source
from reparam.training import Batch
from reparam.training.config import each, rows_of

if TYPE_CHECKING:
    from reparam.models.world import World

__all__ = ["Evaluation", "bounds", "evaluate"]

# The values that the widest layer may hold at once: samples are split to fit.
_CHUNK = 2**24
# Samples of what is imagined, whose mean predicts.
_IMAGINED = 16


@dataclass(frozen=True)
class Evaluation:
    """What a world model is worth on a set of sequences. Terms of the bound are means over the steps of all of them, in nats.

    Attributes:
        rows: sequences in the set.
        steps: that they have in all.
        elbo: the plain evidence lower bound, of a step.
        sequence_elbo: of a sequence.
        reconstruction: of the ELBO, log p(x | state).
        kl: the divergence of the posterior from the prior, which is taken off.
        reward: of the ELBO, log p(reward | state); None without rewards.
        continuation: of the ELBO, log p(the episode ends or goes on | state); None where ends are not told.
        bound: a bound from `importance_samples` of the states of each sequence, of a step: above the ELBO.
        importance_samples: how many.
        context: steps that are seen before the rest is imagined, with the actions that were taken.
        error: by horizon, 1 step ahead and on: root mean square error of the mean of what is imagined, in `unit`; empty for
            sequences of one step.
        error_last: of the last datum seen, in its place.
        error_mean: of the mean of all data.
        unit: of these errors: "standard deviations of the data" for a gaussian likelihood, "counts" for counts, and "probability"
            for binary data (the root of Brier's score).
    """

    rows: int
    steps: int
    elbo: float
    sequence_elbo: float
    reconstruction: float
    kl: float
    reward: float | None
    continuation: float | None
    bound: float
    importance_samples: int
    context: int
    error: tuple[float, ...]
    error_last: tuple[float, ...]
    error_mean: tuple[float, ...]
    unit: str

    def lines(self) -> list[str]:
        """For people, at a terminal."""
        terms = [f"reconstruction {self.reconstruction:.3f}", f"KL {self.kl:.3f}"]
        terms += [f"reward {self.reward:.3f}"] if self.reward is not None else []
        terms += [f"continuation {self.continuation:.3f}"] if self.continuation is not None else []
        found = [
            f"  ELBO          {self.elbo:.3f} nats a step  ({', '.join(terms)}), {self.sequence_elbo:.2f} a sequence",
            f"  log p(x)   >= {self.bound:.3f} nats a step  ({self.importance_samples} importance samples)",
        ]
        if self.error:
            ahead = [h for h in (1, 2, 5, 10, 20, 50, 100) if h <= len(self.error)]
            found += [
                f"  open loop     after {self.context} step{'s' * (self.context > 1)}, root mean square error in {self.unit}   "
                "(repeating the last datum, the mean)",
                *(
                    f"    {h:3d} ahead   {self.error[h - 1]:.3f}   ({self.error_last[h - 1]:.3f}, {self.error_mean[h - 1]:.3f})"
                    for h in ahead
                ),
            ]
        return found

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        tiles = [
            ("test ELBO", nats(self.elbo), "nats per step"),
            ("log p(x)", f"≥ {nats(self.bound)}", f"nats per step, {self.importance_samples} importance samples"),
            ("KL", nats(self.kl), "nats per step"),
        ]
        for ahead in sorted({min(1, len(self.error)), min(10, len(self.error))} - {0}):
            guesses = f"repeating the last datum {self.error_last[ahead - 1]:.2f}, the mean {self.error_mean[ahead - 1]:.2f}"
            remark = f"in {self.unit}; {guesses}"
            tiles.append((f"error {ahead} ahead", f"{self.error[ahead - 1]:.2f}", remark))
        return tiles


@torch.no_grad()
def bounds(model: World, batch: Batch, k: int, source: Source | None) -> tuple[dict[str, Tensor], Tensor]:
    """The ELBO of each sequence and its terms, and a bound from `k` samples of its states, in nats."""
    s = model.read(batch, values=True)
    rows = len(s.mask)
    width = max(model.space.features, math.prod(model.likelihood.outputs), *model.config.hidden)
    at_once = max(1, min(k, _CHUNK // max(1, s.first.numel() * width)))
    sums: list[dict[str, Tensor]] = []
    weights: list[Tensor] = []
    for start in range(0, k, at_once):
        samples = min(at_once, k - start)
        seen = model.observed(s, source, samples, learns=False)
        hidden = ~s.mask.repeat(samples, 1)
        terms, z = model.terms(seen.state, s), seen.state.stochastic
        kl = kl_divergence(seen.posterior, seen.prior).masked_fill(hidden, 0.0)
        ratio = (seen.prior.log_prob(z) - seen.posterior.log_prob(z)).masked_fill(hidden, 0.0)
        weights.append((terms.total() + ratio).sum(1).unflatten(0, (samples, rows)))
        named = {"elbo": terms.total() - kl, **terms.named(), "kl": kl}
        sums.append({name: term.sum(1).unflatten(0, (samples, rows)).sum(0) for name, term in named.items()})
    means = {name: torch.stack([part[name] for part in sums]).sum(0) / k for name in sums[0]}
    return means, torch.cat(weights).logsumexp(0) - math.log(k)


@torch.no_grad()
def evaluate(model: World, inputs: Batch, *, k: int, source: Source | None, batch_size: int) -> Evaluation:
    """The ELBO and a bound from `k` samples of the states of each sequence, and errors of what is imagined after half of it.

    Raises:
        BadInputError: for no sequences, or k below 1.
    """
    rows = rows_of(inputs)
    if not rows or k < 1:
        raise BadInputError(f"{rows} sequences, {k} importance samples: give at least one of each")
    was, device = model.training, model.steps.device
    model.eval()
    try:
        sums: dict[str, Tensor] = {}
        batches = [each(lambda t, i=i: t[i : i + batch_size].to(device), inputs) for i in range(0, rows, batch_size)]  # type: ignore[misc]
        whole = read(inputs, model.shape, model.actions.shape, torch.float32)
        steps = int(whole.mask.sum())
        mean = _measured(model, whole.observation[whole.mask].to(device)).mean(0)
        length = whole.mask.shape[1]
        context = length // 2
        for batch in batches:
            terms, bound = model.bounds(batch, k, source)
            found = {name: term.sum() for name, term in (terms | {"bound": bound}).items()}
            if context:
                found |= _errors(model, batch, context, mean, source)
            for name, value in found.items():
                sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64)) + value.double().cpu()
    finally:
        model.train(was)
    errors: dict[str, tuple[float, ...]] = dict.fromkeys(("error", "error_last", "error_mean"), ())
    if context:
        far = int((sums["seen"] > 0).sum())  # the longest that any goes on
        errors = {name: tuple((sums[name] / sums["seen"]).sqrt()[:far].tolist()) for name in errors}
    per_step = {name: float(value.sum()) / max(1, steps) for name, value in sums.items()}
    return Evaluation(
        rows=rows,
        steps=steps,
        elbo=per_step["elbo"],
        sequence_elbo=float(sums["elbo"]) / rows,
        reconstruction=per_step["reconstruction"],
        kl=per_step["kl"],
        reward=per_step.get("reward") if rewarded(whole).any() else None,
        continuation=per_step.get("continuation"),
        bound=per_step["bound"],
        importance_samples=k,
        context=context,
        error=errors["error"],
        error_last=errors["error_last"],
        error_mean=errors["error_mean"],
        unit=_unit(model),
    )


def _unit(model: World) -> str:
    """Of errors."""
    if isinstance(model.likelihood, GaussianLikelihood):
        return "standard deviations of the data"
    return "probability" if model.likelihood.levels == 1 else "counts"


def _measured(model: World, x: Tensor) -> Tensor:
    """Data in the unit of errors."""
    return model.likelihood.standardise(x) if isinstance(model.likelihood, GaussianLikelihood) else x


def _errors(model: World, batch: Batch, context: int, mean: Tensor, source: Source | None) -> dict[str, Tensor]:
    """Sums of squared errors by horizon, and of how many sequences: those that go on, in the same episode."""
    s = read(batch, model.shape, model.actions.shape, torch.float32)
    imagined = model.open_loop(batch, context, samples=_IMAGINED, source=source).imagined.mean(0)
    z, foreseen = (_measured(model, x) for x in (s.observation, imagined))
    truth, last = z[:, context:], z[:, context - 1 : context]
    follows = s.mask[:, context:] & ~(s.first[:, context:].cumsum(1) > 0)
    size = math.prod(model.shape)
    found = {"seen": follows.sum(0)}
    for name, guess in {"error": foreseen, "error_last": last, "error_mean": mean}.items():
        found[name] = hide((truth - guess).square(), ~follows).flatten(2).sum((0, 2)) / size
    return found
