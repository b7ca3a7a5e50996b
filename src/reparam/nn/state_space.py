"""A recurrent state-space model: a state with a deterministic and a stochastic part, moved by actions and seen through data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from reparam.estimators import Estimator
from reparam.nn.network import ACTIVATIONS, mlp
from reparam.nn.stochastic import Stochastic
from reparam.noise import Noise, Source

__all__ = ["Observed", "State", "StateSpace"]


class State(NamedTuple):
    """Where a sequence is.

    Attributes:
        deterministic: what it remembers, rows + (deterministic,).
        stochastic: a sample of its latent variables, rows + event.
    """

    deterministic: Tensor
    stochastic: Tensor


class Observed(NamedTuple):
    """What data say of the states that they came from.

    Attributes:
        state: at each step, B x T + …: samples of the posterior.
        prior: p(z_t | h_t), of batch shape (B, T).
        posterior: q(z_t | h_t, x_t), likewise.
    """

    state: State
    prior: Distribution
    posterior: Distribution


class StateSpace(nn.Module):
    """States of a sequence, with what is certain of them kept apart from what is not:

        h_t = GRU(h_(t-1), z_(t-1), a_t),    prior p(z_t | h_t),    posterior q(z_t | h_t, e_t)

    The action a_t led from step t - 1 to t, and e_t is what an encoder makes of the datum there. An episode begins from a state
    of zeros and without an action. What can be computed for all steps at once is, so that a step is a cell and two layers.

    Args:
        embedded: numbers that an encoder makes of a datum.
        action: numbers that encode an action, 0 where there are none.
        stochastic: the family of the latent variables, `Gaussian(32)` or `OneHot(16, 16)`.
        deterministic: width of h.
        hidden: width of the layers between.
        activation: of these.
        estimator: of the gradient through the latents: one that passes a gradient through its rows, such as `rp.ReinMax()`, or
            none at all, `rp.Score()`. By default pathwise for normal latents, and straight-through for choices.

    Attributes:
        features: width of `join(state)`.

    Source: Hafner et al., arXiv:1811.04551, arXiv:2010.02193, arXiv:2301.04104.

    Example:
        >>> import torch
        >>> from reparam.nn.stochastic import Gaussian
        >>> space = StateSpace(embedded=8, action=2, stochastic=Gaussian(4), deterministic=16, hidden=16)
        >>> first = torch.zeros(3, 10, dtype=torch.bool)
        >>> first[:, 0] = True
        >>> seen = space.observe(torch.randn(3, 10, 8), torch.randn(3, 10, 2), first)
        >>> space.join(seen.state).shape, seen.prior.batch_shape
        (torch.Size([3, 10, 20]), torch.Size([3, 10]))
        >>> space.imagine(space.start(5), torch.zeros(5, 2)).stochastic.shape
        torch.Size([5, 4])
    """

    origin: Tensor

    def __init__(
        self,
        embedded: int,
        action: int,
        stochastic: Stochastic,
        *,
        deterministic: int = 128,
        hidden: int = 128,
        activation: str = "silu",
        estimator: Estimator | None = None,
    ) -> None:
        super().__init__()
        self.stochastic, self.estimator = stochastic, estimator
        self.deterministic, self.action = deterministic, action
        self.width = math.prod(stochastic.event)
        self.features = deterministic + self.width
        self.activation = ACTIVATIONS[activation]()
        # Two layers of one sum each: the terms of the action and of the datum are made for all steps at once.
        self.from_latent = _dense(self.width, hidden)
        self.from_action = _dense(action, hidden, bias=False) if action else None
        self.cell = nn.GRUCell(hidden, deterministic)
        self.from_memory = _dense(deterministic, hidden)
        self.from_datum = _dense(embedded, hidden, bias=False)
        self.to_posterior = _dense(hidden, stochastic.outputs, gain=0.1)
        self.to_prior = mlp((deterministic, hidden, stochastic.outputs), activation)
        self.register_buffer("origin", torch.zeros(()), persistent=False)

    def start(self, rows: int) -> State:
        """The state before an episode, zeros for each of `rows`."""
        zeros = self.origin.expand(rows, self.deterministic)
        return State(zeros, self.origin.expand((rows, *self.stochastic.event)))

    def join(self, state: State) -> Tensor:
        """All of a state in one row: rows + (features,)."""
        flat = state.stochastic.flatten(-len(self.stochastic.event))
        return torch.cat([state.deterministic, flat], -1)

    def prior(self, deterministic: Tensor) -> Distribution:
        """p(z_t | h_t), what the model expects before it sees."""
        return self.stochastic.law(self.to_prior(deterministic))

    def posterior(self, deterministic: Tensor, embedded: Tensor) -> Distribution:
        """q(z_t | h_t, e_t), what it believes having seen."""
        return self.stochastic.law(self._posterior(deterministic, self._seen(embedded)))

    def advance(self, state: State, action: Tensor) -> Tensor:
        """The next deterministic part, rows + (deterministic,), after an encoded action, rows + (action,)."""
        return self._advance(state, self._moved(action))

    def imagine(self, state: State, action: Tensor, source: Source | None = None) -> State:
        """The next state as the model expects it, of a state (rows) and an encoded action: a sample of the prior."""
        h = self.advance(state, action)
        return State(h, self._sample(self.to_prior(h), source))

    def observe(
        self,
        embedded: Tensor,
        action: Tensor,
        first: Tensor,
        source: Source | None = None,
        *,
        state: State | None = None,
        samples: int = 1,
    ) -> Observed:
        """The states of sequences, given their data.

        Args:
            embedded: of the data, B x T x embedded.
            action: that led to each, encoded, B x T x action.
            first: B x T, true where an episode begins: the state before is forgotten, and the action is not used.
            source: of noise. Rows that depend on each other, of antithetic noise or of Sobol sequences, are the `samples`.
            state: before the first step; by default that before an episode.
            samples: of the states of each sequence; what is returned has samples * B rows, those of the first sample first.
        """
        batch, steps = first.shape
        rows = samples * batch
        seen = _by_step(self._seen(embedded), samples)
        moved = _by_step(self._moved(action.masked_fill(first[..., None], 0.0)), samples)
        begins = first.any(0).tolist()
        begins[0] = begins[0] and state is not None
        fresh = first.T.repeat(1, samples)
        now = self.start(rows) if state is None else state
        if samples > 1:
            source = _Rows(source, samples)
        noise = self._noise(seen[0], steps, samples, source)
        deterministic, stochastic, outputs = [], [], []
        for t in range(steps):
            if begins[t]:
                now = State(*(part.masked_fill(fresh[t].reshape(rows, *(1,) * (part.dim() - 1)), 0.0) for part in now))
            h = self._advance(now, moved[t])
            q = self._posterior(h, seen[t])
            now = State(h, self._sample(q, source, noise[t]))
            deterministic.append(now.deterministic)
            stochastic.append(now.stochastic)
            outputs.append(q)
        h = torch.stack(deterministic, 1)
        states = State(h, torch.stack(stochastic, 1))
        return Observed(states, self.prior(h), self.stochastic.law(torch.stack(outputs, 1)))

    def _moved(self, action: Tensor) -> Tensor:
        """The terms of a step's first layer that do not depend on the state before."""
        bias = self.from_latent.bias
        return bias.expand(*action.shape[:-1], -1) if self.from_action is None else self.from_action(action) + bias

    def _seen(self, embedded: Tensor) -> Tensor:
        """The terms of its second layer that do not."""
        h: Tensor = self.from_datum(embedded) + self.from_memory.bias
        return h

    def _advance(self, state: State, moved: Tensor) -> Tensor:
        z, cell = state.stochastic.flatten(-len(self.stochastic.event)), self.cell
        x = self.activation(torch.addmm(moved, z, self.from_latent.weight.t()))
        return torch.gru_cell(x, state.deterministic, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh)

    def _posterior(self, deterministic: Tensor, seen: Tensor) -> Tensor:
        h: Tensor = self.to_posterior(self.activation(torch.addmm(seen, deterministic, self.from_memory.weight.t())))
        return h

    def _sample(self, h: Tensor, source: Source | None, eps: Tensor | None = None) -> Tensor:
        """A sample of the law of outputs `h`, with the gradient of the estimator."""
        if self.estimator is not None:
            return self.estimator.draw(self.stochastic.law(h), 1, source).value[0]
        if eps is None:
            eps = self._noise_of(h.shape[:-1]).draw(source=source)
        return self.stochastic.push(h, eps)

    def _noise(self, seen: Tensor, steps: int, samples: int, source: Source | None) -> list[Tensor] | list[None]:
        """Noise of all steps, at once where no rows of it depend on each other."""
        if self.estimator is not None or samples > 1:
            return [None] * steps
        return [*self._noise_of(torch.Size([steps, len(seen)])).draw(source=source)]

    def _noise_of(self, rows: torch.Size) -> Noise:
        # In the format of the parameters, also where layers give half of it.
        return Noise(self.stochastic.kind, rows + self.stochastic.noise, self.origin.dtype, self.origin.device)


class _Rows:
    """A source that takes draws for samples * B rows as so many rows of noise for B: those are what may depend on each other."""

    independent: ClassVar[bool] = True

    def __init__(self, source: Source | None, samples: int) -> None:
        self.source, self.samples = source, samples

    def draw(self, noise: Noise, rows: torch.Size) -> Tensor:
        each = replace(noise, shape=torch.Size([noise.shape[0] // self.samples]) + noise.shape[1:])
        return each.draw((*rows, self.samples), source=self.source).reshape(rows + noise.shape)


def _by_step(x: Tensor, samples: int) -> list[Tensor]:
    """B x T + … as T tensors of samples * B rows."""
    return [*x.repeat(samples, *(1,) * (x.dim() - 1)).transpose(0, 1).contiguous()]


def _dense(inputs: int, outputs: int, *, bias: bool = True, gain: float = 1.0) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    nn.init.xavier_uniform_(layer.weight, gain)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
