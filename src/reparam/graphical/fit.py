"""Fitting a graphical model in memory, for those who need no run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from reparam.errors import BadInputError, DivergedError
from reparam.noise import Source

if TYPE_CHECKING:
    from reparam.models.graphical import Graphical

__all__ = ["fit"]


def fit(
    model: Graphical,
    data: Any = None,
    *,
    steps: int = 2000,
    learning_rate: float = 0.02,
    batch_size: int | None = None,
    source: Source | None = None,
) -> list[float]:
    """Observe data and fit a graphical model to them: Adam, with a learning rate that falls to 0 as a cosine does.

    Args:
        model: changed in place.
        data: as `model.observe` takes them; None goes on with the rows that were observed.
        steps: of Adam.
        learning_rate: at the first step.
        batch_size: rows a step, drawn anew each time; all of them by default.
        source: of the noise of the guide.

    Returns:
        The evidence lower bound of each step, in nats a row; none for a model that has nothing to learn.

    Raises:
        BadInputError: as `observe` and `loss`.
        DivergedError: when the bound is not finite.

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> from reparam.models.graphical import Graphical, Node, fit
        >>> model = Graphical([Node("mu", lambda: Normal(0.0, 10.0), shared=True), Node("y", lambda mu: Normal(mu, 1.0))])
        >>> bounds = fit(model, {"y": [1.0, 2.0, 3.0]}, steps=10)
        >>> round(model.draw_latents(1000, model.rows).values["mu"].mean().item())
        2
    """
    if data is not None:
        model.observe(data)
    if model.rows is None:
        raise BadInputError("the model has not seen data: fit(model, data)")
    inputs = model.rows
    if not (parameters := list(model.parameters())):
        return []  # all is known, or summed out
    n = len(inputs[0])
    if steps < 1 or (batch_size is not None and batch_size < 1):
        raise BadInputError(f"steps={steps}, batch_size={batch_size}: give at least 1")
    size = min(batch_size or n, n)
    optimiser = torch.optim.Adam(parameters, learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    history = []
    model.train()
    for step in range(steps):
        chosen = slice(None) if size == n else torch.randperm(n, device=inputs[0].device)[:size]
        optimiser.zero_grad()
        loss = model.loss(tuple(tensor[chosen] for tensor in inputs), source)
        history.append(loss.parts["elbo"].item())
        if not math.isfinite(history[-1]):
            raise DivergedError(f"the bound is {history[-1]} at step {step + 1}: lower learning_rate, or look at the laws")
        loss.total.backward()
        optimiser.step()
        schedule.step()
    model.eval()
    return history
