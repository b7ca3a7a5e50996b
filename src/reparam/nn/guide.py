"""Variational laws of a vector of reals: a diagonal normal, a full one, or a flow, in coordinates that a start has made alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from reparam.errors import BadInputError
from reparam.nn.bijection import Bijection, Chain
from reparam.paths import detached

__all__ = ["Guided", "Kind", "VectorGuide", "find_start", "typical"]

Kind = Literal["mean_field", "full_rank", "flow"]

# Of a matrix of so many columns: a step would take seconds, and its file a quarter of a gigabyte.
_WIDEST = 8192
# Where no start was found, a law begins narrow: wide ones meet densities that overflow.
_NARROW = 0.3
# Searches for a mode, their steps, and how often one is damped; where there is a mode, ten or twenty steps find it.
_SEARCHES, _ITERATIONS, _DAMPINGS = 3, 60, 10
_LEAST_DAMPING = 1e-6
# Of a correlation matrix: an eigenvalue below this is that of no minimum, but for rounding in single precision.
_FLAT = 1e-5
# Nats that Newton's step would still gain where a search has ended.
_ENDED = 1e-2


class Guided(NamedTuple):
    """A draw of a guide.

    Attributes:
        value: rows + batch + (D,).
        log_q: its log-density, rows + batch, in nats.
    """

    value: Tensor
    log_q: Tensor


class VectorGuide(nn.Module):
    """A law q(u) of D reals to be fitted to a density: `u = shift + scale v`, with v the law that is learned.

        mean_field   v_i = loc_i + sigma_i eps_i
        full_rank    v = loc + L eps,  L lower triangular
        flow         v = loc + sigma f(eps),  f a stack of inverse autoregressive splines

    with eps standard normal. `shift` and `scale` are not learned: `start` takes them from a mode of the density and its curvature
    there, so that steps of one size suit every coordinate. Of the first two kinds, `log_q` has its parameters cut: what is left out
    of the gradient has mean zero, and what is left vanishes where q is the posterior (arXiv:1703.09194). A flow is pushed from
    noise to u in one pass of its networks.

    Args:
        dim: D, at least 1.
        kind: of the law.
        transforms: how many a flow has.
        bins: of their splines; 0 leaves affine functions.
        hidden: widths of the hidden layers of their networks.

    Raises:
        BadInputError: for an unknown kind; for no column, or for more than a matrix of their covariances has room for.

    Source: Kucukelbir et al., "Automatic Differentiation Variational Inference", arXiv:1603.00788; Kingma et al., "Improving
    Variational Inference with Inverse Autoregressive Flow", arXiv:1606.04934; Durkan et al., arXiv:1906.04032.

    Example:
        >>> import torch, reparam as rp
        >>> guide = VectorGuide(3, "full_rank")
        >>> value, log_q = guide(lambda law: rp.rsample(law, (64,)))
        >>> value.shape, log_q.shape
        (torch.Size([64, 1, 3]), torch.Size([64, 1]))
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, dim: int, kind: Kind = "full_rank", *, transforms: int = 2, bins: int = 8, hidden: Sequence[int] = (32, 32)
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise BadInputError(f"guide={kind!r}: give one of {', '.join(get_args(Kind))}")
        if dim < 1:
            raise BadInputError(f"a guide of {dim} numbers: give at least 1")
        if kind != "mean_field" and dim > _WIDEST:
            raise BadInputError(
                f"guide={kind!r} of {dim} numbers has a matrix of {dim} x {dim}: above {_WIDEST} use mean_field, or amortised=True"
            )
        self.dim, self.kind = dim, kind
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", _NARROW * (torch.ones(dim) if kind == "mean_field" else torch.eye(dim)))
        self.loc = nn.Parameter(torch.zeros(dim))
        self.log_sigma = nn.Parameter(torch.zeros(dim))
        self.below = nn.Parameter(torch.zeros(dim, dim)) if kind == "full_rank" else None
        self.flow: Bijection | None = None
        if kind == "flow":
            from reparam.nn.autoregressive import stack

            self.flow = Chain(*stack(dim, transforms, bins=bins, hidden=hidden))

    def law(self) -> Distribution:
        """The law that is drawn from, of batch (1,) and event (D,): of v, or of a flow's noise."""
        if self.flow is not None:
            loc = torch.zeros_like(self.loc)[None]
            return Independent(Normal(loc, torch.ones_like(loc), validate_args=False), 1, validate_args=False)
        loc, sigma = self.loc[None], self.log_sigma.exp()
        if self.below is None:
            return Independent(Normal(loc, sigma, validate_args=False), 1, validate_args=False)
        return MultivariateNormal(loc, scale_tril=(self.below.tril(-1) + sigma.diag())[None], validate_args=False)

    def forward(self, draw: Callable[[Distribution], Tensor]) -> Guided:
        """A draw of u with its log-density; `draw` takes the law to values `rows + (1, D)`."""
        law = self.law()
        drawn = draw(law)
        if self.flow is None:
            v, log_q = drawn, detached(law).log_prob(drawn)
        else:
            # The flow is read from noise to value: what its convention calls the data is the noise here.
            pushed, log_det = self.flow(drawn)
            v = self.loc + self.log_sigma.exp() * pushed
            log_q = -(drawn.square() + math.log(2 * math.pi)).sum(-1) / 2 - log_det - self.log_sigma.sum()
        if self.scale.dim() == 1:
            return Guided(self.shift + self.scale * v, log_q - self.scale.log().sum())
        return Guided(self.shift + v @ self.scale.T, log_q - self.scale.diagonal().log().sum())

    @torch.no_grad()
    def centre(self, shift: Tensor, spread: Tensor) -> None:
        """Begin at a place, D, with standard deviations, D, or with the factor of a covariance, D x D lower triangular."""
        if spread.dim() == self.scale.dim():
            self.scale.copy_(spread)
        elif spread.dim() == 1:
            self.scale.copy_(spread.diag())
        else:
            # The diagonal normal that is nearest to a full one has its precisions, the diagonal of the inverse covariance.
            self.scale.copy_(torch.cholesky_inverse(spread).diagonal().rsqrt())
        self.shift.copy_(shift)

    def start(self, log_density: Callable[[Tensor], Tensor], places: Tensor) -> bool:
        """Begin at the highest mode that is found from `places`, M x D, with the curvature there; False where there is none.

        Args:
            log_density: from rows + (D,) to rows, twice differentiable, up to a constant.
            places: where searches begin, with the scales of the columns as their spread.
        """
        found = find_start(log_density, places)
        if found is None:
            self.begin(places)
            return False
        self.centre(*found)
        return True

    def begin(self, places: Tensor) -> None:
        """Begin narrow, in the middle of plausible places, M x D."""
        self.centre(*typical(places, narrow=True))

    def relative(self, u: Tensor) -> Tensor:
        """`u` in units of the start, rows + (D,): numbers of the order of one, for networks."""
        return (u - self.shift) / (self.scale if self.scale.dim() == 1 else self.scale.diagonal())

    def extra_repr(self) -> str:
        return f"{self.dim}, {self.kind!r}"


def find_start(log_density: Callable[[Tensor], Tensor], places: Tensor) -> tuple[Tensor, Tensor] | None:
    """The highest mode that is found, D, and the factor L of `L L^T`, the inverse of minus the Hessian there, D x D.

    Newton's steps from the median of the places and from the first ones, which breaks symmetries. None where no search ends at a
    maximum: a density that grows without bound has no mode, though it may have an integral.

    Args:
        log_density: from rows + (D,) to rows, up to a constant.
        places: M x D.

    Source: Laplace's approximation: MacKay, "Information Theory, Inference, and Learning Algorithms" (2003), chapter 27.

    Example:
        >>> import torch
        >>> normal = torch.distributions.MultivariateNormal(torch.ones(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> mode, factor = find_start(normal.log_prob, torch.randn(8, 2))
        >>> torch.allclose(mode, torch.ones(2), atol=1e-2), torch.allclose(factor @ factor.T, normal.covariance_matrix, atol=1e-3)
        (True, True)
    """
    middle, spread = typical(places)

    def cost(w: Tensor) -> Tensor:
        return -log_density((middle + spread * w)[None])[0]

    best: tuple[float, Tensor, Tensor] | None = None
    for begin in (middle, *places[: _SEARCHES - 1]):
        found = _minimum(cost, ((begin - middle) / spread).detach())
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    if best is None:
        return None
    factor = torch.linalg.cholesky(torch.linalg.inv(best[2])).to(places.dtype)
    return middle + spread * best[1], spread[:, None] * factor


def _minimum(cost: Callable[[Tensor], Tensor], w: Tensor) -> tuple[float, Tensor, Tensor] | None:
    """The least cost that Newton's steps reach, where, and the Hessian there, D x D in double; None if they do not end.

    Steps go downhill along directions that curve downwards too, and are damped until they gain.

    Source: Dauphin et al., "Identifying and attacking the saddle point problem", arXiv:1406.2572.
    """
    value, damping = _value(cost, w), _LEAST_DAMPING
    if not math.isfinite(value):
        return None
    for _ in range(_ITERATIONS):
        with torch.enable_grad():
            slope = torch.autograd.functional.jacobian(cost, w).double()
            curvature = torch.autograd.functional.hessian(cost, w).double()
        if not (curvature.isfinite().all() and slope.isfinite().all()):
            return None
        # In units in which each coordinate curves alike: what is flat is then no matter of units.
        unit = curvature.diagonal().abs().clamp(min=torch.finfo(torch.double).tiny).rsqrt()
        along, directions = torch.linalg.eigh(unit[:, None] * curvature * unit)
        uphill = directions.T @ (unit * slope)
        if along[0] > _FLAT and (uphill**2 / along).sum() / 2 < _ENDED:
            return value, w, curvature
        for _ in range(_DAMPINGS):
            step = unit * (directions @ (uphill / (along.abs() + damping)))
            tried = w - step.to(w.dtype)
            now = _value(cost, tried)
            if now < value:
                break
            damping *= 10
        else:
            return None
        w, value, damping = tried, now, max(damping / 100, _LEAST_DAMPING)
    return None


def _value(cost: Callable[[Tensor], Tensor], w: Tensor) -> float:
    """The cost at a place, infinite where its laws refuse their parameters or the value."""
    try:
        with torch.no_grad():
            value = cost(w).item()
    except ValueError:
        return math.inf
    return value if math.isfinite(value) else math.inf


def typical(places: Tensor, *, narrow: bool = False) -> tuple[Tensor, Tensor]:
    """The median of each column of M x D, and its robust standard deviation, 0.74 times the distance of its quartiles.

    It is 1 of a column that is constant; a narrow one is a share of it, and of one where it is more.
    """
    low, middle, high = torch.quantile(places, torch.tensor([0.25, 0.5, 0.75], dtype=places.dtype, device=places.device), 0)
    spread = torch.where(high > low, 0.7413 * (high - low), 1.0)
    return middle, _NARROW * spread.clamp(max=1.0) if narrow else spread
