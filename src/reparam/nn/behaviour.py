"""An actor and a critic that learn in the imagination of a world model, and never from the world itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, OneHotCategorical

from reparam.errors import BadInputError
from reparam.estimators import Estimator, Pathwise, Score, StraightThrough
from reparam.estimators.relaxation import Relaxed
from reparam.nn.critic import Critics, SlowCopy
from reparam.nn.network import mlp
from reparam.nn.policy import Choices, SquashedNormal, head
from reparam.nn.state_space import State, StateSpace
from reparam.noise import Fresh, Source
from reparam.paths import sample, sample_and_log_prob

__all__ = ["Behaviour", "Lesson", "constant", "lambda_returns"]

# Of the spread of the returns: what it forgets at each step, at most, and the share of returns beyond either end.
_DECAY, _TAIL = 0.99, 0.05


def lambda_returns(reward: Tensor, discount: Tensor, value: Tensor, decay: float = 0.95) -> Tensor:
    """Returns of imagined steps, Rₜ = rₜ + γₜ ((1 − λ) V(sₜ₊₁) + λ Rₜ₊₁), the last with V in place of the R to come.

    Differentiable in everything: a policy that climbs them by the pathwise gradient is taught by the critic's slope too.

    Args:
        reward: of each step, time + rows.
        discount: γₜ, times the probability that the episode goes on after the step; time + rows.
        value: of the state that each step led to, time + rows.
        decay: λ: 0 is one step and the value after it, 1 all rewards and the last value.

    Raises:
        ValueError: when the shapes differ or have no dimension of time.

    Source: Sutton and Barto (2018), section 12.1; Hafner et al., arXiv:1912.01603, equation 6.

    Example:
        >>> import torch
        >>> one = torch.ones(3)
        >>> lambda_returns(one, 0.5 * one, 4 * one, decay=1.0)
        tensor([2.2500, 2.5000, 3.0000])
    """
    if not reward.shape == discount.shape == value.shape or not reward.dim() or not len(reward):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (reward, discount, value))
        raise ValueError(f"rewards, discounts and values have shapes {shapes}: give all of one, time + rows, with a step at least")
    returns, later = [], value[-1]
    for r, gamma, v in zip(*(tensor.flip(0) for tensor in (reward, discount, value)), strict=True):
        later = r + gamma * ((1 - decay) * v + decay * later)
        returns.append(later)
    return torch.stack(returns[::-1])


@contextmanager
def constant(modules: Iterable[nn.Module]) -> Iterator[None]:
    """What is computed here is a function of the inputs of the modules alone: no gradient comes to their parameters.

    Gradients still pass through them, with half the multiplications, as those of the weights are not wanted. What was computed
    before keeps its own.

    Example:
        >>> import torch
        >>> layer, x = torch.nn.Linear(2, 1), torch.zeros(2, requires_grad=True)
        >>> with constant([layer]):
        ...     y = layer(x)
        >>> y.backward()
        >>> layer.weight.grad is None, x.grad is None
        (True, False)
    """
    learning = [p for module in modules for p in module.parameters() if p.requires_grad]
    try:
        for p in learning:
            p.requires_grad_(False)
        yield
    finally:
        for p in learning:
            p.requires_grad_(True)


class Lesson(NamedTuple):
    """What the loss of a behaviour comes to.

    Attributes:
        total: to be minimised: that of the actor and that of the critic, whose gradients meet in no parameter.
        parts: detached scalars: actor, critic, entropy (nats an action) and imagined (the mean return).
    """

    total: Tensor
    parts: dict[str, Tensor]


class Behaviour(nn.Module):
    """A policy and the value of its states, from what a model of the world imagines.

    From states that were lived through, the model imagines `horizon` steps with actions a of the policy. With the λ-returns R of
    the rewards that it predicts, the actor climbs

        E [w_0 R_0 / S + η Σ_t w_t H[π(a | s_t)]],

    by the gradient through the model where actions have a path, and the critic comes near R_t at each step. The weight w_t is the
    discounted probability that the episode still goes on at step t, and S the spread of the returns, from their 5th to their 95th
    percentile, a moving average and at least 1. Values after a step are those of a critic that follows slowly.

    The papers climb the returns of all steps, Σ_t R_t, and let each depend on the actions before it: late rewards then count
    several times, and the policy that is best for that sum is not the best one. R_0 has them all once.

    Args:
        features: numbers that tell a state, `StateSpace.features`.
        action: the shape of one action: (D,) for numbers in (-1, 1), () for one choice, (K,) for K of them.
        choices: the categories of each choice; none where actions are continuous.
        hidden: widths of the hidden layers of the actor and of the critic.
        activation: between them.
        estimator: of the gradient of the returns in the policy. For continuous actions `rp.Pathwise()`, the default, or
            `rp.Score()`, with the critic as its baseline. For choices one that passes a gradient through its rows, such as
            `rp.StraightThrough()`, the default, or `rp.ReinMax()`; or again `rp.Score()`.
        horizon: steps imagined.
        discount: γ.
        decay: λ of the returns.
        entropy: η, a nat for each step in units of the spread of the returns; a little keeps the policy from being sure too early.
        rate: with which the slow critic follows.
        starts: of the states that are given, as many are gone on from, at equal distances; 0 is all.

    Raises:
        BadInputError: for actions that are no vector, an estimator that does not suit them, or a number out of range.

    Source: Hafner et al., arXiv:1912.01603, arXiv:2010.02193, arXiv:2301.04104.

    Example:
        >>> import torch
        >>> from reparam.nn.stochastic import Gaussian
        >>> space = StateSpace(embedded=3, action=1, stochastic=Gaussian(4), deterministic=8, hidden=8)
        >>> behaviour = Behaviour(space.features, (1,), hidden=(8,), horizon=5)
        >>> reward = torch.nn.Linear(space.features, 1)
        >>> total, parts = behaviour.loss(space.start(6), space, lambda x: reward(x)[..., 0], model=[space, reward])
        >>> total.backward()
        >>> list(parts), reward.weight.grad is None
        (['actor', 'critic', 'entropy', 'imagined'], True)
    """

    spread: Tensor
    updates: Tensor

    def __init__(
        self,
        features: int,
        action: tuple[int, ...],
        choices: tuple[int, ...] = (),
        *,
        hidden: Sequence[int] = (128, 128),
        activation: str = "silu",
        estimator: Estimator | None = None,
        horizon: int = 15,
        discount: float = 0.99,
        decay: float = 0.95,
        entropy: float = 1e-3,
        rate: float = 0.02,
        starts: int = 0,
    ) -> None:
        super().__init__()
        fine = horizon >= 1 and 0 <= discount <= 1 and 0 <= decay <= 1 and entropy >= 0 and starts >= 0
        if not fine:
            raise BadInputError(
                f"horizon={horizon}, discount={discount}, decay={decay}, entropy={entropy}, starts={starts}: give at least one "
                "step, a discount and a decay from 0 to 1, and no negative number"
            )
        self.head = head(action, choices)
        self.estimator = _suited(self.head, estimator)
        self.horizon, self.discount, self.decay = horizon, discount, decay
        self.entropy, self.starts = entropy, starts
        self.actor = mlp((features, *hidden, self.head.width), activation)
        self.critic = Critics(1, features, hidden, activation)
        self.slow = SlowCopy(self.critic, rate)
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self._next: Tensor | None = None

    def act(self, features: Tensor, source: Source | None = None) -> Tensor:
        """Actions in states, rows + (features,), in units of the model: the mode of the policy, or drawn from a source."""
        outputs = self.actor(features)
        return self.head.mode(outputs) if source is None else sample(self.head(outputs), source=source)

    def value(self, features: Tensor) -> Tensor:
        """The return that the critic expects from states, rows + (features,): rows."""
        value: Tensor = self.spread * self.critic(features)[0]
        return value

    def loss(
        self,
        start: State,
        space: StateSpace,
        reward: Callable[[Tensor], Tensor],
        goes_on: Callable[[Tensor], Tensor] | None = None,
        source: Source | None = None,
        *,
        model: Iterable[nn.Module] = (),
    ) -> Lesson:
        """The loss of the actor and the critic, from states to go on from. After the step, call `after_step`.

        Args:
            start: where to begin, rows + …; constant here.
            space: of the states.
            reward: from features, any + (features,), to the mean reward on the way there.
            goes_on: likewise, to the probability that the episode goes on from there; by default always.
            source: of noise.
            model: the modules that are constant here: of the space, the rewards and the probabilities.
        """
        with constant(model):
            features, outputs, taken = self._imagine(self._some(start), space, source)
            alive = torch.ones_like(features[..., 0]) if goes_on is None else goes_on(features)
            gamma = self.discount * alive[1:]
            value = self.spread * self.critic(features, self.slow.layers())[0]
            returns = lambda_returns(reward(features[1:]), gamma, value[1:], self.decay)
        weight = torch.cat([alive[:1], gamma[:-1]]).detach().cumprod(0)
        target = returns.detach()
        self._next = spread = self._moved(target)
        if isinstance(self.estimator, Score):
            outputs = self.actor(features[:-1])
            gain = (weight * self._law(outputs).log_prob(taken) * (target - value[:-1])).sum(0)
        else:
            gain = weight[0] * returns[0]
        entropy = self._entropy(outputs, source)
        actor = -(gain / spread + self.entropy * (weight * entropy).sum(0)).mean()
        critic = 0.5 * (weight * (self.critic(features[:-1].detach())[0] - target / spread).square()).mean()
        parts = {"actor": actor, "critic": critic, "entropy": entropy.mean(), "imagined": target.mean()}
        return Lesson(actor + critic, {name: part.detach() for name, part in parts.items()})

    @torch.no_grad()
    def after_step(self) -> None:
        """After each update: the slow critic follows, and the spread of the returns is that of the loss before."""
        self.slow.follow(self.critic)
        if self._next is not None:
            self.spread.copy_(self._next)
        self._next = None
        self.updates += 1

    def _some(self, start: State) -> State:
        rows = len(start.deterministic)
        if not self.starts or self.starts >= rows:
            return State(*(part.detach() for part in start))
        chosen = torch.linspace(0, rows - 1, self.starts, device=start.deterministic.device).round().long()
        return State(*(part.detach()[chosen] for part in start))

    def _imagine(self, now: State, space: StateSpace, source: Source | None) -> tuple[Tensor, Tensor, Tensor]:
        """Features of the states, one more than steps; and of each step the actor's outputs, and what was drawn."""
        features, steps = [space.join(now)], []
        scored = isinstance(self.estimator, Score)
        with torch.no_grad() if scored else nullcontext():
            for _ in range(self.horizon):
                outputs = self.actor(features[-1])
                law = self._law(outputs)
                taken = sample(law, source=source) if scored else self.estimator.draw(law, 1, source).value[0]
                now = space.imagine(now, self._encoded(taken), source)
                features.append(space.join(now))
                steps.append((outputs, taken))
        outputs, taken = (torch.stack(each) for each in zip(*steps, strict=True))
        return torch.stack(features), outputs, taken

    def _law(self, outputs: Tensor) -> Distribution:
        """What an estimator draws from: the normal law that a tangent squashes, or one-hot choices."""
        if isinstance(self.head, SquashedNormal):
            return self.head.normal(outputs)
        law: Distribution = OneHotCategorical(logits=self.head.logits(outputs), validate_args=False)
        return law if self.head.single else Independent(law, 1, validate_args=False)

    def _encoded(self, taken: Tensor) -> Tensor:
        """A draw as the model takes an action: in (-1, 1), or one-hot choices joined."""
        if isinstance(self.head, SquashedNormal):
            return taken.tanh()
        if self.head.single:
            return taken
        return torch.cat([taken[..., k, :size] for k, size in enumerate(self.head.choices)], -1)

    def _entropy(self, outputs: Tensor, source: Source | None) -> Tensor:
        """Of the policy, in nats: exact of choices, an estimate of what has a density."""
        if isinstance(self.head, SquashedNormal):
            return -sample_and_log_prob(self.head(outputs), source=source)[1]
        entropy: Tensor = self._law(outputs).entropy()
        return entropy

    @torch.no_grad()
    def _moved(self, returns: Tensor) -> Tensor:
        """The spread of the returns, with those of this loss in its average: of all losses so far while they are few."""
        flat = returns.flatten().float()
        ends = flat.sort().values[[round(_TAIL * (len(flat) - 1)), round((1 - _TAIL) * (len(flat) - 1))]]
        count = self.updates.to(self.spread.dtype)
        decay = ((1 + count) / (10 + count)).clamp(max=_DECAY).masked_fill(self.updates == 0, 0.0)
        return (decay * self.spread + (1 - decay) * (ends[1] - ends[0])).clamp(min=1.0)


def _suited(head: SquashedNormal | Choices, estimator: Estimator | None) -> Estimator:
    """The estimator, or the one that suits the actions; refused where it does not."""
    if estimator is None:
        return Pathwise() if isinstance(head, SquashedNormal) else StraightThrough()
    if isinstance(estimator, Score):
        if estimator.baseline is not None:
            raise BadInputError("the baseline of Score is the critic here: give rp.Score() without another")
        return estimator
    if isinstance(head, SquashedNormal):
        if not isinstance(estimator, Pathwise):
            raise BadInputError(f"actions are continuous, and {estimator!r} is not for them: give rp.Pathwise() or rp.Score()")
        return estimator
    try:
        draw = estimator.draw(OneHotCategorical(torch.full((1, 2), 0.5)), 1, Fresh(torch.Generator()))
    except (NotImplementedError, TypeError, ValueError):
        draw = None
    if not isinstance(draw, Relaxed):
        raise BadInputError(
            f"actions are choices, through which {estimator!r} passes no gradient: give rp.StraightThrough(), rp.ReinMax(), "
            "rp.GumbelSoftmax(1.0, hard=True), or rp.Score()"
        )
    return estimator
