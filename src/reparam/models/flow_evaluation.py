"""What a flow is worth: the likelihood of data, or the fit to an unnormalised density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from reparam.models.targets import Target
from reparam.nn.flow_law import FlowLaw
from reparam.noise import Source
from reparam.paths import sample_and_log_prob

__all__ = ["Evaluation", "TargetEvaluation", "evaluate_target"]


@dataclass(frozen=True)
class Evaluation:
    """What a flow is worth on data.

    Attributes:
        rows: data in the set.
        log_likelihood: mean of log p(x), given the label where the model is conditional, in nats per datum; of counts a lower bound
            in expectation, by importance weighting over `noise_samples`.
        log_likelihood_error: its standard error as an estimate for the population; None for a single datum.
        noise_samples: draws of dequantisation noise for each datum; None for reals, whose likelihood is exact.
        bits_per_dim: -log_likelihood in bits for each element of a datum; None for reals, where it depends on their unit.
    """

    rows: int
    log_likelihood: float
    log_likelihood_error: float | None
    noise_samples: int | None
    bits_per_dim: float | None

    def lines(self) -> list[str]:
        """What the terminal shows."""
        error = "" if self.log_likelihood_error is None else f" ± {self.log_likelihood_error:.2f}"
        how = "exact" if self.noise_samples is None else f"a lower bound, {self.noise_samples} draws of noise for each datum"
        made = [f"  log-likelihood  {self.log_likelihood:.2f}{error} ({how})"]
        return made if self.bits_per_dim is None else [*made, f"  bits per dimension  {self.bits_per_dim:.3f}"]

    def tiles(self) -> list[tuple[str, str, str]]:
        """What the report shows: headline, value, remark."""
        error = "" if self.log_likelihood_error is None else f"± {self.log_likelihood_error:.2f}, "
        how = "exact" if self.noise_samples is None else f"lower bound, {self.noise_samples} draws of noise"
        made = [("log-likelihood", f"{self.log_likelihood:.2f}", f"{error}nats per datum, {how}")]
        return made if self.bits_per_dim is None else [*made, ("bits per dimension", f"{self.bits_per_dim:.3f}", "fewer is better")]


@dataclass(frozen=True)
class TargetEvaluation:
    """How well a flow q fits an unnormalised density.

    Attributes:
        rows: samples of the flow.
        elbo: mean of log density - log q(x), in nats: at most the log-normaliser.
        elbo_error: its standard error; None for a single sample.
        log_normaliser: log of the integral of the density, by importance sampling from the flow.
        effective_share: effective samples of the importance weights, as a share of all: 1 for a perfect fit.
        true_log_normaliser: where it is known.
    """

    rows: int
    elbo: float
    elbo_error: float | None
    log_normaliser: float
    effective_share: float
    true_log_normaliser: float | None

    def lines(self) -> list[str]:
        """What the terminal shows."""
        error = "" if self.elbo_error is None else f" ± {self.elbo_error:.3f}"
        truth = "" if self.true_log_normaliser is None else f" (true: {self.true_log_normaliser:.3f})"
        return [
            f"  ELBO  {self.elbo:.3f}{error}",
            f"  log-normaliser  {self.log_normaliser:.3f}{truth}",
            f"  effective samples  {self.effective_share:.1%}",
        ]

    def tiles(self) -> list[tuple[str, str, str]]:
        """What the report shows: headline, value, remark."""
        error = "nats" if self.elbo_error is None else f"± {self.elbo_error:.3f} nats"
        truth = "by importance sampling" if self.true_log_normaliser is None else f"true: {self.true_log_normaliser:.3f}"
        return [
            ("ELBO", f"{self.elbo:.3f}", error),
            ("log-normaliser", f"{self.log_normaliser:.3f}", truth),
            ("effective samples", f"{self.effective_share:.1%}", "of those drawn; 100% is a perfect fit"),
        ]


def evaluate_target(target: Target, law: FlowLaw, n: int, source: Source | None, batch_size: int) -> TargetEvaluation:
    """How well a law fits a target, by the weights of `n` samples of it, so many at a time."""
    ratios = []
    for start in range(0, n, batch_size):
        x, log_q = sample_and_log_prob(law, (min(batch_size, n - start),), source=source)
        ratios.append((target.log_density(x) - log_q).double())
    ratio = torch.cat(ratios)
    return TargetEvaluation(
        rows=n,
        elbo=ratio.mean().item(),
        elbo_error=(ratio.std() / n**0.5).item() if n > 1 else None,
        log_normaliser=(ratio.logsumexp(0) - math.log(n)).item(),
        effective_share=(2 * ratio.logsumexp(0) - (2 * ratio).logsumexp(0)).exp().item() / n,
        true_log_normaliser=target.log_normaliser,
    )
