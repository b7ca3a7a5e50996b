"""Policy objectives against closed forms: exact policy gradients, the sides of PPO's clip, a soft actor by quadrature."""

import math

import numpy
import pytest
import torch
from torch.distributions import Categorical, Normal, TanhTransform, TransformedDistribution

import reparam as rp
from reparam.stats import mean_test

REWARD = torch.tensor([1.0, -0.5, 2.0, 0.3], dtype=torch.float64)
LOGITS = torch.tensor([0.2, 0.1, -0.4, 0.5], dtype=torch.float64)


def leaf(*values):
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def assert_mean(samples, truth, detects):
    """False alarms once in 1e9; an error of `detects` would be caught."""
    verdict = mean_test(samples.detach(), float(truth))
    assert verdict.detectable <= detects, verdict
    assert verdict, verdict


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_gradient_of_a_bandit(baseline):
    """Each action weighed by its probability gives the exact gradient, whatever the baseline; sampled ones give it in the mean."""
    logits = LOGITS.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(logits.softmax(-1) @ REWARD, logits)
    objective = rp.reinforce(logits.log_softmax(-1), REWARD - baseline)
    assert torch.allclose(objective, REWARD - baseline)
    (found,) = torch.autograd.grad(logits.detach().softmax(-1) @ objective, logits)
    assert torch.allclose(found, wanted)

    draws = 200_000
    each = LOGITS.expand(draws, 4).clone().requires_grad_()
    policy = Categorical(logits=each)
    action = rp.sample(policy, source=rp.Fresh(torch.Generator().manual_seed(0)))
    (found,) = torch.autograd.grad(rp.reinforce(policy.log_prob(action), REWARD[action] - baseline).sum(), each)
    for column, exact in zip(found.T, wanted, strict=True):
        assert_mean(column, exact, detects=0.03)


def test_curvature_of_a_bandit():
    logits = LOGITS.clone().requires_grad_()
    wanted = torch.autograd.functional.hessian(lambda w: w.softmax(-1) @ REWARD, LOGITS)

    def value(w):
        return w.detach().softmax(-1) @ rp.reinforce(w.log_softmax(-1), REWARD)

    assert torch.allclose(torch.autograd.functional.hessian(value, logits), wanted)


def test_ppo_is_reinforce_where_the_policy_is_the_old_one():
    gradients = []
    for objective in (rp.reinforce, lambda new, a: rp.ppo_clip(new, new.detach(), a)):
        logits = LOGITS.clone().requires_grad_()
        value = objective(logits.log_softmax(-1), REWARD - 0.7)
        assert torch.allclose(value, REWARD - 0.7)
        gradients.append(torch.autograd.grad(value.sum(), logits)[0])
    assert torch.allclose(*gradients)


@pytest.mark.parametrize("clip", [0.1, 0.2])
def test_ppo_clips_on_the_side_that_pays(clip):
    inside, above, below = (math.log1p(change) for change in (clip / 2, 2 * clip, -2 * clip))
    for advantage in (1.5, -1.5):
        log_prob = leaf(inside, above, below)
        a = torch.full((3,), advantage, dtype=torch.float64)
        value = rp.ppo_clip(log_prob, torch.zeros(3, dtype=torch.float64), a, clip=clip)
        ratio = log_prob.detach().exp()
        assert torch.allclose(value, torch.minimum(ratio * a, ratio.clamp(1 - clip, 1 + clip) * a))
        (g,) = torch.autograd.grad(value.sum(), log_prob)
        free = torch.tensor([True, advantage < 0, advantage > 0])
        assert torch.allclose(g, torch.where(free, ratio * a, 0.0))


def test_ppo_bears_ratios_beyond_the_floats():
    log_prob = torch.tensor([1000.0, -1000.0, -1000.0, 1000.0], requires_grad=True)
    value = rp.ppo_clip(log_prob, torch.zeros(4), torch.tensor([1.0, 1.0, -1.0, 0.0]))
    (g,) = torch.autograd.grad(value.sum(), log_prob)
    assert torch.allclose(value, torch.tensor([1.2, 0.0, -0.8, 0.0]))
    assert torch.equal(g, torch.zeros(4))


def test_value_clipping():
    value, target = leaf(1.0, 1.0, 1.0), torch.tensor([3.0, 3.0, 0.0], dtype=torch.float64)
    assert torch.allclose(rp.ppo_value(value, target), -0.5 * (value - target) ** 2)
    old = torch.tensor([0.0, 0.95, 2.0], dtype=torch.float64)
    clipped = rp.ppo_value(value, target, old_value=old, clip=0.2)
    # The first and the last have moved towards their target by more than 0.2: the clipped step counts, without a gradient.
    assert torch.allclose(clipped, -0.5 * torch.tensor([2.8**2, 2.0**2, 1.8**2], dtype=torch.float64))
    (g,) = torch.autograd.grad(clipped.sum(), value)
    assert torch.allclose(g, torch.tensor([0.0, 2.0, 0.0], dtype=torch.float64))


def test_generalised_advantages_by_definition():
    """Σ (γλ)^l δ up to the end of the episode, for two environments side by side."""
    g = torch.Generator().manual_seed(0)
    reward, value, following = torch.randn(3, 7, 2, dtype=torch.float64, generator=g)
    terminated = torch.zeros(7, 2, dtype=torch.bool)
    truncated = torch.zeros(7, 2, dtype=torch.bool)
    terminated[2, 0] = truncated[4, 0] = truncated[3, 1] = True
    discount, decay = 0.9, 0.8
    found = rp.gae(reward, value.requires_grad_(), following, terminated, truncated, discount=discount, decay=decay)
    assert not found.requires_grad
    for env in range(2):
        for t in range(7):
            wanted, factor = 0.0, 1.0
            for s in range(t, 7):
                bootstrap = 0.0 if terminated[s, env] else following[s, env]
                wanted = wanted + factor * (reward[s, env] + discount * bootstrap - value[s, env].detach())
                factor *= discount * decay
                if terminated[s, env] or truncated[s, env]:
                    break
            assert torch.allclose(found[t, env], wanted)


def test_generalised_advantages_at_their_ends():
    reward, value = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    following = torch.cat([value[1:], torch.tensor([9.0])])
    on, off = torch.tensor([False] * 4 + [True]), torch.zeros(5, dtype=torch.bool)
    returns = reward.flip(0).cumsum(0).flip(0)
    assert torch.allclose(rp.gae(reward, value, following, on, discount=1.0, decay=1.0), returns - value)
    assert torch.allclose(rp.gae(reward, value, following, off, discount=1.0, decay=0.0), reward + following - value)
    unknown = torch.where(on, torch.nan, following)  # of a terminal state nothing need be known
    assert torch.allclose(rp.gae(reward, value, unknown, on), rp.gae(reward, value, following, on))
    assert rp.gae(reward[:0], value[:0], value[:0], on[:0]).shape == (0,)


MEAN, SCALE, TEMPERATURE, GOAL = 0.4, 0.7, 0.3, 0.5


def policy(mean, scale):
    return TransformedDistribution(Normal(mean, scale), TanhTransform())


def test_gradient_of_a_soft_actor():
    """E[Q(a) − α log π(a)] for a tanh-normal policy and a quadratic Q, by Gauss–Hermite quadrature."""
    mean, scale = leaf(MEAN)[0], leaf(SCALE)[0]
    nodes, weights = (torch.as_tensor(a) for a in numpy.polynomial.hermite_e.hermegauss(100))
    u = mean + scale * nodes
    log_prob = Normal(mean, scale).log_prob(u) - torch.log1p(-(u.tanh() ** 2))
    exact = ((-((u.tanh() - GOAL) ** 2) - TEMPERATURE * log_prob) * weights).sum() / weights.sum()
    wanted = torch.autograd.grad(exact, (mean, scale))

    draws = 400_000
    leaves = [torch.full((draws,), v, dtype=torch.float64, requires_grad=True) for v in (MEAN, SCALE)]
    action, log_prob = rp.sample_and_log_prob(policy(*leaves), source=rp.Fresh(torch.Generator().manual_seed(0)))
    objective = rp.sac_actor(log_prob, -((action - GOAL) ** 2), torch.tensor(TEMPERATURE, requires_grad=True))
    assert_mean(objective, exact.detach(), detects=0.02)
    for found, truth in zip(torch.autograd.grad(objective.sum(), leaves), wanted, strict=True):
        assert_mean(found, truth, detects=0.02)


def test_soft_actor_of_saturated_actions():
    loc = torch.tensor([50.0, -50.0], requires_grad=True)
    action, log_prob = rp.sample_and_log_prob(policy(loc, 1.0))
    (g,) = torch.autograd.grad(rp.sac_actor(log_prob, -((action - GOAL) ** 2), 0.2).sum(), loc)
    # The entropy, which is about log 4 - 2 |u| + ..., draws back with slope 2 alpha.
    assert torch.allclose(g, torch.tensor([-0.4, 0.4]))


def test_soft_target():
    reward, log_prob, q = leaf(1.0, 1.0), leaf(-2.0, math.nan), leaf(3.0, math.nan)
    target = rp.sac_target(reward, log_prob, q, torch.tensor([False, True]), leaf(0.5), discount=0.9)
    assert torch.allclose(target, torch.tensor([1 + 0.9 * (3 + 0.5 * 2), 1.0], dtype=torch.float64))
    assert not target.requires_grad
    (g,) = torch.autograd.grad(rp.sac_critic(q, leaf(5.0, 5.0))[0], q)
    assert g[0] == 2.0


def test_temperature_seeks_the_target_entropy():
    """Its gradient is zero where −E log π is the target, and raises α below it."""
    log_prob = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    for target, sign in ((-2.0, 0), (-1.0, 1), (-3.0, -1)):
        log_alpha = leaf(0.3)[0]
        objective = rp.sac_temperature(log_alpha.exp(), log_prob, target)
        assert objective.shape == (3,)
        (g,) = torch.autograd.grad(objective.mean(), log_alpha)
        assert torch.allclose(g, sign * log_alpha.detach().exp())
    assert torch.autograd.grad(rp.sac_temperature(leaf(1.0), log_prob, 0.0).sum(), log_prob, allow_unused=True) == (None,)


def test_constants_get_no_gradient():
    x, constant = leaf(0.1, 0.2), leaf(1.0, -1.0)
    for objective in (
        rp.reinforce(x, constant),
        rp.ppo_clip(x, constant, constant),
        rp.ppo_value(x, constant, old_value=constant),
        rp.sac_critic(x, constant),
    ):
        found = torch.autograd.grad(objective.sum(), (x, constant), allow_unused=True)
        assert found[0] is not None
        assert found[1] is None
        assert objective.shape == x.shape


def test_transforms_of_torch():
    def total(log_prob):
        old, advantage = torch.zeros(3), torch.tensor([1.0, 1.0, -1.0])
        return (
            rp.reinforce(log_prob, advantage) + rp.ppo_clip(log_prob, old, advantage) + rp.sac_actor(log_prob, advantage, 0.1)
        ).sum()

    x = torch.tensor([0.0, 0.5, 0.5])
    y = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(total(y), y)
    assert torch.allclose(torch.func.grad(total)(x), wanted)
    assert torch.allclose(torch.func.vmap(torch.func.grad(total))(x.expand(2, 3)), wanted)
    compiled = torch.compile(total, backend="aot_eager", fullgraph=True)
    assert torch.allclose(torch.autograd.grad(compiled(y), y)[0], wanted)


ONE, COLUMN, DONE = torch.ones(3), torch.ones(3, 1), torch.zeros(3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("wrong", "error", "match"),
    [
        (lambda: rp.reinforce(ONE, COLUMN), ValueError, r"log_prob \(3,\), advantage \(3, 1\)"),
        (lambda: rp.reinforce(ONE, 1.0), TypeError, "advantage must be a floating-point tensor, got float"),
        (lambda: rp.reinforce(ONE, DONE), TypeError, "got torch.bool"),
        (lambda: rp.ppo_clip(ONE, ONE, COLUMN), ValueError, "shapes must be equal"),
        (lambda: rp.ppo_clip(ONE, ONE, ONE, clip=0.0), ValueError, "clip must be above 0"),
        (lambda: rp.ppo_value(ONE, ONE, old_value=COLUMN), ValueError, "old_value"),
        (lambda: rp.gae(ONE, ONE, COLUMN, DONE), ValueError, "next_value"),
        (lambda: rp.gae(ONE, ONE, ONE, ONE), TypeError, "terminated must be a boolean tensor"),
        (lambda: rp.gae(ONE, ONE, ONE, DONE, DONE[:2]), ValueError, r"truncated has shape \(2,\)"),
        (lambda: rp.gae(ONE, ONE, ONE, DONE, discount=1.1), ValueError, "discount and decay"),
        (lambda: rp.gae(ONE[0], ONE[0], ONE[0], DONE[0]), ValueError, "time is the first dimension"),
        (lambda: rp.sac_actor(ONE, COLUMN, 0.1), ValueError, "q_value"),
        (lambda: rp.sac_actor(ONE, ONE, ONE), ValueError, "temperature is one number"),
        (lambda: rp.sac_target(ONE, ONE, ONE, ONE, 0.1), TypeError, "boolean"),
        (lambda: rp.sac_critic(ONE, COLUMN), ValueError, "target"),
        (lambda: rp.sac_temperature(0.1, ONE, -1.0), ValueError, "temperature that learns"),
    ],
)
def test_wrong_use_is_an_error(wrong, error, match):
    with pytest.raises(error, match=match):
        wrong()
