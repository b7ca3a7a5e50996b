"""How well a latent-variable model explains data, in nats per datum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reparam.noise import Source

__all__ = ["Evaluation", "evaluate", "nats"]


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on a data set. All but the counts are means over it, in nats per datum.

    Attributes:
        rows: data in the set.
        elbo: the plain evidence lower bound.
        reconstruction: its first term, E log p(x | z).
        kl: its second, the divergence of the posterior from the prior.
        nll: -log p(x) by importance sampling: an upper bound in expectation, tighter than -elbo.
        nll_error: the standard error of `nll` as an estimate for the population; None for a single datum.
        importance_samples: how many, for each datum.
        active_units: latents whose posterior mean varies over the set; None for a single datum.
        latent_dim: latents in all.
    """

    rows: int
    elbo: float
    reconstruction: float
    kl: float
    nll: float
    nll_error: float | None
    importance_samples: int
    active_units: int | None
    latent_dim: int

    def lines(self) -> list[str]:
        """For people, at a terminal."""
        error = f" ± {self.nll_error:.2f}" if self.nll_error is not None else ""
        active = f"{self.active_units} of {self.latent_dim}" if self.active_units is not None else "needs several data"
        return [
            f"  ELBO            {self.elbo:.2f}  (reconstruction {self.reconstruction:.2f}, KL {self.kl:.2f})",
            f"  -log p(x)       {self.nll:.2f}{error}  ({self.importance_samples} importance samples)",
            f"  active latents  {active}",
        ]

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        error = "" if self.nll_error is None else f"± {self.nll_error:.2f}, "
        tiles = [
            ("test ELBO", nats(self.elbo), "nats per datum"),
            ("−log p(x)", nats(self.nll), f"{error}{self.importance_samples} importance samples"),
            ("KL", nats(self.kl), "nats per datum"),
        ]
        if self.active_units is not None:
            tiles.append(("active latents", f"{self.active_units} of {self.latent_dim}", "their mean moves with the data"))
        return tiles


def nats(value: float) -> str:
    """A number of nats, as the headline of a report."""
    return (f"{value:.2f}" if abs(value) < 1e4 else f"{value:,.0f}").replace("-", "−")


@torch.no_grad()
def evaluate(model: Any, x: Tensor, *, k: int, source: Source | None = None, batch_size: int = 128) -> Evaluation:
    """Evaluate a model such as a [`VAE`][reparam.models.vae.VAE] on data of its shape and units.

    Args:
        model: in evaluation mode.
        x: at least one datum, N + shape, on the model's device.
        k: importance samples for each datum.
        source: of the noise.
        batch_size: data at a time.

    Example:
        >>> import torch
        >>> from reparam.models.vae import VAE, Config
        >>> vae = VAE(Config(latent_dim=2, likelihood="bernoulli"), shape=(5,)).eval()
        >>> found = evaluate(vae, torch.ones(10, 5), k=50)
        >>> found.rows, found.latent_dim, abs(found.elbo - found.reconstruction + found.kl) < 1e-4
        (10, 2, True)
    """
    sums: dict[str, Tensor] = {}
    likelihoods = []
    for batch in x.split(batch_size):
        for name, part in model.loss(batch, source).parts.items():
            sums[name] = sums.get(name, torch.zeros((), dtype=torch.float64, device=x.device)) + len(batch) * part.double()
        likelihoods.append(model.log_likelihood(batch, k, source).double())
    nll, several = -torch.cat(likelihoods), len(x) > 1
    return Evaluation(
        rows=len(x),
        **{name: (sums[name] / len(x)).item() for name in ("elbo", "reconstruction", "kl")},
        nll=nll.mean().item(),
        nll_error=(nll.std() / len(x) ** 0.5).item() if several else None,
        importance_samples=k,
        active_units=int(model.active_units(x).sum()) if several else None,
        latent_dim=model.config.latent_dim,
    )
