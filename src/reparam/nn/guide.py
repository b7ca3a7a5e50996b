"""Variational laws of a vector of reals: a diagonal normal, a full one, or a flow, in coordinates that a start has made alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
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
# Draws by which log p is averaged about a mode, and how often the covariance is found anew.
_DRAWS, _ROUNDS = 128, 20
# It has come to its end when no precision moves by more than this share.
_SETTLED = 0.1
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

    with eps standard normal. `shift` and `scale` are not learned: `start` takes them from the normal law that is nearest to the
    density, so that steps of one size suit every coordinate. Of the first two kinds, `log_q` has its parameters cut: what is left
    out of the gradient has mean zero, and what is left vanishes where q is the posterior (arXiv:1703.09194). A flow is pushed
    from noise to u in one pass of its networks.

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

    def start(self, log_density: Callable[[Tensor], Tensor], places: Tensor, draws: int = _DRAWS) -> bool:
        """Begin at the normal law that is nearest to a density, by [`find_start`][reparam.nn.guide.find_start]; False if none is.

        The diagonal law takes the precisions of that normal, which is its best covariance where the density is normal.
        """
        found = find_start(log_density, places, draws)
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


def find_start(log_density: Callable[[Tensor], Tensor], places: Tensor, draws: int = _DRAWS) -> tuple[Tensor, Tensor] | None:
    """The normal law that is nearest to a density: its mean, D, and the factor L of its covariance `L L^T`, D x D.

    It is where E_q[d log p / du] = 0 and `(L L^T)^-1 = -E_q[Hessian of log p]`, q the law itself. Newton's steps lead to the
    highest mode from the median of the places and from the first ones, which breaks symmetries; from there the same steps on the
    average of log p over draws of q, of the same noise all along, and the covariance that its curvature gives, in turn. Where
    that does not come to rest, they are taken from the median too, and the better law is the answer.

    Args:
        log_density: from rows + (D,) to rows, up to a constant, twice differentiable.
        places: M x D, where searches begin, with the scales of the columns as their spread.
        draws: of q; below 2, the answer is the mode with the curvature there, Laplace's approximation.

    Returns:
        None where no search ends: a density may have neither a mode nor curvature.

    Source: Opper and Archambeau, "The variational Gaussian approximation revisited", Neural Computation 21 (2009).

    Example:
        >>> import torch
        >>> normal = torch.distributions.MultivariateNormal(torch.ones(2), torch.tensor([[2.0, 1.0], [1.0, 2.0]]))
        >>> mean, factor = find_start(normal.log_prob, torch.randn(8, 2))
        >>> torch.allclose(mean, torch.ones(2), atol=1e-2), torch.allclose(factor @ factor.T, normal.covariance_matrix, atol=1e-3)
        (True, True)
    """
    middle, spread = typical(places)
    begins = [(begin - middle) / spread for begin in (middle, *places[: _SEARCHES - 1])]
    nowhere = torch.zeros_like(places[:1])
    modes = [_minimum(partial(_average, log_density, middle, spread, nowhere), begin) for begin in begins]
    found = [mode[1:] for mode in sorted((mode for mode in modes if mode is not None), key=lambda mode: mode[0])[:1]]
    if draws >= 2:
        # Pairs of opposite signs: their average has no error where the density is that of a normal.
        noise = torch.randn(draws // 2, places.shape[1], generator=torch.Generator().manual_seed(0)).to(places)
        average, noise = partial(_average, log_density, middle, spread), torch.cat([noise, -noise])
        laws = [_nearest(average, noise, *mode) for mode in found]
        if not any(law.settled for law in laws):
            # A mode may be far from where most of the mass is.
            narrow = (spread / typical(places, narrow=True)[1]).double().square().diag()
            laws.append(_nearest(average, noise, begins[0], narrow))
        best = max(laws, key=lambda law: law.bound)
        found = [(best.w, best.precision)] if best.bound > -math.inf else []
    if not found:
        return None
    return middle + spread * found[0][0], spread[:, None] * _factor(found[0][1]).to(places)


class _Near(NamedTuple):
    """A normal law with its bound, up to a constant, and whether its precision has come to rest."""

    bound: float
    w: Tensor
    precision: Tensor
    settled: bool


def _nearest(average: Callable[[Tensor, Tensor], Tensor], noise: Tensor, w: Tensor, precision: Tensor) -> _Near:
    """The best normal that is found from one."""
    best = _Near(-math.inf, w, precision, False)
    for _ in range(_ROUNDS):
        factor = _factor(precision)
        found = _minimum(partial(average, noise @ factor.T.to(noise)), w)
        if found is None:
            break
        value, w, curvature = found
        change = curvature - precision
        now = _Near(
            factor.diagonal().log().sum().item() - value, w, precision, bool((factor.T @ change @ factor).abs().max() < _SETTLED)
        )
        best = now if now.settled or now.bound > best.bound else best
        if now.settled:
            break
        # By half of the way, as the two conditions would otherwise swing about each other.
        precision = precision + change / 2
    return best


def _average(log_density: Callable[[Tensor], Tensor], middle: Tensor, spread: Tensor, away: Tensor, w: Tensor) -> Tensor:
    """Minus the mean log-density about w, which is in units of the spread."""
    return -log_density(middle + spread * (w + away)).mean()


def _factor(precision: Tensor) -> Tensor:
    """L with `L L^T` the inverse of a positive definite matrix."""
    factor: Tensor = torch.linalg.cholesky(torch.linalg.inv(precision))
    return factor


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
            last = w - (unit * (directions @ (uphill / along))).to(w)
            return value, last if _value(cost, last) < value + _ENDED else w, curvature
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
