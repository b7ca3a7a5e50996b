"""Which gradient estimator: bias, variance, time and efficiency of each, and a recommendation in words."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.diagnostics.entries import Candidate, Entry, as_parameters, candidates, independent, named
from reparam.diagnostics.finding import Finding, find, with_efficiency
from reparam.diagnostics.tally import Tally, take
from reparam.diagnostics.terms import rounding, terms
from reparam.diagnostics.truth import Truth, exactly, find_truth, flat, long_run, unit
from reparam.diagnostics.words import recommendation, table, warnings
from reparam.estimators import expect
from reparam.estimators.estimator import check_cost, check_rows
from reparam.noise import Antithetic, Source
from reparam.paths import sample
from reparam.paths.parameters import check_distribution

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Diagnosis", "diagnose", "diagnose_losses"]

# Of the time, what a long run for the truth may take.
_FOR_THE_TRUTH = 1 / 3


@dataclass(frozen=True)
class Diagnosis:
    """What `diagnose` found; it prints as a table with a recommendation.

    Attributes:
        rows: of each estimator, in the order given.
        truth: what they were compared with, in words; None where nothing was.
        left_out: estimators that refused, with their reasons.
        notes: remarks on the comparison as a whole.
        n: rows of an estimate; None where losses were compared.
    """

    rows: tuple[Finding, ...]
    truth: str | None
    left_out: Mapping[str, str]
    notes: tuple[str, ...]
    n: int | None

    @property
    def recommendation(self) -> str:
        """Which to use, and why."""
        return recommendation(self.rows)

    @property
    def warnings(self) -> dict[str, list[str]]:
        """What to beware of, by estimator; those without are not there."""
        return warnings(self.rows)

    @property
    def remarks(self) -> list[str]:
        """What was compared, with what, and what there is to say of the comparison as a whole."""
        rows = "" if self.n is None else f" of {self.n} rows"
        against = "not compared with a truth" if self.truth is None else f"against {self.truth}"
        return [f"Up to {max(row.draws for row in self.rows)} estimates{rows} each, {against}.", *self.notes]

    def __getitem__(self, name: str) -> Finding:
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(f"{name!r}: there are {', '.join(row.name for row in self.rows)}")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.rows)

    def __str__(self) -> str:
        return table(self)

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """All of it as numbers, texts, lists and dicts, without the single draws."""
        rows = []
        for row in self.rows:
            facts = asdict(row)
            del facts["along"]
            rows.append(facts | {"snr": row.snr, "efficiency": row.efficiency, "warnings": self.warnings.get(row.name, [])})
        return {
            "rows": rows,
            "truth": self.truth,
            "recommendation": self.recommendation,
            "notes": list(self.notes),
            "left_out": dict(self.left_out),
            "n": self.n,
        }

    def plot(self) -> Figure:
        """Efficiency, variance, bias and the distributions of the gradients, in a matplotlib figure."""
        from reparam.diagnostics.picture import plot

        return plot(self)


def diagnose(
    f: Callable[[Tensor], Tensor],
    q: Distribution,
    estimators: Iterable[Entry] | Mapping[str, Entry] | None = None,
    *,
    n: int = 16,
    parameters: Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None = None,
    exact: Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None = None,
    source: Source | None = None,
    draws: int = 1000,
    seconds: float = 10.0,
) -> Diagnosis:
    """Compare estimators of the gradient of E[f(z)], z ~ q: which is right, which is least noisy, which is worth its time.

    Each estimator gives `draws` estimates, in turn with the others, of `n` rows each; their mean is held to the true
    gradient: the exact sum over a finite support, a quadrature for continuous laws of up to four components, otherwise a long run
    of unbiased estimators, whose own error enters the confidence interval. *Efficiency* is 1 / (variance × seconds): an estimator
    of twice the efficiency gets as near in half of the time. An unbiased estimator is called biased once in a million times; more
    often where a few draws of a long tail make most of the variance, which the warnings say.

    Learned parts of estimators are taken as they are, not trained; baselines that move do so. Times are those of this machine
    and of this many threads: `torch.set_num_threads(1)` makes those of small problems steady.

    Args:
        f: the cost, as for `rp.expect`.
        q: the law.
        estimators: a list, or a dict by name; each an estimator or a pair of one and a noise source (or a function that makes it),
            such as `(rp.Pathwise(), rp.Antithetic())`. By default all that serve this law and cost; those that refuse are left
            out, with their reasons in `left_out`.
        n: rows of an estimate.
        parameters: what to differentiate in, by name or in order; by default every leaf in the graph of `q` that
            requires a gradient.
        exact: the true gradient in each parameter, where it is known.
        source: of noise, for those that have none of their own.
        draws: of each estimator.
        seconds: the most that all of it takes, roughly: what is begun is ended, and two draws are made of each.

    Raises:
        ValueError: where there is nothing to differentiate in; for shapes of `exact` that are not the parameters'.

    Example:
        >>> import torch, reparam as rp
        >>> mu = torch.tensor(0.5, requires_grad=True)
        >>> q = torch.distributions.Normal(mu, 1.0)
        >>> found = rp.diagnose(lambda z: (z - 2.0) ** 2, q, [rp.Pathwise(), rp.Score()], draws=200)
        >>> found["Pathwise"].variance < found["Score"].variance, found["Pathwise"].biased
        (True, False)
        >>> print(found.recommendation)
        Use Pathwise: ...
    """
    check_distribution(q)
    n = check_rows(n, "the number of rows n")
    _check_budget(draws, seconds)
    of = as_parameters(parameters, q)
    tensors = list(of.values())
    start = perf_counter()

    def loss(candidate: Candidate) -> Callable[[], Tensor]:
        noise = source if candidate.source is None else candidate.source
        if isinstance(noise, Antithetic) and noise.source is None:
            noise = Antithetic(source)
        return lambda: expect(f, q, estimator=candidate.estimator, n=n, source=noise)

    def trial(candidate: Candidate) -> None:
        torch.autograd.grad(loss(candidate)().sum(), tensors, retain_graph=True, allow_unused=True)

    if estimators is None:
        value = sample(q, (n,))
        check_cost(f(value), value.shape[:1], q.batch_shape)  # a fault of the cost is no reason to leave estimators out
        entries, left_out = candidates(trial)
    else:
        entries, left_out = named(estimators), {}
        for candidate in entries.values():
            trial(candidate)
    if not entries:
        raise ValueError("no estimator serves: " + "; ".join(f"{name}: {why}" for name, why in left_out.items()))
    seen = terms(f, q, tensors)
    off = rounding(seen.size, tensors)
    if exact is None:
        truth, notes = find_truth(f, q, tensors, n, independent(source), seconds * _FOR_THE_TRUTH, off)
    else:
        truth, notes = exactly(_as_gradient(exact, of), "what was given as exact", None, off), []
    if seen.constant:
        notes = [*notes, "The cost was the same at all samples that were looked at: it seems not to depend on z."]
    losses = {name: (candidate.estimator.bias, loss(candidate)) for name, candidate in entries.items()}
    return _compare(losses, of, truth, draws, seconds - (perf_counter() - start), left_out, notes, n)


def diagnose_losses(
    losses: Mapping[str, Callable[[], Tensor]],
    parameters: Mapping[str, Tensor] | Iterable[Tensor] | Tensor,
    *,
    exact: Mapping[str, Tensor] | Sequence[Tensor] | Tensor | None = None,
    reference: str | Sequence[str] | None = None,
    draws: int = 1000,
    seconds: float = 10.0,
) -> Diagnosis:
    """The same for whole models: each loss is a function that draws fresh noise and returns a tensor, whose sum is differentiated.

    What is to stay fixed between draws (the batch, say) the functions hold fixed.

    Args:
        losses: by name.
        parameters: what to differentiate in.
        exact: the true gradient, where it is known.
        reference: names of losses that are unbiased: a long run of them is the truth. With neither, no bias is looked for.
        draws: of each loss.
        seconds: the most that all of it takes, roughly.

    Raises:
        ValueError: for a reference that is none of the losses, and for parameters that require no gradient.

    Example:
        >>> import torch, reparam as rp
        >>> w = torch.ones(3, requires_grad=True)
        >>> noise = rp.noise_like(w, rp.noise.NORMAL)
        >>> found = rp.diagnostics.diagnose_losses(
        ...     {"one": lambda: (w * noise.draw()).sum() ** 2, "four": lambda: ((w * noise.draw(4)).sum(-1) ** 2).mean()},
        ...     [w], reference="four", draws=200)
        >>> found["four"].variance < found["one"].variance
        True
    """
    _check_budget(draws, seconds)
    of = as_parameters(parameters if isinstance(parameters, Mapping | Tensor) else list(parameters), None)
    if not isinstance(losses, Mapping) or not losses:
        raise TypeError(f"losses is a dict of functions by name, at least one; got {losses!r}")
    names = [reference] if isinstance(reference, str) else list(reference or ())
    for name in names:
        if name not in losses:
            raise ValueError(f"the reference {name!r} is none of the losses: {', '.join(losses)}")
    start = perf_counter()
    truth: Truth | None = None
    notes: list[str] = []
    if exact is not None:
        truth = exactly(_as_gradient(exact, of), "what was given as exact")
    elif names:
        truth, notes = long_run({name: losses[name] for name in names}, list(of.values()), seconds * _FOR_THE_TRUTH)
    entries = {name: (None, loss) for name, loss in losses.items()}
    return _compare(entries, of, truth, draws, seconds - (perf_counter() - start), {}, notes, None)


def _compare(
    losses: Mapping[str, tuple[str | None, Callable[[], Tensor]]],
    parameters: Mapping[str, Tensor],
    truth: Truth | None,
    draws: int,
    seconds: float,
    left_out: Mapping[str, str],
    notes: list[str],
    n: int | None,
) -> Diagnosis:
    tensors = list(parameters.values())
    direction = None if truth is None else unit(truth.gradient)
    tallies: dict[str, Tally] = {}
    start = perf_counter()
    for name, (_, loss) in losses.items():
        tallies[name] = Tally(loss, tensors, direction)
        direction = unit(tallies[name].mean) if direction is None else direction
    if take(list(tallies.values()), draws, seconds - (perf_counter() - start)):
        fewest = min(tally.count + tally.broken for tally in tallies.values() if not tally.settled)
        notes = [*notes, f"The time was up after {fewest} draws of {draws}: give more seconds for finer numbers."]
    sizes = {name: tensor.numel() for name, tensor in parameters.items()}
    found = with_efficiency([find(name, losses[name][0], tally, truth, sizes) for name, tally in tallies.items()])
    return Diagnosis(tuple(found), None if truth is None else truth.how, dict(left_out), tuple(notes), n)


def _as_gradient(exact: Mapping[str, Tensor] | Sequence[Tensor] | Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    if isinstance(exact, Mapping):
        if set(exact) != set(parameters):
            raise ValueError(f"exact names {', '.join(exact)}; the parameters are {', '.join(parameters)}")
        given = [exact[name] for name in parameters]
    else:
        given = [exact] if isinstance(exact, Tensor) else list(exact)
    shapes, wanted = [tuple(g.shape) for g in given], [tuple(p.shape) for p in parameters.values()]
    if shapes != wanted:
        raise ValueError(f"exact has shapes {shapes}; wanted a gradient for each parameter, {wanted}")
    return flat(given)


def _check_budget(draws: int, seconds: float) -> None:
    if check_rows(draws, "draws") < 2:
        raise ValueError("a variance needs at least 2 draws, got draws=1")
    if not seconds > 0:
        raise ValueError(f"seconds is the time that all may take, more than 0; got {seconds}")
