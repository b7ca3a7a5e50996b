"""Policy gradients: a stochastic policy that makes the actions likelier which did better than was expected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self, cast

import torch
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.distributions.constraints import Constraint

from reparam.environments.copies import Arrival
from reparam.environments.experience import Rollout
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.estimators import MovingAverage
from reparam.models.reinforce_config import Config
from reparam.nn.network import mlp
from reparam.nn.policy import head
from reparam.nn.running import RunningNormal
from reparam.noise import Source
from reparam.objectives import gae, ppo_clip, ppo_value, reinforce
from reparam.paths import sample
from reparam.paths.path import representable
from reparam.training import Batch, Loss, Monitor

__all__ = ["Config", "Reinforce", "Steps"]


class Steps(NamedTuple):
    """Steps of a rollout, N in all, as the loss takes them.

    Attributes:
        observation: N + (D,), flat, as the networks see them.
        action: N + that of the spaces.
        log_prob: N, of the action under the policy that acted.
        advantage: N, how much better than expected the action did.
        value: N, of the observation when the rollout was made; zeros without a value function.
        target: N, what the value is to become: the advantage by `gae` plus the value.
    """

    observation: Tensor
    action: Tensor
    log_prob: Tensor
    advantage: Tensor
    value: Tensor
    target: Tensor


class Reinforce(nn.Module):
    """REINFORCE and proximal policy optimisation, for discrete and continuous actions.

    The gradient of the expected return is E[A_t ∇ log π(a_t | s_t)], with A_t the return from step t on less a `baseline`: any that
    does not depend on a_t leaves the mean alone, and a good one takes variance out. `objective="reinforce"` descends
    -[`reinforce`][reparam.objectives.policy.reinforce], "ppo" -[`ppo_clip`][reparam.objectives.policy.ppo_clip], which is the same
    where the policy is still the one that acted, with A_t of [`gae`][reparam.objectives.policy.gae]. A rollout of all copies is
    made ready by `prepare`, and `loss` takes minibatches of it. As is usual, every step counts alike: there is no factor γ^t.

    What is exact, and what is not. With `decay=1` and no normalisation of advantages or rewards (whose scale is that of this
    rollout too), the gradient of "reinforce" is unbiased for the return up to the rollout's end, to which a value function adds its
    estimate of the rest; without one, nothing is added, and steps near the end learn from what little they still saw. (Leaving
    unfinished episodes out instead would favour short ones.) The leave-one-out baseline takes the copies apart, and not the steps,
    as those of one episode depend on each other. With several minibatches of a rollout the policy moves between them: the part
    "divergence" of the loss says by how much.

    Args:
        config: the settings.
        spaces: of the environment. Pictures are made flat.

    Source: Williams (1992), "Simple statistical gradient-following algorithms"; Schulman et al., arXiv:1707.06347.

    Example:
        >>> import torch, reparam as rp
        >>> from reparam.environments.copies import Arrival
        >>> from reparam.environments.spaces import Spaces
        >>> from reparam.models.reinforce import Config, Reinforce
        >>> spaces = Spaces(observation=(3,), values="real", levels=None, kind="discrete", action=(), choices=(2,))
        >>> agent = Reinforce(Config(), spaces)
        >>> action, _ = agent.act(torch.randn(4, 3), None, torch.zeros(4, dtype=torch.bool), rp.Fresh())
        >>> never = torch.zeros(6, 4, dtype=torch.bool)         # 6 arrivals of 4 copies, without an end
        >>> rollout = Arrival(torch.randn(6, 4, 3), torch.randint(2, (6, 4)), torch.randn(6, 4), never, never, never)
        >>> steps = agent.prepare(rollout)
        >>> loss = agent.loss(steps)
        >>> loss.total.backward()
        >>> len(steps.advantage), list(loss.parts)
        (20, ['policy', 'entropy', 'divergence', 'clipped', 'value'])
    """

    monitor: ClassVar[Monitor] = Monitor("return", "return")

    def __init__(self, config: Config, spaces: Spaces) -> None:
        super().__init__()
        self.config = config = config.decided()
        self.spaces = spaces
        self.head = head(spaces.action, spaces.choices)
        widths = (math.prod(spaces.observation), *config.hidden)
        self.policy = mlp((*widths, self.head.width), config.activation)
        self.value = mlp((*widths, 1), config.activation) if config.baseline == "value" else None
        self.average = MovingAverage() if config.baseline == "moving_average" else None
        self.observations = RunningNormal(spaces.observation) if config.normalise_observations else None
        self.returns = RunningNormal(()) if config.normalise_rewards else None

    @classmethod
    def for_environment(cls, config: Config, spaces: Spaces) -> Self:
        """An agent for what is seen and can be done there."""
        return cls(config, spaces)

    @classmethod
    def from_record(cls, config: Config, data: Mapping[str, Any]) -> Self:
        """The agent that a run remembers by the facts of its environment: "spaces"."""
        return cls(config, Spaces.from_facts(data["spaces"]))

    @property
    def learns_from(self) -> Rollout:
        """Rollouts of the policy as it is."""
        return Rollout(self.config.rollout, cast(int, self.config.reuse))

    def law(self, observation: Tensor) -> Distribution:
        """π(action | observation), of batch shape N for N + the shape of observations."""
        return self.head(self.policy(self._seen(observation)))

    @torch.no_grad()
    def values(self, observation: Tensor) -> Tensor | None:
        """The discounted return that is expected from N observations on, in the environment's rewards, where values are learned."""
        if self.value is None:
            return None
        value: Tensor = self.value(self._seen(observation)).squeeze(-1)
        return value if self.returns is None else value * self.returns.scale

    @torch.no_grad()
    def act(self, observation: Tensor, carry: Any, first: Tensor, source: Source | None) -> tuple[Tensor, Any]:
        """Actions for E observations: drawn from the noise of `source`, the likeliest without; nothing is carried on."""
        outputs = self.policy(self._seen(observation))
        return self.head.mode(outputs) if source is None else sample(self.head(outputs), source=source), carry

    @torch.no_grad()
    def prepare(self, rollout: Arrival) -> Steps:
        """The steps of a rollout with their advantages, by the policy and the values as they are; then the normalisers move.

        Arrival t + 1 tells what the action at observation t came to. Where it begins an episode there was no such step.

        Args:
            rollout: T + 1 arrivals of E copies, each tensor (T + 1) x E + ….

        Returns:
            Up to T E steps, those of one time side by side.

        Raises:
            BadInputError: for a single arrival, other shapes than the spaces', or a single copy with baseline="leave_one_out".
        """
        self._check(rollout)
        config, like = self.config, next(self.policy.parameters())
        rollout = Arrival(*(tensor.to(like.device) for tensor in rollout))
        seen = self._seen(rollout.observation)
        real, action, reward = ~rollout.first[1:], rollout.action[1:], rollout.reward[1:].to(like.dtype)
        ended, cut = rollout.terminated[1:], rollout.truncated[1:].clone()
        cut[:-1] |= rollout.first[2:]  # the copy began anew, whether an end was seen or not
        zero = torch.zeros_like(reward)
        if self.returns is not None:
            if self.training:
                self.returns.update(gae(reward, zero, zero, ended, cut, discount=config.discount, decay=1.0)[real])
            reward = self.returns.rescale(reward)
        value, following = zero, zero
        if self.value is not None:
            values = self.value(seen).squeeze(-1)
            value, following = values[:-1], values[1:]
        decay = cast(float, config.decay)
        advantage = gae(reward, value, following, ended, cut, discount=config.discount, decay=decay)
        target = (advantage + value)[real]
        advantage = (advantage - self._expected(advantage, real))[real]
        if config.normalise_advantages:
            advantage = (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8)
        at, chosen = seen[:-1][real], action[real]
        log_prob = self._log_prob(self.head(self.policy(at)), chosen)
        if self.observations is not None and self.training:
            self.observations.update(rollout.observation)
        return Steps(at, chosen, log_prob, advantage, value[real], target)

    def forward(self, batch: Batch, source: Source | None = None) -> Loss:
        return self.loss(batch, source)

    def loss(self, batch: Batch, source: Source | None = None) -> Loss:
        """The loss of [`Steps`][reparam.models.reinforce.Steps]; it draws nothing.

        Returns:
            `total`, to minimise: that of the policy, less the entropy bonus, plus the weighted one of the values. `parts`:
            "policy", what the objective comes to, as a loss; "entropy", in nats, exact; "divergence", of the policy that acted from
            the one that learns, by E[r - 1 - log r] with r the ratio of probabilities; "clipped", the share of steps whose ratio
            is out of the range of ppo; "value", half the squared error of the values.
        """
        steps, config = Steps(*batch), self.config
        law = self.head(self.policy(steps.observation))
        log_prob = self._log_prob(law, steps.action)
        with torch.set_grad_enabled(torch.is_grad_enabled() and config.entropy_bonus > 0):  # otherwise it is only told
            entropy = law.entropy().mean()
        if config.objective == "ppo":
            policy = -ppo_clip(log_prob, steps.log_prob, steps.advantage, clip=config.ratio_clip).mean()
        else:
            policy = -reinforce(log_prob, steps.advantage).mean()
        total = policy - config.entropy_bonus * entropy
        log_ratio = log_prob.detach() - steps.log_prob
        beyond = torch.expm1(log_ratio)
        parts = {"policy": policy, "entropy": entropy, "divergence": (beyond - log_ratio).mean()}
        if config.objective == "ppo":
            parts["clipped"] = (beyond.abs() > config.ratio_clip).to(beyond.dtype).mean()
        if self.value is not None:
            old, clip = (steps.value, config.value_clip) if config.value_clip else (None, 1.0)
            fit = -ppo_value(self.value(steps.observation).squeeze(-1), steps.target, old_value=old, clip=clip).mean()
            total, parts["value"] = total + config.value_weight * fit, fit
        return Loss(total, {name: part.detach() for name, part in parts.items()})

    def extra_repr(self) -> str:
        return f"observation={self.spaces.observation}, action={self.head}"

    def _expected(self, returns: Tensor, real: Tensor) -> Tensor:
        """What the returns T x E are compared with, beyond the values that are in them already."""
        if self.average is not None:
            before: Tensor = self.average()
            if real.any():
                self.average.update(returns[real])
            return before
        if self.config.baseline != "leave_one_out":
            return returns.new_zeros(())
        sums, counts = torch.where(real, returns, 0.0).sum(0), real.sum(0)
        return (sums.sum() - sums) / (counts.sum() - counts).clamp(min=1)

    def _log_prob(self, law: Distribution, action: Tensor) -> Tensor:
        """Finite also at -1 and 1, where rounding may have put an action and the density of the law ends."""
        if action.is_floating_point():
            action = representable(action, cast(Constraint, law.support))
        return law.log_prob(action)

    def _seen(self, observation: Tensor) -> Tensor:
        """What the networks see: rows + (D,)."""
        rows = observation.dim() - len(self.spaces.observation)
        x = observation.to(next(self.policy.parameters()).dtype)
        if self.observations is not None:
            x = self.observations.standardise(x)
        elif self.spaces.values == "counts" and self.spaces.levels:
            x = x / self.spaces.levels
        return x.flatten(rows) if x.dim() > rows else x.unsqueeze(-1)

    def _check(self, rollout: Arrival) -> None:
        rows, shape = rollout.reward.shape, self.spaces.observation
        if len(rows) != 2 or rows[0] < 2 or rollout.observation.shape != rows + shape:
            raise BadInputError(
                f"the rollout has rewards {tuple(rows)} and observations {tuple(rollout.observation.shape)}: give T + 1 arrivals, "
                f"at least 2, of E copies, with observations of shape {shape}"
            )
        if self.config.baseline == "leave_one_out" and rows[1] < 2:
            raise BadInputError("baseline='leave_one_out' is the mean of the other copies, and there is 1: give copies=2 or more")
