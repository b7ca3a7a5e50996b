"""The evidence lower bound of a graphical model, with the gradient of each latent by its own estimator."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.distributions import Distribution

from reparam.estimators import Pathwise, choose
from reparam.estimators.graph import Sampler, run
from reparam.graphical.density import Joint
from reparam.graphical.guide import Draw, Draws, Guide
from reparam.graphical.rows import Given, Rows, joint
from reparam.noise import Fresh, Source
from reparam.paths import sample
from reparam.training import Batch, Loss

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = ["Seen", "bound", "drawer", "draws_of", "joint_of", "log_weights", "start_guide"]

# How gaps follow a start: steps of Adam, the first step size, and the rows that are looked at.
_SETTLING_STEPS, _SETTLING, _SETTLED_ROWS = 200, 0.1, 512


@dataclass(frozen=True)
class Seen:
    """A batch as the model and its guide see it.

    Attributes:
        rows: values of nodes, and where they are observed.
        features: what networks are shown of each row, (B, F).
        index: the place of each row among the training rows, (B,), negative for others.
    """

    rows: Rows
    features: Tensor = field(repr=False)
    index: Tensor = field(repr=False)

    def as_new(self) -> Seen:
        """The same rows without a place in tables."""
        return replace(self, index=torch.full_like(self.index, -1))


def bound(model: Graphical, batch: Batch, source: Source | None) -> Loss:
    """The negative of the evidence lower bound of the rows of a batch; see [`loss`][reparam.models.graphical.Graphical.loss].

    The latents with a path are drawn first, all rows at once; others are nodes of `rp.graph`, each weighed by its estimator.
    """
    seen, shape = model.seen(batch), torch.Size([model.config.samples])
    entropy = torch.zeros(())

    def cost(draw: Sampler) -> Tensor:
        nonlocal entropy
        drawn = draws_of(model, seen, lambda name, law: _sampled(model, draw, name, law, shape, source))
        made = joint_of(model, seen, drawn, shape, source)
        share = torch.full_like(drawn.log_q_rows, 1 / model.size)
        if model.guide is not None and model.guide.whole:
            # The joint law is of the training rows' latents too, which are no concern of new rows.
            share = torch.where(seen.index < 0, 0.0, 1 / model.size)
        log_p = made.rows() + share * made.shared()
        log_q = drawn.log_q_rows + share * drawn.log_q_shared
        full = torch.broadcast_shapes(log_p.shape, log_q.shape, (*shape, seen.rows.size))
        entropy = -log_q.detach().expand(full)
        return (log_q - log_p).expand(full)

    named = {latent.name: latent.estimator for latent in model.plan().latents if latent.estimator is not None}
    alone = {name: estimator for name, estimator in named.items() if not isinstance(estimator, Pathwise)}
    nodes, value = run(cost, alone, {name: model.nodes[name].draws or 1 for name in alone}, (*shape, seen.rows.size), source)
    for node in reversed(nodes.values()):
        value = node.estimator.weigh(node.draw, value)
        with torch.no_grad():
            entropy = node.estimator.weigh(node.draw, entropy)
    total = value.mean()
    elbo, entropy = -total.detach(), entropy.mean()
    return Loss(total, {"elbo": elbo, "log_joint": elbo - entropy, "entropy": entropy})


@torch.no_grad()
def log_weights(model: Graphical, n: int, batch: Batch, source: Source | None = None) -> Tensor:
    """How probable rows are at `n` draws of the guide, log p(row, z_i | s_i) - log q(z_i | row, s_i): n + (B,).

    The mean of their exponentials estimates p(row | training data). Discrete latents are summed out. Latents of rows that the guide
    draws jointly for the whole table are drawn from their laws, as those of new rows are: it has no density of one row.
    """
    seen = model.seen(batch)
    if model.guide is not None and model.guide.whole:
        seen = seen.as_new()
    drawn = draws_of(model, seen, drawer(n, source))
    log_p = joint_of(model, seen, drawn, torch.Size([n]), source).rows()
    return (log_p - drawn.log_q_rows).expand(n, seen.rows.size)


def start_guide(model: Graphical) -> None:
    """Let the guide begin near the posterior: by the training rows in which no latent is that it draws by itself."""
    if model.guide is None or not model.guide.startable or model.rows is None:
        return
    rows = model.seen(model.rows).rows
    complete = torch.ones(rows.size, dtype=torch.bool)
    for name in model.guide.apart:
        complete &= ~rows.missing(name)
    if not bool(complete.any()):
        return
    seen = model.seen((model.rows[0][complete], model.rows[1][complete]))

    def log_joint(values: dict[str, Tensor]) -> Tensor:
        """Of the rows and all latents together, of the shape of the leading dimensions of the values."""
        zero = torch.zeros(1)
        made = joint_of(model, seen, Draws(values, zero, zero), torch.Size(), None)
        by_row = made.rows()
        return by_row.expand((*by_row.shape[:-1], seen.rows.size)).sum(-1) + made.shared().sum(-1)

    if model.guide.start_at(log_joint) and model.guide.apart:
        _settle(model, model.guide, model.rows)


def _settle(model: Graphical, guide: Guide, rows: tuple[Tensor, Tensor]) -> None:
    """Let what the guide draws by itself, such as gaps, follow while the joint law stands where it started.

    Otherwise the joint law leaves a good start before they have come to theirs: of a regression whose covariate has gaps it would
    explain the unexplained by noise, and stay there.
    """
    followers = [p for name, p in guide.named_parameters() if not name.startswith("joint.")]
    batch = (rows[0][:_SETTLED_ROWS], rows[1][:_SETTLED_ROWS])
    optimizer = torch.optim.Adam(followers, _SETTLING)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, _SETTLING_STEPS)
    source = Fresh(torch.Generator(batch[0].device).manual_seed(0))
    for _ in range(_SETTLING_STEPS):
        slopes = torch.autograd.grad(bound(model, batch, source).total, followers, allow_unused=True)
        for p, slope in zip(followers, slopes, strict=True):
            p.grad = slope
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()


def drawer(n: int, source: Source | None) -> Draw:
    """A guide's sampler without gradient: n rows of each law, none of one that depends on rows already."""
    return lambda name, law: sample(law, (n,) if len(law.batch_shape) == 1 else (), source=source)


def draws_of(model: Graphical, seen: Seen, draw: Draw) -> Draws:
    """The draws of the guide; nothing where all latents are summed out."""
    if model.guide is None:
        zero = seen.features.new_zeros(1)
        return Draws({}, zero, zero)
    wanted = {latent.name: seen.rows.missing(latent.name) for latent in model.guide.latents if not latent.shared}
    if not model.guide.amortised:
        wanted = {name: missing & (seen.index >= 0) for name, missing in wanted.items()}
    return model.guide.sample(draw, seen.features, seen.index, wanted)


def joint_of(model: Graphical, seen: Seen, drawn: Draws, shape: torch.Size, source: Source | None) -> Joint:
    """The terms of log p at draws of the guide, whose tables have no entries for new rows."""
    known, whole = {}, frozenset[str]()
    if model.guide is not None:
        whole = model.guide.whole
        if not model.guide.amortised and bool((seen.index < 0).any()):
            known = {name: seen.index >= 0 for name in drawn.values if not model.nodes[name].shared}
    given = Given(drawn.values, torch.Size(torch.broadcast_shapes(shape, model.front(drawn.values))), known, whole)
    return joint(model.nodes, seen.rows, given, model.enumerable, source)


def _sampled(model: Graphical, draw: Sampler, name: str, law: Distribution, shape: torch.Size, source: Source | None) -> Tensor:
    """A draw of the guide: with a path, all rows at once; otherwise by the estimator of its node, within `rp.graph`."""
    first = len(law.batch_shape) == 1
    named = model.nodes[name].estimator if name in model.nodes else None
    estimator = named or choose(law, source=source).estimator
    if isinstance(estimator, Pathwise):
        made = estimator.draw(law, shape.numel() if first else 1, source).value
        return made if first else made[0]
    return draw(name, law.expand(shape + law.batch_shape) if first else law)
