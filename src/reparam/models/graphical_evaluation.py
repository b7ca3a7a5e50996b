"""What a graphical model is worth: how probable it finds rows, and how well it finds what was hidden of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from reparam.errors import BadInputError
from reparam.graphical.bound import drawer, draws_of, joint_of, log_weights
from reparam.models.evaluation import nats
from reparam.noise import Source
from reparam.training import Batch

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = ["Evaluation", "describe", "evaluate"]


@dataclass(frozen=True)
class Evaluation:
    """What a graphical model is worth on rows of a table. All but counts are means over them, in nats a row.

    Attributes:
        rows: how many.
        elbo: the evidence lower bound.
        log_likelihood: log p(row | training data), the shared latents and those of the row integrated out by `draws` draws: a lower
            bound in expectation, tighter than `elbo` where that has the latents of rows.
        log_likelihood_error: its standard error as an estimate for the population; None for a single row.
        draws: of the guide.
        accuracy: of each hidden column of categories, the share of hidden values that were the most probable one.
        chance: the share that the most frequent category has among them.
    """

    rows: int
    elbo: float
    log_likelihood: float
    log_likelihood_error: float | None
    draws: int
    accuracy: Mapping[str, float] = field(default_factory=dict)
    chance: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What the terminal shows."""
        error = "" if self.log_likelihood_error is None else f" ± {self.log_likelihood_error:.2f}"
        return [
            f"  ELBO            {self.elbo:.2f}",
            f"  log-likelihood  {self.log_likelihood:.2f}{error}  ({self.draws} draws of what all rows share)",
            *(
                f"  {name}, hidden  {share:.1%} right  ({self.chance[name]:.1%} by the most frequent)"
                for name, share in self.accuracy.items()
            ),
        ]

    def tiles(self) -> list[tuple[str, str, str]]:
        """The headline numbers of a report: name, value, remark."""
        error = "" if self.log_likelihood_error is None else f"± {self.log_likelihood_error:.2f}, "
        return [
            ("ELBO", nats(self.elbo), "nats a row"),
            ("log-likelihood", nats(self.log_likelihood), f"{error}nats a row, {self.draws} draws"),
            *(
                (f"{name}, hidden", f"{share:.1%}", f"right; {self.chance[name]:.1%} by the most frequent")
                for name, share in self.accuracy.items()
            ),
        ]


@torch.no_grad()
def evaluate(model: Graphical, inputs: Batch, *, k: int, source: Source | None = None, batch_size: int = 128) -> Evaluation:
    """What a model is worth on rows.

        log p(row | data) ~ log 1/k sum_i p(row, z_i | s_i) / q(z_i | row, s_i),   s_i, z_i ~ q

    with discrete z summed out. Without a guide that serves new rows, z_i is drawn from its law, for training rows too.

    Args:
        model: in evaluation mode.
        inputs: as `model.inputs` gives them.
        k: draws.
        source: of the noise.
        batch_size: rows at a time.

    Raises:
        BadInputError: for no rows.
    """
    parts = (inputs,) if isinstance(inputs, Tensor) else inputs
    n = len(parts[0])
    if not n:
        raise BadInputError("0 rows are evaluated: give at least one")
    elbo, found = 0.0, []
    for start in range(0, n, batch_size):
        batch = tuple(tensor[start : start + batch_size] for tensor in parts)
        elbo += len(batch[0]) * model.loss(batch, source).parts["elbo"].item()
        found.append(log_weights(model, k, batch, source).double().logsumexp(0) - math.log(k))
    log_p = torch.cat(found)
    accuracy, chance = {}, {}
    for name in model.config.hide or () if len(parts) > 2 else ():
        place = model.columns.names.index(name)
        hidden = parts[0][:, place].isnan() & ~parts[2][:, place].isnan()
        node = next((node for node, places in model.columns.places.items() if places == (place,)), None)
        if name not in model.columns.categories or node is None or not bool(hidden.any()):
            continue
        truth = parts[2][hidden, place].long()
        guess = model.describe(tuple(tensor[hidden] for tensor in parts), source)[node].argmax(-1)
        accuracy[name] = (guess == truth).double().mean().item()
        chance[name] = truth.bincount().max().item() / len(truth)
    return Evaluation(
        rows=n,
        elbo=elbo / n,
        log_likelihood=log_p.mean().item(),
        log_likelihood_error=(log_p.std() / n**0.5).item() if n > 1 else None,
        draws=k,
        accuracy=accuracy,
        chance=chance,
    )


@torch.no_grad()
def describe(model: Graphical, inputs: Batch, source: Source | None, n: int) -> dict[str, Tensor]:
    """What is known of the latents of rows; see [`describe`][reparam.models.graphical.Graphical.describe]."""
    seen = model.seen(inputs)
    drawn = draws_of(model, seen, drawer(n, source))
    made = joint_of(model, seen, drawn, torch.Size([n]), source)
    # Draws for training rows are of their posterior, as the guide has it; those for new rows have importance weights.
    log_weight = (made.rows() - drawn.log_q_rows).expand(n, seen.rows.size)
    weight = torch.where(seen.index < 0, log_weight.softmax(0), 1 / n)
    found = {}
    for name in [*made.places, *(latent.name for latent in model.plan().latents if not latent.shared)]:
        if name in made.values:
            place = len(model.plan().laws[name].event_shape)
            value = made.posterior(name) if name in made.places else made.mean(name, place)
            event = value.shape[2:]
            found[name] = (weight.reshape(weight.shape + (1,) * len(event)) * value.expand(*weight.shape, *event)).sum(0)
    return found
