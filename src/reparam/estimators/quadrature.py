"""Expectations of continuous laws of one or few components by a rule of fixed nodes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent

from reparam.estimators.estimator import Draw
from reparam.estimators.score import check_fixed_support
from reparam.estimators.surrogate import magic
from reparam.noise import Kind, Source
from reparam.paths import Path, path
from reparam.paths.path import representable, support_of

__all__ = ["Quadrature", "nodes_each"]

# Beyond it a standard normal has less mass than a double rounds 1 by.
_END = 8.3
_MOST_ROWS, _MOST_NODES = 65536, 1024
# Coarser steps than this in the normal's own units lose more than seven digits of a polynomial.
_FEWEST = 16


@dataclass(frozen=True)
class _Nodes(Draw):
    """Attributes: rule: the weight of each row, `rows`."""

    rule: Tensor | None = None


@dataclass(frozen=True)
class Quadrature:
    """The sum Σ w_i f(z_i) over fixed nodes of a continuous law, with the gradient Σ w_i f(z_i) ∇ log q(z_i): no variance.

    The nodes are the law's quantiles at even steps of a standard normal, weighed by the normal density: the trapezoidal rule,
    whose error falls exponentially in the number of nodes for analytic costs, and as 1 / nodes for costs with steps and laws
    with wide gaps between their modes. Derivatives of every order.

    The rows are the nodes, whatever `n` is. A batch is integrated element by element, so the cost must keep the batch
    dimensions; an event of k components (`Independent`) has the product of their nodes, nodes^k rows.

    Args:
        nodes: for each component. By default 1024 for one, and as many as 65536 rows allow for up to four.

    Raises:
        NotImplementedError: for a discrete law, one without a path, and one whose path mixes the components (multivariate laws).
        ValueError: for fewer than 2 nodes, for more than 65536 rows, for a cost that has summed a batch dimension; where a bound of
            the support needs a gradient.

    Source: Trefethen and Weideman (2014), "The exponentially convergent trapezoidal rule".

    Example:
        >>> import torch, reparam as rp
        >>> a = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
        >>> rp.expect(torch.log, torch.distributions.Gamma(a, 1.0), estimator=rp.estimators.Quadrature()).backward()
        >>> torch.allclose(a.grad, torch.polygamma(1, a))          # of E[log z] = digamma(a)
        True
    """

    nodes: int | None = None

    def __post_init__(self) -> None:
        if self.nodes is not None and self.nodes < 2:
            raise ValueError(f"a quadrature has at least 2 nodes, got nodes={self.nodes}")

    @property
    def bias(self) -> str | None:
        return "Off by the error of a quadrature rule, the same at each draw, which falls with the number of nodes."

    def draw(self, q: Distribution, n: int, source: Source | None) -> Draw:
        p = _elementwise_path(q)
        check_fixed_support(q)
        components = math.prod(p.noise.shape[len(q.batch_shape) :])
        nodes = nodes_each(q, self.nodes)
        t = torch.linspace(-_END, _END, nodes, dtype=torch.float64)
        w = torch.exp(-0.5 * t * t) * ((t[1] - t[0]) / math.sqrt(2 * math.pi))
        choices = torch.cartesian_prod(*[torch.arange(nodes)] * components).reshape(-1, components)
        eps = _noise(p.noise.kind, t)[choices].to(p.noise.dtype).to(p.noise.device)
        shape = choices.shape[:1] + (1,) * len(q.batch_shape) + p.noise.shape[len(q.batch_shape) :]
        with torch.no_grad():
            z = p.push(eps.reshape(shape).expand(choices.shape[:1] + p.noise.shape).clone())
        # A copy: a caching transform would answer for its own output with the inverse that was cut from the graph. Forward mode
        # does not stop at no_grad.
        z = representable(z.detach().clone(), support_of(q))
        log_prob = q.log_prob(z)
        return _Nodes(z, q.batch_shape, log_prob, rule=w[choices].prod(-1).to(log_prob))

    def weigh(self, draw: Draw, cost: Tensor) -> Tensor:
        if not isinstance(draw, _Nodes) or draw.rule is None or draw.log_prob is None:
            raise ValueError("this draw is not of the nodes of a quadrature: weigh it with the estimator that drew it")
        if math.prod(draw.log_prob.shape[cost.dim() :]) != 1:
            raise ValueError(
                f"the cost has shape {tuple(cost.shape)}, the nodes and batch {tuple(draw.log_prob.shape)}: batch dimensions are "
                "integrated one by one, so the cost must keep them. Sum after the expectation, or use rp.Pathwise()"
            )
        rule = draw.rule.reshape(draw.rule.shape + (1,) * (cost.dim() - 1))
        return (rule * cost * magic(draw.log_prob, cost)).sum(0)


def nodes_each(q: Distribution, nodes: int | None = None) -> int:
    """Nodes for each component of an event of `q`: those asked for, or as many as there can be.

    Raises:
        ValueError: when that is too few, or makes too many rows.
    """
    components = q.event_shape.numel()
    most = math.floor(_MOST_ROWS ** (1 / max(components, 1)) + 1e-9)
    if (nodes or _FEWEST) > most:
        raise ValueError(
            f"{type(q).__name__} has {components} components an event, and {nodes or _FEWEST} nodes for each of them make more "
            f"than {_MOST_ROWS} rows: use rp.Pathwise() or rp.LeaveOneOut()"
        )
    return nodes or min(_MOST_NODES, most)


def _elementwise_path(q: Distribution) -> Path:
    """The path of a law that makes each value from a noise of its own."""
    base: Distribution = q
    while isinstance(base, Independent):
        base = base.base_dist
    try:
        p = path(q)
    except NotImplementedError:
        p = None
    if p is None or base.event_shape or p.noise.shape != q.batch_shape + q.event_shape:
        raise NotImplementedError(
            f"a quadrature is for continuous laws that make each value from a noise of its own, not for {type(base).__name__}: use "
            "rp.Pathwise(), rp.LeaveOneOut(), or rp.Enumerate() for a finite support"
        )
    return p


def _noise(kind: Kind, t: Tensor) -> Tensor:
    """The quantile of a kind of noise where a standard normal is `t`, exact in both tails."""
    lower = kind.quantile(torch.special.ndtr(-t.abs()))
    return torch.where(t > 0, kind.reflect(lower), lower)
