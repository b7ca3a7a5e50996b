"""Soft actor-critic: a policy for continuous actions that is paid for its entropy, learned from what is remembered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from reparam.environments.experience import Replay
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.estimators import Quadrature, expect
from reparam.models.gradient import Gradient
from reparam.models.sac_config import Config
from reparam.nn.critic import Critics, SlowCopy
from reparam.nn.network import mlp
from reparam.nn.policy import SquashedNormal
from reparam.nn.running import RunningNormal
from reparam.noise import Source
from reparam.objectives import sac_actor, sac_critic, sac_target, sac_temperature
from reparam.paths import sample, sample_and_log_prob
from reparam.special.tails import log_sech_squared
from reparam.training import Loss, Monitor

if TYPE_CHECKING:
    from reparam.environments.copies import Arrival

__all__ = ["SAC", "Config"]


class SAC(nn.Module):
    """Soft actor-critic, for the highest return and an entropy of the policy that is worth its price.

    With a policy π, `a = tanh(u)` with normal u, a temperature α and critics Q_i, whose slow copies are Q̄_i, the loss is the sum of

        critic       Σ_i ½ (Q_i(s, a) − y)²,   y = r + γ (min_i Q̄_i(s', a') − α log π(a' | s')),  a' ~ π, and y = r at an end
        actor        E_π [α log π(a | s) − min_i Q_i(s, a)]
        temperature  −α (log π(a | s) + H), for a target entropy H

    averaged over a batch, where each part takes what the others learn for constants: one optimiser for all of them does what one
    for each would. Where an episode was merely cut short the future counts; where it came to its end there is none.

    Args:
        config: the settings.
        spaces: what is seen, a vector, and what is done, a vector in [-1, 1].

    Attributes:
        config: with every choice made.

    Raises:
        BadInputError: for spaces or settings that it does not take.

    Source: Haarnoja et al., "Soft actor-critic algorithms and applications", arXiv:1812.05905; the smaller of twin critics from
        Fujimoto et al., arXiv:1802.09477.

    Example:
        >>> import torch
        >>> from reparam.environments.spaces import Spaces
        >>> from reparam.models.sac import SAC, Config
        >>> spaces = Spaces((3,), "real", None, "continuous", (1,), low=(-2.0,), high=(2.0,))
        >>> agent = SAC(Config(hidden=(32, 32)), spaces)
        >>> optimizer = torch.optim.Adam(agent.parameters(), 1e-3)
        >>> seen, end = torch.randn(2, 64, 3), torch.zeros(64, dtype=torch.bool)
        >>> action, _ = agent.act(seen[0], None, end, None)
        >>> agent.loss((seen[0], action, -action[:, 0] ** 2, seen[1], end)).total.backward()
        >>> optimizer.step()
        >>> agent.after_step()
    """

    monitor: ClassVar[Monitor] = Monitor("return", "return")
    log_temperature: Tensor

    def __init__(self, config: Config, spaces: Spaces) -> None:
        super().__init__()
        if spaces.kind != "continuous":
            raise BadInputError(
                "these actions are choices, and sac takes continuous ones: reparam train reinforce takes discrete actions"
            )
        if len(spaces.observation) != 1:
            raise BadInputError(
                f"observations have shape {tuple(spaces.observation)}, and sac takes vectors: flatten them (gymnasium.wrappers."
                "FlattenObservation), or see reparam train world, which takes pictures"
            )
        (width,), seen = spaces.action, spaces.observation[0]
        draws = config.draws(width)
        entropy = -float(width) if config.target_entropy is None and config.learned_temperature else config.target_entropy
        self.spaces, self.shape = spaces, torch.Size(spaces.observation)
        self.config = config = replace(config, actions=draws, target_entropy=entropy)
        self.observations = RunningNormal(self.shape)
        self.rewards = RunningNormal(())
        self.head = SquashedNormal(width)
        self.policy = mlp((seen, *config.hidden, self.head.width), config.activation)
        self.critics = Critics(config.critics, seen + width, config.hidden, config.activation)
        self.slow = SlowCopy(self.critics, config.target_rate)
        log_temperature = torch.tensor(math.log(config.temperature))
        if config.learned_temperature:
            self.log_temperature = nn.Parameter(log_temperature)
        else:
            self.register_buffer("log_temperature", log_temperature)
        self.gradient = _gradient(config, width, seen)

    @classmethod
    def for_environment(cls, config: Config, spaces: Spaces) -> SAC:
        """An agent for an environment."""
        return cls(config, spaces)

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> SAC:
        """The agent that a run remembers by the facts of its "spaces"."""
        return cls(config, Spaces.from_facts(data["spaces"]))

    @property
    def learns_from(self) -> Replay:
        return Replay(updates=self.config.updates, warm_up=self.config.random_steps)

    @property
    def temperature(self) -> Tensor:
        """α."""
        return self.log_temperature.exp()

    @torch.no_grad()
    def act(self, observation: Tensor, carry: Any, first: Tensor, source: Source | None) -> tuple[Tensor, Any]:
        """Actions for E observations: drawn from that noise, or the mode where source is None. It remembers nothing."""
        outputs = self.policy(self._seen(observation))
        return self.head.mode(outputs) if source is None else sample(self.head(outputs), source=source), carry

    @torch.no_grad()
    def law(self, observation: Tensor) -> Distribution:
        """The policy, π(a | s): a law over actions, of batch shape B, for observations B + shape."""
        return self.head(self.policy(self._seen(observation)))

    @torch.no_grad()
    def values(self, observation: Tensor) -> Tensor:
        """What the critics expect of the mode at B observations: discounted, with entropy's worth, in the environment's rewards."""
        seen = self._seen(observation)
        value = self._value(seen, self.head.mode(self.policy(seen))) / self.config.reward_scale
        return value * self.rewards.scale

    @torch.no_grad()
    def see(self, arrival: Arrival) -> None:
        """Take an arrival into the running means and scales."""
        if self.config.normalise_observations:
            self.observations.update(arrival.observation)
        if self.config.normalise_rewards:
            self.rewards.update(arrival.reward[~arrival.first])

    @torch.no_grad()
    def after_step(self) -> None:
        """The slow critics follow."""
        self.slow.follow(self.critics)

    def forward(self, batch: tuple[Tensor, ...], source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: tuple[Tensor, ...], source: Source | None = None) -> Loss:
        """The loss of B steps.

        Args:
            batch: observation, action, reward, next observation and whether the episode came to its end there (boolean): B + shape,
                B x D in [-1, 1], and three of B.
            source: of the noise of actions. Rows that depend on each other, of antithetic noise or of Sobol sequences, are the
                `actions` of a state.

        Returns:
            `total`, to minimise. `parts`: "critic", "actor", "entropy" of the policy in nats, "temperature" α, and "value", the
            mean of the critics.
        """
        observation, action, reward, following, terminated = batch
        seen, temperature = self._seen(observation), self.temperature
        target = self._target(reward, self._seen(following), terminated, temperature, source)
        values = self.critics(torch.cat([seen, action], -1))
        critic = -sac_critic(values, target.expand_as(values)).mean(-1).sum()
        actor, log_prob = self._actor(seen, temperature, source)
        total = critic + actor
        if self.config.target_entropy is not None:
            total = total - sac_temperature(temperature, log_prob, self.config.target_entropy).mean()
        parts = {"critic": critic, "actor": actor, "entropy": -log_prob.mean(), "temperature": temperature, "value": values.mean()}
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    @torch.no_grad()
    def _target(self, reward: Tensor, seen: Tensor, terminated: Tensor, temperature: Tensor, source: Source | None) -> Tensor:
        action, log_prob = sample_and_log_prob(self.head(self.policy(seen)), source=source)
        value = self.critics(torch.cat([seen, action], -1), self.slow.layers()).amin(0)
        paid = self.rewards.rescale(reward) * self.config.reward_scale
        return sac_target(paid, log_prob, value, terminated, temperature, discount=self.config.discount)

    def _actor(self, seen: Tensor, temperature: Tensor, source: Source | None) -> tuple[Tensor, Tensor]:
        """The loss of the policy, and log-probabilities by which its temperature learns."""
        outputs, draws = self.policy(seen), self.config.actions or 1
        if self.gradient is None:
            action, log_prob = sample_and_log_prob(self.head(outputs), (draws,) if draws > 1 else (), source=source)
            return -sac_actor(log_prob, self._value(seen, action), temperature).mean(), log_prob
        if self.config.estimator == "leave_one_out" and not getattr(source, "independent", True):
            raise BadInputError(
                "estimator='leave_one_out' compares actions that are drawn independently, and noise='antithetic' or 'sobol' makes "
                "them depend on each other: take noise='fresh', or estimator='score'"
            )
        law, fixed = self.head.normal(outputs), self.head.normal(outputs.detach())

        def cost(u: Tensor) -> Tensor:
            # The density is a constant here: the mean of its own gradient is zero.
            log_prob = fixed.log_prob(u) - log_sech_squared(u).sum(-1)
            return -sac_actor(log_prob, self._value(seen, torch.tanh(u)), temperature)

        if isinstance(self.gradient, Quadrature):
            actor = expect(cost, law, estimator=self.gradient, source=source)
        else:
            actor = self.gradient(cost, law, seen, source)
        return actor.mean(), -self.head(outputs.detach()).entropy()

    def _value(self, seen: Tensor, action: Tensor) -> Tensor:
        """The smallest value of actions rows + B x D, to critics that are constant."""
        inputs = torch.cat([seen.expand(*action.shape[:-1], -1), action], -1)
        values: Tensor = self.critics(inputs, self.critics.layers(constant=True))
        return values.amin(0)

    def _seen(self, observation: Tensor) -> Tensor:
        if observation.shape[-1:] != self.shape:
            came = tuple(observation.shape)
            raise BadInputError(f"observations have shape {came}, and this agent's end in {tuple(self.shape)}: give what it knows")
        return self.observations.standardise(observation) if self.config.normalise_observations else observation

    def extra_repr(self) -> str:
        return f"{self.spaces}"


def _gradient(config: Config, width: int, seen: int) -> Gradient | Quadrature | None:
    """None: pathwise, with the density of the draw itself."""
    if config.estimator == "pathwise":
        return None
    if config.estimator == "quadrature":
        return Quadrature(config.actions)
    return Gradient(config.estimator, torch.Size([width]), seen, samples=config.actions)
