"""The law of a solver's answer to noisy scores."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.distributions import AffineTransform, Distribution, Gumbel, Independent, TransformedDistribution, constraints
from torch.distributions.constraints import Constraint

from reparam.distributions.law import Discrete
from reparam.distributions.solver import Solver, solve
from reparam.paths.discrete import steps
from reparam.paths.parameters import map_parameters
from reparam.paths.path import Path, path

__all__ = ["PerturbAndMAP"]


class _Vertices(Constraint):
    """The values that a solver can return; only it knows which these are."""

    is_discrete = True

    def __init__(self, event_dim: int) -> None:
        self._event_dim = event_dim
        super().__init__()

    @property
    def event_dim(self) -> int:  # type: ignore[override]
        return self._event_dim

    def check(self, value: Tensor) -> Tensor:
        inside = value.isfinite()
        return inside.flatten(-self._event_dim).all(-1) if self._event_dim else inside


class PerturbAndMAP(Discrete):
    """`z = argmax over a structure of z . (scores + noise)`, by any solver: subsets, matchings, trees, shortest paths, ...

    The law has no probabilities in closed form, only samples. `rp.LeaveOneOut()` and `rp.Score()` serve it, by the density of the
    noisy scores, unbiased for every cost and solver: the gradient of perturbed optimizers. So do `rp.ImplicitMLE()` and, for
    matchings, `rp.GumbelSinkhorn(temperature)`, which are biased and of less variance.

    Args:
        scores: of shape `batch + event`.
        solver: from scores of shape `rows + batch + event` to the best values, of the same shape. It is called without a graph.
        noise: the law of the noise of each score, taken as constant; standard Gumbel by default.
        event_dim: how many dimensions the structure has: 1 for vectors, 2 for matrices.

    Raises:
        ValueError: for scores of fewer dimensions, and for a noise whose values are not single numbers.
        TypeError: when the solver cannot be called, or the noise is no law.

    Source: Papandreou and Yuille (2011), "Perturb-and-MAP random fields"; Berthet et al., arXiv:2002.08676.

    Example:
        >>> import torch
        >>> from reparam.distributions.solver import matching
        >>> d = PerturbAndMAP(torch.zeros(5, 4, 4), matching, event_dim=2)
        >>> d.batch_shape, d.sample((7,)).shape, bool((d.sample().sum(-1) == 1).all())
        (torch.Size([5]), torch.Size([7, 5, 4, 4]), True)
    """

    scores: Tensor

    def __init__(
        self,
        scores: Tensor,
        solver: Solver,
        noise: Distribution | None = None,
        event_dim: int = 1,
        validate_args: bool | None = None,
    ) -> None:
        if not callable(solver):
            raise TypeError(f"PerturbAndMAP takes a solver, a function from scores to values; got {solver!r}")
        if isinstance(event_dim, bool) or not isinstance(event_dim, int) or not 0 <= event_dim <= scores.dim():
            raise ValueError(f"PerturbAndMAP was given scores of shape {tuple(scores.shape)} and event_dim={event_dim!r}")
        noise = Gumbel(scores.new_zeros(()), scores.new_ones(())) if noise is None else noise
        if not isinstance(noise, Distribution):
            raise TypeError(f"the noise of PerturbAndMAP is a torch.distributions.Distribution; got {noise!r}")
        batch, event = scores.shape[: scores.dim() - event_dim], scores.shape[scores.dim() - event_dim :]
        own = noise.batch_shape
        fits = len(own) <= len(event) and all(a in (1, b) for a, b in zip(own[::-1], event[::-1], strict=False))
        if noise.event_shape or not fits:
            raise ValueError(
                "the noise of PerturbAndMAP is of one number for each score, of a batch shape that broadcasts to "
                f"{tuple(event)}; got batch {tuple(own)}, event {tuple(noise.event_shape)}"
            )
        self.scores, self.solver = scores, solver
        self.noise = map_parameters(noise, lambda t: t.detach().to(scores))
        super().__init__(batch, event, validate_args)

    @property
    def arg_constraints(self) -> dict[str, Constraint]:
        return {"scores": constraints.independent(constraints.real, len(self.event_shape))}

    @property
    def support(self) -> Constraint:
        return _Vertices(len(self.event_shape))

    @property
    def perturbed(self) -> Distribution:
        """The law of the noisy scores, of which `solve` makes the value."""
        noise = self.noise.expand(self.scores.shape)
        return Independent(TransformedDistribution(noise, [AffineTransform(self.scores, 1.0)]), len(self.event_shape))

    def solve(self, scores: Tensor) -> Tensor:
        """The best value at the scores, of shape `rows + batch + event`, without a graph."""
        return solve(self.solver, scores)

    def log_prob(self, value: Tensor) -> Any:
        raise NotImplementedError(
            "PerturbAndMAP has no probabilities in closed form: the gradient of an expectation is that of rp.expect(f, d, "
            "estimator=rp.LeaveOneOut(), n=2), by the density of the noisy scores, or of rp.ImplicitMLE()"
        )


@steps.register
def perturb_and_map_steps(d: PerturbAndMAP) -> Path:
    """The solution at the noisy scores."""
    noisy = path(d.perturbed)
    fast = noisy.sample
    return Path(
        noisy.noise,
        lambda eps: d.solve(noisy.push(eps)),
        None,
        None if fast is None else lambda rows, generator: d.solve(fast(rows, generator)),
    )
