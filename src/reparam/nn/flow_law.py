"""The distribution of a flow: standard normal noise through a bijection, sampled by its path."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.distributions import constraints

from reparam.distributions.law import Law
from reparam.nn.bijection import Bijection
from reparam.noise import NORMAL, Noise, Source
from reparam.paths import sample_and_log_prob
from reparam.paths.path import Path, path

__all__ = ["FlowLaw"]


class FlowLaw(Law):
    """`x = f^-1(eps)` with `eps` standard normal: `log p(x) = log N(f(x); 0, I) + log |det df/dx|`.

    Args:
        bijection: f, of vectors.
        event_shape: of a sample, which f sees as a vector.
        context: `batch + (C,)`, what f depends on; its leading dimensions are the batch of laws.
        interval: the ends of the support of each element; by default the whole line.

    Source: Rezende and Mohamed, "Variational Inference with Normalizing Flows", arXiv:1505.05770.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.nn.autoregressive import stack
        >>> from reparam.nn.bijection import Chain
        >>> law = FlowLaw(Chain(*stack(3, transforms=2)), (3,))
        >>> x = rp.rsample(law, (64,), source=rp.Sobol(seed=0))
        >>> law.log_prob(x).shape
        torch.Size([64])
    """

    arg_constraints = {"context": constraints.real_vector}

    def __init__(
        self,
        bijection: Bijection,
        event_shape: tuple[int, ...],
        context: Tensor | None = None,
        interval: tuple[float, float] | None = None,
    ) -> None:
        self.bijection = bijection
        self.context = context
        self.interval = interval
        # What flows on is what the networks hold: to check it here would cost as much as to use it.
        super().__init__(torch.Size() if context is None else context.shape[:-1], torch.Size(event_shape), validate_args=False)

    @property
    def support(self) -> constraints.Constraint:
        """Of a sample: reals, or the interval."""
        each = constraints.real if self.interval is None else constraints.interval(*self.interval)
        return constraints.independent(each, len(self.event_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density in nats, `rows + batch`; minus infinity outside the support, NaN where the value is."""
        low, high = self.interval or (-math.inf, math.inf)
        inside = (low <= value) & (value <= high) & value.isfinite()
        # The formula sees only what it can bear, so that no NaN leaks through `where`.
        z, log_det = self.bijection(
            self._flat(torch.where(inside, value, 0.0 if self.interval is None else (low + high) / 2)), self.context
        )
        density = _normal(z) + log_det
        beyond = torch.where(self._flat(value).isnan().any(-1), torch.nan, -torch.inf).to(density.dtype)
        return torch.where(self._flat(inside).all(-1), density, beyond)

    @property
    def noise(self) -> Noise:
        """What one draw is made of."""
        held = next(self.bijection.parameters())
        return Noise(NORMAL, self._batch_shape + self._event_shape, held.dtype, held.device)

    def push(self, eps: Tensor) -> Tensor:
        """`f^-1(eps)`."""
        x: Tensor = self.bijection.inverse(self._flat(eps), self.context)[0]
        return x.reshape(eps.shape)

    def pull(self, x: Tensor) -> Tensor:
        """`f(x)`."""
        z: Tensor = self.bijection(self._flat(x), self.context)[0]
        return z.reshape(x.shape)

    def _flat(self, x: Tensor) -> Tensor:
        shape = tuple(self._event_shape)
        if tuple(x.shape[x.dim() - len(shape) :]) != shape:
            raise ValueError(f"the value has shape {tuple(x.shape)}: this law is of samples of shape {shape}")
        return x.reshape(*x.shape[: x.dim() - len(shape)], self._event_shape.numel())


def _normal(z: Tensor) -> Tensor:
    return -(z.square() + math.log(2 * math.pi)).sum(-1) / 2


@path.register
def flow_path(d: FlowLaw) -> Path:
    """`x = f^-1(eps)`."""
    return Path(d.noise, d.push, d.pull)


@sample_and_log_prob.register
def _(d: FlowLaw, rows: torch.Size, source: Source | None) -> tuple[Tensor, Tensor]:
    eps = d.noise.draw(rows, source=source)
    x, log_det = d.bijection.inverse(d._flat(eps), d.context)
    return x.reshape(eps.shape), _normal(d._flat(eps)) + log_det
