"""The evidence for a graphical model: how probable the data are under it, all latents integrated out."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from reparam.graphical.drawn import drawn_of
from reparam.graphical.given import check_draws, facts_about, observed, training_rows
from reparam.graphical.particles import ancestors, weighed
from reparam.noise import Source

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = ["LogEvidence", "log_evidence"]

# With fewer draws than these, in effect, an estimate is not to be relied on.
_FEW = 30
# Draws times rows at once.
_CHUNK = 2**18


@dataclass(frozen=True)
class LogEvidence:
    """An estimate of log p(data), the evidence for a model, in nats for all rows together.

    Attributes:
        value: the estimate; it is a lower bound in expectation.
        error: its standard error by the spread of the weights; 0 where all was summed exactly.
        effective: how many draws of equal weight would be worth as much, of rows by themselves the fewest. Where it is a small
            share of `draws`, the error is more than it says: make the guide better.
        draws: of the guide.
        rows: of data.
    """

    value: float
    error: float
    effective: float
    draws: int
    rows: int

    def __str__(self) -> str:
        """One line, for people."""
        how = "exact" if math.isinf(self.effective) else f"± {self.error:.2g}, {self.effective:.0f} effective of {self.draws} draws"
        return f"log evidence {self.value:.4f} nats for {self.rows} rows ({how})"


def log_evidence(model: Graphical, n: int = 1000, *, source: Source | None = None) -> LogEvidence:
    """An estimate of log p(data), the guide's latents integrated out by importance sampling from it.

        log p(x) ≈ log 1/n Σ_i p(x, z_i) / q(z_i),    z_i ~ q

    Discrete nodes are summed exactly. Where rows share no latent, it is the sum of their own estimates. Its expectation is below
    log p(x); compare models by it where the effective number of draws is not small.

    Args:
        model: the model, fitted; its training rows are the data.
        n: draws of the guide.
        source: of noise.

    Raises:
        BadInputError: for a model without data.

    Warns:
        RuntimeWarning: where few draws count.

    Source: Burda et al., arXiv:1509.00519.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> from reparam.models.graphical import Graphical, Node
        >>> nodes = [Node("mu", lambda: Normal(0.0, 1.0), shared=True), Node("y", lambda mu: Normal(mu, 1.0))]
        >>> model = Graphical(nodes, data={"y": torch.tensor([0.0, 2.0])})
        >>> found = model.log_evidence(n=2000)
        >>> abs(found.value - -3.7205) < 0.01
        True
    """
    check_draws(n)
    x, index = training_rows(model)
    batch = len(x)
    nodes = ancestors(model.nodes, model.columns.places)
    facts = facts_about(model, nodes)
    given = observed(model, x, facts)
    parts = []
    some = max(1, 4 * _CHUNK // batch)
    for start in range(0, n, some):
        k = min(some, n - start)
        drawn = drawn_of(model, nodes, given, batch, k, x, index, source)
        made = weighed(nodes, facts, given, drawn, (), k, batch, source)
        if len(made.log_weight) < k:
            return LogEvidence(made.log_weight.double().sum().item(), 0.0, math.inf, 0, batch)  # nothing was drawn
        shared = (made.log_shared - drawn.log_q_shared).double()
        # Rows that share no draw are independent, and the mean of a product is the product of means: each varies less.
        apart = len(shared) == 1 and not any(nodes[name].shared for name in drawn.values)
        parts.append(made.log_weight.double() + shared if apart else made.log_weight.double().sum(-1, keepdim=True) + shared)
    log_w = torch.cat(parts)
    weight = (log_w - log_w.amax(0)).exp()
    effective = (weight.sum(0).square() / weight.square().sum(0)).min().item()
    if effective < min(_FEW, n / 2):
        warnings.warn(
            f"{effective:.1f} effective of {n} draws: the evidence is more uncertain than its error says, and likely too low; fit "
            "for longer, or with a guide that fits better",
            RuntimeWarning,
            stacklevel=2,
        )
    return LogEvidence(
        value=(log_w.logsumexp(0) - math.log(n)).sum().item(),
        error=((weight.std(0) / weight.mean(0)).square().sum() / n).sqrt().item() if n > 1 else math.inf,
        effective=effective,
        draws=n,
        rows=batch,
    )
