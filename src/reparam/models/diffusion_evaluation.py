"""How well a diffusion model explains data, in nats per datum and in bits per dimension."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.noise import Source

__all__ = ["Evaluation", "evaluate"]

# Rows that go through the network at once.
_ROWS = 1024
# Up to this many values a datum, the trace of the probability-flow ODE is exact and quick.
_FEW = 16


@dataclass(frozen=True)
class Evaluation:
    """What a diffusion model is worth on a data set. All but the counts are means over it.

    Attributes:
        rows: data in the set.
        bound: the variational bound, an upper bound on -log p(x) in nats per datum: of counts the probability, of reals the
            density. With labels, on -log p(x | label).
        bound_error: its standard error as an estimate for the population; None for a single datum.
        diffusion: the part of the bound that is lost on the way.
        reconstruction: the part that the cleanest state leaves open.
        prior: the part that the noisiest state still tells.
        bits: the bound in bits per dimension, of counts; None for reals, whose density is of another number in other units.
        loss: the denoising loss.
        noises: how many times and noises, for each datum.
        ode: -log p(x) by the probability-flow ODE, in nats per datum; None for counts, and for data of more than 16 values.
        ode_error: its standard error.
        labelled: whether the model was told the labels.
    """

    rows: int
    bound: float
    bound_error: float | None
    diffusion: float
    reconstruction: float
    prior: float
    bits: float | None
    loss: float
    noises: int
    ode: float | None
    ode_error: float | None
    labelled: bool

    def lines(self) -> list[str]:
        """For the terminal."""
        what = "-log p(x | y)" if self.labelled else "-log p(x)"
        terms = f"noise removal {self.diffusion:.2f}, last step {self.reconstruction:.2f}, prior {self.prior:.2f}"
        found = [
            f"  {what:<15} at most {self.bound:.2f}{_error(self.bound_error)}  ({terms}; {self.noises} noises a datum)",
            f"  denoising loss  {self.loss:.4f}",
        ]
        if self.bits is not None:
            found.insert(1, f"  bits/dimension  at most {self.bits:.3f}")
        if self.ode is not None:
            found.insert(1, f"  by the ODE      {self.ode:.2f}{_error(self.ode_error)}")
        return found

    def tiles(self) -> list[tuple[str, str, str]]:
        """For the report: headline, value, remark."""
        given = " given the label" if self.labelled else ""
        found = [
            ("-log p(x), at most", f"{self.bound:.2f}", f"nats per datum{given}{_error(self.bound_error)}: the variational bound"),
            ("Denoising loss", f"{self.loss:.4f}", "weighted squared error for each value, at all noises"),
        ]
        if self.bits is not None:
            found.insert(1, ("Bits per dimension, at most", f"{self.bits:.3f}", "the bound, by the number of values of a datum"))
        if self.ode is not None:
            remark = f"nats per datum{given}{_error(self.ode_error)}: by the probability-flow ODE"
            found.insert(1, ("-log p(x)", f"{self.ode:.2f}", remark))
        return found


def _error(error: float | None) -> str:
    return "" if error is None else f" ± {error:.2f}"


@torch.no_grad()
def evaluate(
    model: Any, inputs: Tensor | tuple[Tensor, Tensor], *, k: int, source: Source | None = None, batch_size: int = 128
) -> Evaluation:
    """Evaluate a [`Diffusion`][reparam.models.diffusion.Diffusion] model in evaluation mode.

    Args:
        model: in evaluation mode.
        inputs: at least one datum, N + shape; or data and the places of their labels.
        k: times and noises for each datum.
        source: of these.
        batch_size: data at a time.

    Raises:
        BadInputError: for no data or no noises.

    Example:
        >>> import torch
        >>> from reparam.models.diffusion import Config, Diffusion
        >>> model = Diffusion(Config(hidden=(8,)), shape=(2,)).eval()
        >>> found = model.evaluate(torch.randn(10, 2), k=8)
        >>> found.rows, abs(found.bound - found.diffusion - found.reconstruction - found.prior) < 1e-3
        (10, True)
    """
    data, labels = inputs if isinstance(inputs, tuple) else (inputs, None)
    if not len(data) or k < 1:
        raise BadInputError(f"{len(data)} data and k={k} noises for each: at least one of each is needed")
    size = min(batch_size, _ROWS)
    terms, losses, densities = [], 0.0, []
    for i, x in enumerate(data.split(size)):
        label = None if labels is None else labels[i * size : i * size + len(x)]
        losses += len(x) * model.loss(x if label is None else (x, label), source).parts["loss"].item()
        rounds = max(1, math.ceil(k * len(x) / _ROWS))
        shares = [k // rounds + (r < k % rounds) for r in range(rounds)]
        sums = [torch.stack(model.bound(x, label=label, k=share, source=source)).double() * share for share in shares if share]
        terms.append(torch.stack(sums).sum(0) / k)
        if model.units.levels is None and model.shape.numel() <= _FEW:
            densities.append(-model.log_prob(x, label=label, source=source).double())
    bounds = torch.cat(terms, 1)
    total, prior, reconstruction, diffusion = bounds.mean(1).tolist()
    ode = torch.cat(densities) if densities else None
    return Evaluation(
        rows=len(data),
        bound=total,
        bound_error=_standard_error(bounds[0]),
        diffusion=diffusion,
        reconstruction=reconstruction,
        prior=prior,
        bits=None if model.units.levels is None else total / model.shape.numel() / math.log(2),
        loss=losses / len(data),
        noises=k,
        ode=None if ode is None else ode.mean().item(),
        ode_error=None if ode is None else _standard_error(ode),
        labelled=labels is not None,
    )


def _standard_error(values: Tensor) -> float | None:
    return (values.std() / len(values) ** 0.5).item() if len(values) > 1 else None
