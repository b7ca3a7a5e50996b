"""The world model: sequences as states that move by themselves and by actions, and are seen through data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.distributions import kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from reparam.environments.copies import Arrival
from reparam.environments.experience import Replay
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.estimators import Score
from reparam.models import world_agent, world_parts, world_sequences
from reparam.models.model import want_sequences
from reparam.models.world_bound import Terms, divergence, independent, score
from reparam.models.world_config import Config, Sampling
from reparam.models.world_evaluation import Evaluation, bounds, evaluate
from reparam.models.world_parts import Layout
from reparam.models.world_sequences import OpenLoop, Sequences, hide, rewarded
from reparam.nn.actions import Actions
from reparam.nn.behaviour import Behaviour
from reparam.nn.likelihood import GaussianLikelihood
from reparam.nn.network import mlp
from reparam.nn.running import RunningNormal
from reparam.nn.state_space import Observed, State, StateSpace
from reparam.noise import Source
from reparam.paths import sample
from reparam.training import Batch, Loss, Monitor
from reparam.training.config import ELBO

if TYPE_CHECKING:
    from reparam.data import Data

__all__ = ["Config", "Evaluation", "Layout", "OpenLoop", "Sampling", "Sequences", "World"]


class World(nn.Module):
    """A model of what follows on what: sequences x, with rewards r and ends c if there are any, given actions a,

        h_t = f(h_(t-1), z_(t-1), a_t),    z_t ~ p(z | h_t),    x_t, r_t, c_t ~ p(x | h_t, z_t) p(r | h_t, z_t) p(c | h_t, z_t),

    and an encoder that approximates the posterior of each z_t given h_t and x_t. The loss is the negative evidence lower bound,
    in nats per step,

        E_q sum_t [log p(x_t, r_t, c_t | h_t, z_t) - KL(q(z_t | h_t, x_t) || p(z_t | h_t))],

    with the divergence weighed apart for the prior and for the posterior (KL balancing) and free up to `free_bits`. In an
    environment an actor and a critic learn from what the model imagines. Batches are in the units of the data, B x T + …, as in
    `Sequences`.

    Args:
        config: the settings.
        layout: what the sequences hold.
        spaces: of the environment that it acts in; None for recorded sequences.

    Raises:
        BadInputError: for settings that do not fit each other or the data.

    Source: Hafner et al., arXiv:1811.04551, arXiv:1912.01603, arXiv:2010.02193, arXiv:2301.04104.

    Example:
        >>> import torch
        >>> from reparam.models.world import Config, Layout, Sequences, World
        >>> world = World(Config(latent_dim=4, deterministic=16, hidden=(16,)), Layout((2,), "real"))
        >>> optimizer = torch.optim.Adam(world.parameters())
        >>> first, mask = torch.zeros(8, 20, dtype=torch.bool), torch.ones(8, 20, dtype=torch.bool)
        >>> first[:, 0] = True
        >>> for _ in range(3):
        ...     x = torch.randn(8, 20, 2).cumsum(1)
        ...     batch = Sequences(x, torch.zeros(8, 20, 0), torch.zeros(8, 20), first, torch.zeros_like(first), mask)
        ...     optimizer.zero_grad()
        ...     world.loss(batch).total.backward()
        ...     optimizer.step()
        >>> world.open_loop(batch, context=5, samples=3).imagined.shape
        torch.Size([3, 8, 15, 2])
        >>> world.sample(4, length=7).shape
        torch.Size([4, 7, 2])
    """

    monitor: Monitor = ELBO
    Sampling = Sampling
    steps: Tensor

    def __init__(self, config: Config, layout: Layout, spaces: Spaces | None = None) -> None:
        super().__init__()
        self.config = config = world_parts.decided(config, layout, acts=spaces is not None)
        self.layout = layout
        self.shape = torch.Size(layout.shape)
        self.likelihood = world_parts.likelihood(config, layout)
        self.actions = Actions(layout.action, layout.choices)
        latent, width = world_parts.stochastic(config), config.hidden[-1]
        self.space = StateSpace(
            width, self.actions.width, latent, deterministic=config.deterministic, hidden=width, activation=config.activation
        )
        features = self.space.features
        self.encoder, self.decoder = world_parts.networks(config, layout, features, math.prod(self.likelihood.outputs))
        widths = (features, *config.hidden, 1)
        self.reward = mlp(widths, config.activation) if layout.reward else None
        self.reward_likelihood = world_parts.scaled(GaussianLikelihood((1,), 1), config) if layout.reward else None
        self.continuation = mlp(widths, config.activation) if layout.terminated else None
        self.gradient = world_parts.gradient(config)
        self.register_buffer("steps", torch.tensor(config.sequence_length))
        self._values_seen = False
        self.spaces, self.behaviour = spaces, None if spaces is None else world_parts.behaviour(config, features, spaces)
        if spaces is not None:
            self.monitor = Monitor("return", "return")
            self.scales = nn.ModuleDict({"reward": RunningNormal((1,))})
            if isinstance(self.likelihood, GaussianLikelihood):
                self.scales["observation"] = RunningNormal(self.likelihood.shift.flatten().shape)

    @classmethod
    def for_data(cls, config: Config, data: Data) -> World:
        """A world for recorded sequences: its likelihood unless one is named, its scaling, and a law of its actions.

        Pass the training rows only: the statistics become part of the model, and are saved with its weights.

        Raises:
            BadInputError: for data that are no sequences, or a likelihood that does not fit the values.
        """
        want_sequences(data)
        world = cls(config, Layout.of_data(data))
        world.start_at(world.inputs(data))
        return world

    @classmethod
    def for_environment(cls, config: Config, spaces: Spaces) -> World:
        """A world for an environment, with an actor and a critic."""
        return cls(config, Layout.of_spaces(spaces), spaces)

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> World:
        """The world that `for_data` or `for_environment` made, but for its weights, from what a run remembers."""
        if facts := data.get("spaces"):
            return cls.for_environment(config, Spaces.from_facts(facts))
        return cls(config, Layout.of_record(data))

    def inputs(self, data: Data) -> tuple[Tensor, ...]:
        """What `loss` takes of a data set.

        Raises:
            ValueError: for choices that this model does not know.
        """
        return tuple(world_sequences.recorded(data, self.actions.choices))

    @torch.no_grad()
    def start_at(self, batch: Batch) -> None:
        """Take the scaling from training sequences, make the decoder's first output their mean, and learn how actions follow."""
        s = self.read(batch, values=True)
        self.steps.fill_(s.first.shape[1])
        there = s.observation[s.mask]
        self.likelihood.fit(there)
        last, some = cast(nn.Sequential, self.decoder)[-1], there[:: max(1, len(there) // 1000)]
        if not isinstance(last, nn.Linear):  # a convolution's bias is that of a channel: each pixel counts as a datum
            some = some.movedim(1, -1).flatten(0, -2)[..., None, None]
        last.bias.copy_(self.likelihood.bias(some).flatten())  # type: ignore[operator]
        self.actions.fit(s.action, s.first, s.mask)
        if self.reward_likelihood is not None and (known := rewarded(s)).any():
            self.reward_likelihood.fit(s.reward[known][:, None])

    def forward(self, batch: Batch, source: Source | None = None) -> Loss:
        """The same as `loss`, for wrappers that hook into calls of a module."""
        return self.loss(batch, source)

    def loss(self, batch: Batch, source: Source | None = None) -> Loss:
        """The loss of sequences, from samples of their states.

        Returns:
            `total`, to minimise: the negative ELBO of a step, with the weights of the divergences and `free_bits` applied; in an
            environment with the losses of the actor and the critic, whose gradients meet it in no parameter.
            `parts`: the plain "elbo" in nats per step, and its terms "reconstruction", "kl", and where there are rewards and
            ends "reward" and "continuation"; "relaxed_elbo" where the estimator trains on relaxed samples.

        Raises:
            ValueError: for a batch of other shapes; and, in evaluation and for the first batch, for values that are not
                the likelihood's.
        """
        s = self.read(batch, values=not (self.training and self._values_seen))
        self._values_seen = True
        config, samples = self.config, self.config.samples or 1
        weights = config.dynamics, cast(float, config.representation), config.free_bits or 0.0
        seen = self.observed(s, source, samples, learns=self.training)
        terms = self.terms(seen.state, s)
        there = s.mask.repeat(samples, 1)
        plain, charged = divergence(seen, there, *weights)
        count = there.sum().clamp(min=1)
        cost = charged - terms.total()
        total = cost.sum() / count
        parts = _means({"elbo": terms.total() - plain, **terms.named(), "kl": plain}, count)
        if self.training and config.estimator == "leave_one_out":
            total = total + score(seen, cost, charged, samples) / count
        if self.training and self.gradient is not None:
            if self.gradient.named.soft:  # whose samples lie between the categories, where there is no bound
                parts |= {"relaxed_elbo": parts["elbo"]} | self._hard(s, source)
            if self.gradient.named.tempered:
                self.gradient.step += 1
        if self.behaviour is None:
            return Loss(total, parts)
        lesson = world_agent.lesson(self, self.behaviour, seen.state, s, source)
        return Loss(total + lesson.total, parts | lesson.parts)

    def evaluate(self, inputs: Batch, *, k: int, source: Source | None = None, batch_size: int = 128) -> Evaluation:
        """The ELBO, a bound from `k` samples of the states of each sequence, and how far ahead the model sees."""
        return evaluate(self, inputs, k=k, source=source, batch_size=batch_size)

    @torch.no_grad()
    def bounds(self, batch: Batch, k: int = 1, source: Source | None = None) -> tuple[dict[str, Tensor], Tensor]:
        """Bounds on the log-density of each sequence, in nats.

        Returns:
            The ELBO and its terms, B each, from one sample of the states or more; and log of the mean of the weights
            p(x, r, c, z) / q(z | x) of `k` samples, B: the closer to log p(x, r, c) the more there are.

        Source: Burda et al., arXiv:1509.00519.
        """
        return bounds(self, batch, k, source)

    @torch.no_grad()
    def reconstruct(self, batch: Batch, source: Source | None = None) -> Tensor:
        """The mean datum of each step, B x T + shape, given a sample of its state, which has seen all data up to it."""
        return self._mean(self.observed(self.read(batch), source, 1, learns=False).state)

    @torch.no_grad()
    def surprise(self, batch: Batch, source: Source | None = None) -> Tensor:
        """What each datum tells that the steps before it did not, KL(q || p) in nats, B x T; 0 where nothing is."""
        s = self.read(batch)
        seen = self.observed(s, source, 1, learns=False)
        return kl_divergence(seen.posterior, seen.prior).masked_fill(~s.mask, 0.0)

    @torch.no_grad()
    def latents(self, batch: Batch, source: Source | None = None) -> Tensor:
        """Means of the posterior of each step: B x T x latent_dim, for categorical latents probabilities with x categories."""
        return self.observed(self.read(batch), source, 1, learns=False).posterior.mean

    @torch.no_grad()
    def open_loop(self, batch: Batch, context: int, *, samples: int = 16, source: Source | None = None) -> OpenLoop:
        """What the model imagines of sequences after their first `context` steps, given the actions that were taken.

        Raises:
            BadInputError: for a context that leaves nothing to see or nothing to imagine.
        """
        s = self.read(batch)
        steps = s.first.shape[1]
        if not 1 <= context < steps:
            raise BadInputError(f"context={context}: give at least 1 step, and fewer than the {steps} that the sequences have")
        seen = self.observed(s, source, samples, learns=False)
        now = State(*(part[:, context - 1] for part in seen.state))
        ahead = self.actions(s.action[:, context:]).repeat(samples, 1, 1)
        later = self._imagined(now, ahead, source, ahead.shape[1])
        means = self._mean(State(*(part[: len(s.mask)] for part in seen.state)))
        reward = None if self.reward is None else self.mean_reward(self.space.join(later)).unflatten(0, (samples, -1))
        return OpenLoop(means, self._mean(later).unflatten(0, (samples, -1)), reward)

    @torch.no_grad()
    def sample(self, n: int, source: Source | None = None, *, length: int | None = None, noisy: bool = False) -> Tensor:
        """`n` sequences from the model, n x length + shape, in the units of the data: means given their states, or draws.

        Where there are actions, those of recorded sequences follow the law that `Actions` fits to them, and in an environment the
        actor chooses them.

        Raises:
            BadInputError: for a length below 1.
        """
        length = int(self.steps) if length is None else length
        if length < 1:
            raise BadInputError(f"length={length}: a sequence has at least 1 step")
        now = self.space.imagine(self.space.start(n), self.space.origin.expand(n, self.actions.width), source)
        ahead = None if self.behaviour is not None else self.actions(self.actions.sample(n, length - 1, source))
        later = self._imagined(now, ahead, source, length - 1)
        states = State(*(torch.cat([one[:, None], more], 1) for one, more in zip(now, later, strict=True)))
        if not noisy:
            return self._mean(states)
        return sample(self.likelihood(self._outputs(self.space.join(states))), source=source).to(self._dtype)

    @torch.no_grad()
    def act(
        self, observation: Tensor, carry: tuple[Tensor, ...] | None, first: Tensor, source: Source | None = None
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Actions for E observations, and what to remember of them: the states, and the actions, encoded.

        What is remembered of rows where `first` is true is not used. Without a source it takes the mean state, and the mode of the
        policy.

        Raises:
            BadInputError: for a model of recorded sequences, which has no actor.
        """
        return world_agent.act(self, observation, carry, first, source)

    @property
    def learns_from(self) -> Replay:
        """Sequences of what it remembers, in an environment."""
        return Replay(self.config.updates, self.config.random_steps, self.config.sequence_length)

    def see(self, arrival: Arrival) -> None:
        """Take what arrives in training into the scales of data and rewards."""
        world_agent.see(self, arrival)

    def after_step(self) -> None:
        """After each update: the slow critic follows."""
        if self.behaviour is not None:
            self.behaviour.after_step()

    def extra_repr(self) -> str:
        return f"shape={tuple(self.shape)}, values={self.layout.values}"

    @property
    def _dtype(self) -> torch.dtype:
        return self.space.origin.dtype

    def read(self, batch: Batch, *, values: bool = False) -> Sequences:
        """The batch, checked, with zeros where nothing is."""
        s = world_sequences.read(batch, self.shape, self.actions.shape, self._dtype)
        if values and s.mask.any() and not torch.compiler.is_compiling():
            self.likelihood.check(s.observation[s.mask])
        return s

    def embed(self, x: Tensor) -> Tensor:
        """What the encoder makes of data, B x T + shape: B x T x width."""
        embedded: Tensor = self.encoder(self.likelihood.standardise(x).flatten(0, 1)).unflatten(0, x.shape[:2])
        return embedded

    def observed(self, s: Sequences, source: Source | None, samples: int, *, learns: bool) -> Observed:
        """Samples of the states, through which the gradient that the config names passes where the model `learns`."""
        self.space.estimator = None
        if learns and self.config.estimator == "leave_one_out":
            independent(source)
            self.space.estimator = Score()
        elif learns and self.gradient is not None:
            self.space.estimator = self.gradient.estimator(s.mask)
        return self.space.observe(self.embed(s.observation), self.actions(s.action), s.first, source, samples=samples)

    def _outputs(self, features: Tensor) -> Tensor:
        h: Tensor = self.decoder(features.flatten(0, -2))
        return h.to(features.dtype).reshape(features.shape[:-1] + self.likelihood.outputs)

    def _mean(self, state: State) -> Tensor:
        mean: Tensor = self.likelihood(self._outputs(self.space.join(state))).mean
        return mean

    def mean_reward(self, features: Tensor) -> Tensor:
        """The mean of the reward that led to states, in its units: from features, rows + (width,), to rows."""
        head, likelihood = cast(nn.Module, self.reward), cast(GaussianLikelihood, self.reward_likelihood)
        mean: Tensor = likelihood(head(features)).mean
        return mean.squeeze(-1)

    def goes_on(self, features: Tensor) -> Tensor:
        """The probability that an episode goes on from states: from features, rows + (width,), to rows."""
        logit: Tensor = cast(nn.Module, self.continuation)(features)
        return torch.sigmoid(logit.squeeze(-1))

    def terms(self, state: State, s: Sequences) -> Terms:
        """Log-densities of what a batch holds, given samples of its states."""
        features = self.space.join(state)
        samples = len(features) // len(s.mask)
        h, x = self._outputs(features), s.observation.repeat(samples, *(1,) * (s.observation.dim() - 1))
        there = s.mask.repeat(samples, 1)
        reconstruction = hide(-self.likelihood.nll(h, x).flatten(2).sum(-1), ~there)
        # Where it learns: what is only looked at changes nothing.
        fits = self.training and torch.is_grad_enabled() and self.config.scale == "fitted"
        if fits and isinstance(self.likelihood, GaussianLikelihood):
            world_parts.refit(self.likelihood, h, x, there)
        reward = continuation = None
        if self.reward is not None and self.reward_likelihood is not None:
            known, h = rewarded(s).repeat(samples, 1), self.reward(features)
            x = s.reward.nan_to_num()[..., None].repeat(samples, 1, 1)
            reward = hide(-self.reward_likelihood.nll(h, x).squeeze(-1), ~known)
            if fits:
                world_parts.refit(self.reward_likelihood, h, x, known)
        if self.continuation is not None:
            goes_on = (~s.terminated).to(features.dtype).repeat(samples, 1)
            nll = binary_cross_entropy_with_logits(self.continuation(features).squeeze(-1), goes_on, reduction="none")
            continuation = hide(-nll, ~there)
        return Terms(reconstruction, reward, continuation)

    @torch.no_grad()
    def _hard(self, s: Sequences, source: Source | None) -> dict[str, Tensor]:
        """The plain bound, where training has relaxed samples."""
        seen = self.observed(s, source, 1, learns=False)
        terms, (plain, _) = self.terms(seen.state, s), divergence(seen, s.mask, 1.0, 1.0, 0.0)
        return _means({"elbo": terms.total() - plain, **terms.named(), "kl": plain}, s.mask.sum().clamp(min=1))

    def _imagined(self, now: State, ahead: Tensor | None, source: Source | None, steps: int) -> State:
        """The states of some steps after one, rows x steps + …, with actions `ahead`, encoded, or those of the actor."""
        made = [now]
        for t in range(steps):
            acts = None if ahead is not None else cast(Behaviour, self.behaviour).act(self.space.join(now), source)
            now = self.space.imagine(now, ahead[:, t] if ahead is not None else self.actions(acts), source)
            made.append(now)
        return State(*(torch.stack(part, 1)[:, 1:] for part in zip(*made, strict=True)))


def _means(terms: Mapping[str, Tensor], count: Tensor) -> dict[str, Tensor]:
    return {name: (term.sum() / count).detach() for name, term in terms.items()}
