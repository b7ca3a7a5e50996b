"""Soft actor-critic: its loss against a textbook's, estimators against an integral, what it learns where that is known."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Normal

import reparam as rp
from reparam.environments.copies import Arrival
from reparam.environments.experience import Replay
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.models.sac import SAC, Config
from reparam.nn.critic import Critics, SlowCopy
from reparam.nn.policy import Choices, SquashedNormal, head
from reparam.nn.running import RunningNormal
from reparam.noise import Fresh
from reparam.stats import mean_test

ESTIMATORS = ("pathwise", "score", "score_learned", "leave_one_out", "measure_valued", "quadrature")


def spaces(seen=3, width=2):
    return Spaces((seen,), "real", None, "continuous", (width,), low=(-2.0,) * width, high=(2.0,) * width)


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def made(seed=0, dtype=torch.float64, seen=3, width=2, **settings):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        agent = SAC(Config(**{"hidden": (8, 6)} | settings), spaces(seen, width)).to(dtype)
    for parameter in agent.parameters():  # the last layers start small, and would hide what is wrong with them
        if parameter.dim() > 1:
            parameter.data *= 2
    return agent


def batch(n=7, seen=3, width=2, dtype=torch.float64):
    action = normal(n, width, seed=1, dtype=dtype).tanh()
    terminated = torch.arange(n) % 3 == 0
    return (
        2 * normal(n, seen, dtype=dtype),
        action,
        normal(n, seed=2, dtype=dtype),
        normal(n, seen, seed=3, dtype=dtype),
        terminated,
    )


def arrival(observation, reward=None):
    n = len(observation)
    no = torch.zeros(n, dtype=torch.bool)
    return Arrival(observation, torch.zeros(n, 2), torch.zeros(n) if reward is None else reward, no, no, no)


def gradients(loss, parameters):
    found = torch.autograd.grad(loss, parameters, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]


class Textbook:
    """Three losses for three optimisers, in plain torch."""

    def __init__(self, agent, data, seed):
        self.agent, config = agent, agent.config
        observation, action, reward, following, terminated = data
        noise = torch.Generator().manual_seed(seed)
        alpha = agent.log_temperature.exp()
        slow = [(getattr(agent.slow, f"weight_{i}"), getattr(agent.slow, f"bias_{i}")) for i in range(len(config.hidden) + 1)]
        own = [(getattr(agent.critics, f"weight_{i}"), getattr(agent.critics, f"bias_{i}")) for i in range(len(slow))]
        with torch.no_grad():
            then, log_prob = self.draw(following, noise)
            future = torch.min(*self.values(slow, following, then)) - alpha * log_prob
            target = reward + config.discount * (1 - terminated.double()) * future
        first, second = self.values(own, observation, action)
        self.critic = 0.5 * ((first - target) ** 2).mean() + 0.5 * ((second - target) ** 2).mean()
        drawn, log_prob = self.draw(observation, noise)
        self.actor = (alpha.detach() * log_prob - torch.min(*self.values(own, observation, drawn))).mean()
        self.temperature = -(alpha * (log_prob.detach() - len(action.T))).mean()

    def seen(self, observation):
        running = self.agent.observations
        deviation = (running.squares / running.count).sqrt()
        return ((observation - running.mean) / deviation).clamp(-10, 10)

    def draw(self, observation, noise):
        h = self.seen(observation)
        layers = [layer for layer in self.agent.policy if isinstance(layer, nn.Linear)]
        for i, layer in enumerate(layers):
            h = h @ layer.weight.T + layer.bias
            h = h.relu() if i < len(layers) - 1 else h
        loc, raw = h[:, :2], h[:, 2:]
        log_scale = -1.5 + 3.5 * torch.tanh(raw / 3.5 + math.atanh(1.5 / 3.5))
        u = loc + log_scale.exp() * torch.randn(loc.shape, generator=noise, dtype=loc.dtype)
        action = u.tanh()
        return action, (Normal(loc, log_scale.exp()).log_prob(u) - torch.log(1 - action**2)).sum(-1)

    def values(self, layers, observation, action):
        found = []
        for i in range(2):
            h = torch.cat([self.seen(observation), action], -1)
            for weight, bias in layers[:-1]:
                h = (h @ weight[i] + bias[i]).relu()
            found.append((h @ layers[-1][0][i] + layers[-1][1][i]).squeeze(-1))
        return found


def test_the_one_loss_is_that_of_three_optimisers():
    """Values and gradients, in float64, to rounding: a missing detach or a wrong sign shows in the first digits."""
    agent, data = made(temperature=0.3), batch()
    agent.see(arrival(5 * normal(40, 3, seed=8) + 1))
    for p in agent.critics.parameters():
        p.data += 0.3 * normal(*p.shape, seed=9)  # so that the slow ones differ
    book, loss = Textbook(agent, data, seed=5), agent.loss(data, fresh(5))
    assert loss.parts["critic"] == pytest.approx(book.critic.item(), rel=1e-9)
    assert loss.parts["actor"] == pytest.approx(book.actor.item(), rel=1e-9)
    assert loss.parts["temperature"].item() == pytest.approx(0.3)
    for parameters, own in (
        ([*agent.critics.parameters()], book.critic),
        ([*agent.policy.parameters()], book.actor),
        ([agent.log_temperature], book.temperature),
    ):
        for got, wanted in zip(gradients(loss.total, parameters), gradients(own, parameters), strict=True):
            assert wanted.abs().max() > 1e-6
            assert torch.allclose(got, wanted, rtol=1e-6, atol=1e-12)
    assert {id(p) for p in agent.parameters()} == {
        id(p) for p in (*agent.critics.parameters(), *agent.policy.parameters(), agent.log_temperature)
    }


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_part_reaches_its_own_parameters_only(estimator):
    agent, data = made(estimator=estimator), batch()
    actor, log_prob = agent._actor(agent._seen(data[0]), agent.temperature, fresh())
    assert all(g.abs().max() > 0 for g in gradients(actor, [*agent.policy.parameters()]))
    assert all(not g.any() for g in gradients(actor, [*agent.critics.parameters(), agent.log_temperature]))
    if estimator != "pathwise":  # whose temperature learns from the actions that were drawn
        assert torch.allclose(-log_prob, agent.law(data[0]).entropy())
    loss = agent.loss(data, fresh())
    loss.total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in agent.parameters())
    assert all(not part.requires_grad for part in loss.parts.values())


def test_what_follows_counts_where_an_episode_was_cut_short_and_not_where_it_ended():
    agent, (observation, action, reward, following, ended) = made(), batch()
    other = torch.where(ended[:, None], following + 1, following)
    loss = [agent.loss((observation, action, reward, after, ended), fresh()).parts["critic"] for after in (following, other)]
    assert loss[0] == loss[1]
    other = torch.where(ended[:, None], following, following + 1)
    assert agent.loss((observation, action, reward, other, ended), fresh()).parts["critic"] != loss[0]


def test_rewards_are_scaled_and_normalised():
    agent, data = made(reward_scale=3.0, normalise_rewards=True), batch()
    agent.see(arrival(normal(50, 3), reward=4 * normal(50, seed=4)))
    deviation = (4 * normal(50, seed=4)).std(correction=0)
    other = made()
    other.observations.load_state_dict(agent.observations.state_dict())
    scaled = (data[0], data[1], 3 * data[2] / deviation, *data[3:])
    assert torch.allclose(agent.loss(data, fresh()).total, other.loss(scaled, fresh()).total)


def test_what_is_seen_is_counted_only_where_it_counts():
    """The reward of a first arrival is none; without normalising nothing is counted."""
    agent, plain = made(normalise_rewards=True), made(normalise_observations=False)
    start = arrival(normal(4, 3), reward=normal(4))._replace(first=torch.tensor([True, False, False, True]))
    for each in (agent, plain):
        each.see(start)
    assert (int(agent.observations.count), int(agent.rewards.count)) == (4, 2)
    assert torch.equal(agent.rewards.mean, start.reward[1:3].mean())
    assert (int(plain.observations.count), int(plain.rewards.count)) == (0, 0)
    assert torch.equal(plain._seen(20 * start.observation), 20 * start.observation)


def test_slow_critics_follow_and_are_part_of_the_state():
    agent = made(target_rate=0.25)
    before = [w.clone() for pair in agent.slow.layers() for w in pair]
    to = [w for pair in agent.critics.layers(constant=True) for w in pair]
    agent.after_step()
    assert not torch.equal(before[0], to[0])
    for was, target, (name, now) in zip(before, to, agent.slow.named_buffers(), strict=True):
        assert torch.allclose(now, 0.75 * was + 0.25 * target)
        assert torch.equal(agent.state_dict()[f"slow.{name}"], now)
        assert not now.requires_grad


class Table(nn.Module):
    """A policy whose outputs are leaves: the gradient of each row is that of one estimate."""

    def __init__(self, outputs, rows):
        super().__init__()
        self.outputs = nn.Parameter(outputs.expand(rows, -1).clone())

    def forward(self, seen):
        return self.outputs


def exact(agent, seen, outputs):
    """The gradient of E[α log π(a) − min Q] in the outputs: the trapezoidal rule over the noise, on a fine grid."""
    outputs = outputs.clone().requires_grad_()
    width = len(outputs) // 2
    t = torch.linspace(-9, 9, 2001 if width == 1 else 401, dtype=torch.float64)
    eps = torch.cartesian_prod(*[t] * width).reshape(-1, width)
    weight = (-eps.square().sum(-1) / 2).exp() * ((t[1] - t[0]) / math.sqrt(2 * math.pi)) ** width
    loc, scale = agent.head.parameters(outputs)
    u = loc + scale * eps
    log_prob = (Normal(loc, scale).log_prob(u) - 2 * (math.log(2) - u - nn.functional.softplus(-2 * u))).sum(-1)
    value = agent.critics(torch.cat([seen.expand(len(u), -1), u.tanh()], -1)).amin(0)
    return torch.autograd.grad((weight * (agent.temperature.detach() * log_prob - value)).sum(), outputs)[0]


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_estimators_of_the_policys_gradient_agree_with_the_integral(estimator, width):
    """z-tests of 10 000 estimates, each at a false-alarm rate of 1e-9; errors of 0.12 of an estimate's deviation are caught."""
    rows = 8 if estimator == "quadrature" else 10_000
    agent = made(width=width, seen=1, activation="tanh", estimator=estimator, temperature=0.5)
    seen = torch.full((1, 1), 0.4, dtype=torch.float64)
    outputs = torch.tensor([0.3, -0.5][:width] + [-0.4, 0.2][:width], dtype=torch.float64)
    wanted = exact(agent, seen, outputs)
    agent.policy = Table(outputs, rows)
    actor, _ = agent._actor(seen.expand(rows, 1), agent.temperature, fresh(3))
    (found,) = torch.autograd.grad(rows * actor, agent.policy.outputs)
    if estimator == "quadrature":  # its error is the rule's, the same in every row
        assert (found - wanted).norm(dim=-1).max() < 0.05 * wanted.norm()
        return
    for i in range(2 * width):
        assert (verdict := mean_test(found[:, i], wanted[i].item())), verdict


def test_many_nodes_make_the_quadrature_exact():
    """The smaller of two critics has a kink, so that the error falls with the square of the distance of nodes: 0.017 here."""
    agent = made(width=1, seen=1, activation="tanh", estimator="quadrature", temperature=0.5, actions=1000)
    seen, outputs = torch.full((1, 1), 0.4, dtype=torch.float64), torch.tensor([0.3, -0.4], dtype=torch.float64)
    wanted = exact(agent, seen, outputs)
    agent.policy = Table(outputs, 1)
    (found,) = torch.autograd.grad(agent._actor(seen, agent.temperature, None)[0], agent.policy.outputs)
    assert torch.allclose(found[0], wanted, rtol=1e-3)


@pytest.mark.parametrize("noise", ["antithetic", "sobol"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_noise_can_be_swapped(noise, estimator):
    agent = made(estimator=estimator, actions=8)
    source = rp.Antithetic(fresh()) if noise == "antithetic" else rp.Sobol(seed=3)
    if estimator == "leave_one_out":
        with pytest.raises(BadInputError, match="take noise='fresh', or estimator='score'"):
            agent.loss(batch(), source)
        return
    loss = agent.loss(batch(), source)
    loss.total.backward()
    assert loss.total.isfinite()


def test_antithetic_actions_lower_the_variance_of_the_gradient():
    """In a location, where values are nearly linear; the ratio of variances over 2000 states is known to a few per cent."""
    variances = []
    for source in (fresh(), rp.Antithetic(fresh())):
        agent = made(width=1, seen=1, activation="tanh", actions=2, temperature=0.01)
        agent.policy = Table(torch.tensor([0.1, -2.0], dtype=torch.float64), 2000)
        actor, _ = agent._actor(torch.full((2000, 1), 0.4, dtype=torch.float64), agent.temperature, source)
        variances.append(torch.autograd.grad(2000 * actor, agent.policy.outputs)[0][:, 0].var())
    assert variances[1] < 0.2 * variances[0]


def bandit(agent, optimum, curvature, steps=400, rate=2e-2):
    """Train on steps that are episodes, with reward −curvature (a − optimum(s))²; the last observations seen."""
    optimizer = torch.optim.Adam(agent.parameters(), rate)
    generator, source, no = torch.Generator().manual_seed(1), fresh(2), torch.ones(128, dtype=torch.bool)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        seen = 2 * torch.rand(128, 1, generator=generator) - 1
        near, _ = agent.act(seen, None, no, source)
        action = torch.where(torch.rand(128, 1, generator=generator) < 0.5, near, 2 * torch.rand(128, 1, generator=generator) - 1)
        reward = -curvature * (action - optimum(seen)).square().squeeze(-1)
        optimizer.zero_grad()
        loss = agent.loss((seen, action, reward, seen, no), source)
        loss.total.backward()
        optimizer.step()
        agent.after_step()
    return seen, loss


def test_a_bandit_is_solved_by_the_policy_that_is_softly_optimal():
    """π(a | s) ∝ exp(r / α) is N(a*(s), α / 2c) where that is narrow: mean to 0.05, deviation to a fifth. Its entropy comes to the
    target, −1.5 nats, to 0.2, which is the case of an α of 4 σ², σ = 0.054 that of a normal law of such entropy: to a third."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        agent = SAC(Config(hidden=(32, 32), temperature=0.02, target_entropy=-1.5), spaces(1, 1))
    seen, loss = bandit(agent, lambda s: 0.5 * s, curvature=2.0)
    law, alpha = agent.law(seen), loss.parts["temperature"].item()
    assert (law.mean - 0.5 * seen).abs().mean() < 0.05
    assert law.stddev.mean().item() == pytest.approx(math.sqrt(alpha / 4), rel=0.2)
    assert loss.parts["entropy"].item() == pytest.approx(-1.5, abs=0.2)
    assert alpha == pytest.approx(4 * math.exp(-3) / (2 * math.pi * math.e), rel=0.33)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize(("loc", "raw"), [(20.0, 0.0), (-20.0, 40.0), (200.0, -40.0)])
def test_saturated_policies_keep_finite_gradients(estimator, loc, raw):
    agent = made(dtype=torch.float32, estimator=estimator)
    last = [layer for layer in agent.policy if isinstance(layer, nn.Linear)][-1]
    nn.init.constant_(last.bias[:2], loc)
    nn.init.constant_(last.bias[2:], raw)
    loss = agent.loss(batch(dtype=torch.float32), fresh())
    loss.total.backward()
    assert loss.total.isfinite()
    assert all(p.grad.isfinite().all() for p in agent.parameters())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_half_precision_gives_nearly_the_same(estimator):
    agent, data = made(dtype=torch.float32, estimator=estimator), batch(dtype=torch.float32)
    whole = agent.loss(data, fresh())
    with torch.autocast("cpu", torch.bfloat16):
        half = agent.loss(data, fresh())
    half.total.backward()
    assert half.total.dtype == torch.float32
    assert half.total.item() == pytest.approx(whole.total.item(), rel=0.1, abs=0.1)
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in agent.parameters())


def test_acting():
    agent, no = made(dtype=torch.float32), torch.zeros(5, dtype=torch.bool)
    seen = normal(5, 3, dtype=torch.float32)
    mode, carry = agent.act(seen, None, no, None)
    assert carry is None
    assert mode.shape == (5, 2)
    assert not mode.requires_grad
    assert (mode.abs() < 1).all()
    drawn = [agent.act(seen, None, no, fresh(seed))[0] for seed in (1, 1, 2)]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert drawn[0].dtype == torch.float32
    many = torch.stack([agent.act(seen, None, no, fresh(seed))[0] for seed in range(400)])
    assert torch.allclose(many.median(0).values, mode, atol=0.3)  # six deviations of a median of 400
    assert torch.equal(agent.law(seen).base_dist.loc.tanh(), mode)
    assert agent.learns_from == Replay(updates=1.0, warm_up=100)


def test_values_are_in_the_rewards_of_the_environment():
    agent, seen = made(reward_scale=2.0, normalise_rewards=True), batch()[0]
    agent.see(arrival(normal(50, 3), reward=4 * normal(50, seed=4)))
    mode, _ = agent.act(seen, None, None, None)
    wanted = agent.critics(torch.cat([agent._seen(seen), mode], -1)).amin(0) / 2 * (4 * normal(50, seed=4)).std(correction=0)
    assert torch.allclose(agent.values(seen), wanted)


def test_a_run_remembers_the_agent():
    agent = made()
    agent.see(arrival(normal(10, 3)))
    again = SAC.from_record(agent.config, {"spaces": agent.spaces.facts()}).double()
    again.load_state_dict(agent.state_dict())
    assert again.config == agent.config
    assert again.config.target_entropy == -2.0
    assert torch.equal(agent.loss(batch(), fresh()).total, again.loss(batch(), fresh()).total)
    assert {"observations.mean", "observations.count", "observations.squares", "slow.weight_0"} <= set(agent.state_dict())
    assert SAC.for_environment(agent.config, agent.spaces).config == agent.config


def test_running_moments_are_those_of_the_concatenation():
    """However it is cut, at an offset of 1e4 deviations, to 1e-9: in float32, or by sums of squares, eight digits would be gone."""
    x = normal(1000, 3) + 1e4
    running, start = RunningNormal((3,)), 0
    for size in (1, 1, 0, 7, 500, 491):
        part = x[start : start + size]
        running.update(part.reshape(-1, 1, 3) if size == 7 else part)
        start += size
    assert int(running.count) == 1000
    assert np.allclose(running.mean, np.mean(x.numpy(), 0), rtol=1e-13)
    assert np.allclose(running.variance, np.var(x.numpy(), 0), rtol=1e-9)
    again = RunningNormal((3,))
    again.load_state_dict(running.state_dict())
    assert torch.equal(again.standardise(x.float()), running.standardise(x.float()))


def test_running_moments_of_what_does_not_vary_or_is_wrong():
    running = RunningNormal((2,))
    assert torch.equal(running.standardise(torch.tensor([3.0, -20.0])), torch.tensor([3.0, -10.0]))
    running.update(torch.tensor([[0.1, 1.0]] * 7))
    assert torch.equal(running.scale, torch.ones(2))
    assert torch.allclose(running.rescale(torch.tensor([2.0, 3.0])), torch.tensor([2.0, 3.0]))
    before = {name: value.clone() for name, value in running.state_dict().items()}
    with pytest.raises(ValueError, match="NaN or infinite"):
        running.update(torch.tensor([[math.nan, 1.0]]))
    with pytest.raises(ValueError, match=r"shape \(4, 3\)"):
        running.update(torch.zeros(4, 3))
    assert all(torch.equal(value, before[name]) for name, value in running.state_dict().items())


def test_critics_are_separate_networks():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        critics = Critics(3, 4, (5, 6), "tanh").double()
    x = normal(2, 7, 4)
    for i, found in enumerate(critics(x)):
        h = x
        for weight, bias in critics.layers():
            h = (h.tanh() if h is not x else h) @ weight[i] + bias[i]
        assert torch.allclose(found, h.squeeze(-1))
    assert critics(x).shape == (3, 2, 7)
    assert critics(x).std(0).min() > 1e-4
    assert not critics(x, critics.layers(constant=True)).requires_grad
    with pytest.raises(BadInputError, match="0 critics"):
        Critics(0, 4, (5,), "tanh")
    with pytest.raises(BadInputError, match="rate of 0"):
        SlowCopy(critics, 0)


def test_laws_of_several_choices():
    policy = Choices((2, 4, 3))
    outputs = normal(5, 9).requires_grad_()
    law = policy(outputs)
    parts = [part.log_softmax(-1) for part in outputs.split((2, 4, 3), -1)]
    action = torch.tensor([1, 3, 0]).expand(5, 3)
    wanted = sum(part[:, a] for part, a in zip(parts, (1, 3, 0), strict=True))
    assert torch.allclose(law.log_prob(action), wanted)
    assert torch.allclose(law.entropy(), -sum((part.exp() * part).sum(-1) for part in parts))
    assert torch.equal(policy.mode(outputs), torch.stack([part.argmax(-1) for part in parts], -1))
    drawn = rp.sample(law, (2000,), source=fresh())
    assert (drawn.amax((0, 1)) == torch.tensor([1, 3, 2])).all()
    (100 * law.entropy().sum() + law.log_prob(action).sum()).backward()
    assert outputs.grad.isfinite().all()
    one = Choices((4,), single=True)
    assert one(normal(5, 4)).sample().shape == (5,)
    assert one.mode(normal(5, 4)).shape == (5,)


def test_the_scale_of_a_policy_is_bounded_and_starts_at_one():
    policy = SquashedNormal(1, low=-3.0, high=1.0)
    raw = torch.tensor([[0.0, -1e6], [0.0, 0.0], [0.0, 1e6]], dtype=torch.float64)
    assert torch.allclose(policy.parameters(raw)[1].log().squeeze(-1), torch.tensor([-3.0, 0.0, 1.0], dtype=torch.float64))
    assert policy(raw.bfloat16()).base_dist.loc.dtype == torch.float32
    with pytest.raises(ValueError, match="around 0"):
        SquashedNormal(1, low=1.0)
    with pytest.raises(ValueError, match="at least one category"):
        Choices(())
    with pytest.raises(ValueError, match="one if single"):
        Choices((2, 3), single=True)
    with pytest.raises(BadInputError, match="vectors"):
        head((2, 2))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"activation": "sine"}, "activation='sine': give one of elu"),
        ({"estimator": "gumbel_softmax"}, "estimator='gumbel_softmax': give one of pathwise"),
        ({"critics": 0}, "critics=0: give at least 1"),
        ({"random_steps": -1}, "random_steps=-1"),
        ({"actions": 0}, "actions=0"),
        ({"hidden": (0,)}, "widths must be positive"),
        ({"discount": 1.0}, "discount=1.0"),
        ({"target_rate": 0.0}, "target_rate=0.0"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"updates": math.inf}, "updates=inf"),
        ({"reward_scale": -1.0}, "reward_scale=-1.0"),
        ({"target_entropy": math.nan}, "target_entropy=nan"),
        ({"target_entropy": -1.0, "learned_temperature": False}, "leave one out"),
        ({"estimator": "leave_one_out", "actions": 1}, "at least 2"),
    ],
)
def test_settings_out_of_range(settings, said):
    with pytest.raises(BadInputError, match=said):
        Config(**settings)


def test_environments_and_estimators_that_do_not_fit():
    with pytest.raises(BadInputError, match="reparam train reinforce takes discrete actions"):
        SAC(Config(), Spaces((3,), "real", None, "discrete", (), (4,)))
    with pytest.raises(BadInputError, match="flatten"):
        SAC(Config(), Spaces((3, 64, 64), "counts", 255, "continuous", (1,), low=(0.0,), high=(1.0,)))
    with pytest.raises(BadInputError, match="4096 actions"):
        SAC(Config(estimator="quadrature"), spaces(width=4))
    with pytest.raises(BadInputError, match="at least 8"):
        SAC(Config(estimator="quadrature", actions=4), spaces(width=1))
    assert [made(estimator="quadrature", width=w).config.actions for w in (1, 2, 3)] == [32, 16, 8]
