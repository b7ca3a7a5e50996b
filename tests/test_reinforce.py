"""Policy gradients: exact over all histories of a small decision process, and rollouts taken apart by plain Python."""

import itertools
import math
import random

import pytest
import torch
from torch.distributions import Categorical, Normal

import reparam as rp
from reparam.environments.copies import Arrival
from reparam.environments.experience import Rollout
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.models.reinforce import Config, Reinforce
from reparam.stats import mean_test

PLAIN = {"normalise_observations": False, "normalise_rewards": False}

BASELINES = ("value", "leave_one_out", "moving_average", "none")


def spaces(observation=(3,), choices=(2,), *, single=True, **more):
    return Spaces(observation, "real", None, "discrete", () if single else (len(choices),), choices, **more)


def continuous(observation=(3,), actions=1):
    return Spaces(observation, "real", None, "continuous", (actions,), low=(-2.0,) * actions, high=(2.0,) * actions)


def agent_of(config, where, seed=0, spread=1.0):
    """An agent whose last layers are not small, so that policies and values differ between observations."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        agent = Reinforce(config, where).double()
        for p in agent.parameters():
            torch.nn.init.normal_(p, std=spread)
        if agent.average is not None:
            agent.average.mean.fill_(0.7)
    return agent


def gradient(loss, module):
    """Of all parameters of a module, as one vector."""
    found = torch.autograd.grad(loss, list(module.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten() for g in found])


# A decision process: states 0 to 2, 3 where an episode terminates, 4 where it is cut short; after both, a restart in state 0.
NEXT = ((1, 2), (0, 3), (4, 1))
REWARD = ((0.25, -1.0), (2.0, -0.75), (0.875, 1.625))  # exact in single precision
STEPS, SEEN, DISCOUNT = 4, 5, 0.8


def histories(start, agent):
    """Every course of STEPS arrivals after the one in `start`, with its probability under the agent."""
    p = agent.law(torch.eye(SEEN, dtype=torch.float64)).probs.detach()

    def further(state, t):
        if t == STEPS:
            yield 1.0, ()
        elif state > 2:
            for chance, rest in further(0, t + 1):
                yield chance, ((0, 0, 0.0, True), *rest)
        else:
            for a in (0, 1):
                for chance, rest in further(NEXT[state][a], t + 1):
                    yield chance * float(p[state, a]), ((NEXT[state][a], a, REWARD[state][a], False), *rest)

    return [(chance, ((start, 0, 0.0, False), *rest)) for chance, rest in further(start, 0)]


def rollout_of(copies):
    state, action, reward, first = (torch.tensor(column).T for column in zip(*(zip(*c, strict=True) for c in copies), strict=True))
    observation = torch.eye(SEEN, dtype=torch.float64)[state]
    return Arrival(observation, action, reward.double(), first, state == 3, state == 4)


def exact_gradient(start, agent):
    """Σ_t Σ_s P(s_t = s) Σ_a ∇π(a | s) Q_t(s, a), the returns up to the rollout's end by recursion."""
    every = torch.eye(SEEN, dtype=torch.float64)
    pi = agent.law(every).probs
    p = pi.detach()
    values = torch.zeros(SEEN, dtype=torch.float64) if agent.value is None else agent.value(every).squeeze(-1).detach()
    expected = torch.zeros(STEPS + 1, SEEN, dtype=torch.float64)
    expected[STEPS] = values
    q = torch.zeros(STEPS, 3, 2, dtype=torch.float64)
    for t in reversed(range(STEPS)):
        for s, a in itertools.product(range(3), range(2)):
            n = NEXT[s][a]
            # Cut short: what a value function says of that state, whenever it was.
            follows = 0.0 if n == 3 else values[4] if n == 4 else expected[t + 1, n]
            q[t, s, a] = REWARD[s][a] + DISCOUNT * follows
        expected[t, :3] = (p[:3] * q[t]).sum(-1)
    at, total = torch.zeros(SEEN, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    at[start] = 1.0
    for t in range(STEPS):
        total = total + (at[:3, None] * pi[:3] * q[t]).sum()
        after = torch.zeros_like(at)
        after[0] = at[3] + at[4]
        for s, a in itertools.product(range(3), range(2)):
            after[NEXT[s][a]] += at[s] * p[s, a]
        at = after
    return gradient(total, agent.policy)


@pytest.mark.parametrize("objective", ["reinforce", "ppo"])
@pytest.mark.parametrize("baseline", BASELINES)
def test_gradient_is_exact_over_all_histories(objective, baseline):
    """Two copies through every pair of histories, each pair with its probability: without sampling, so without false alarms.

    The loss is a mean over steps, whose number varies with the restarts: times it, the sum over steps remains. Values, which are
    anything, are those of an untrained network.
    """
    config = Config(objective, baseline, discount=DISCOUNT, decay=1.0, normalise_advantages=False, hidden=())
    agent = agent_of(config, spaces((SEEN,))).eval()
    courses = [histories(start, agent) for start in (0, 1)]
    assert all(math.isclose(sum(chance for chance, _ in course), 1.0) for course in courses)
    found = torch.zeros(())
    for (chance, one), (likewise, other) in itertools.product(*courses):
        steps = agent.prepare(rollout_of([one, other]))
        found = found + chance * likewise * len(steps.advantage) * -gradient(agent.loss(steps).total, agent.policy)
    wanted = exact_gradient(0, agent) + exact_gradient(1, agent)
    assert torch.allclose(found, wanted, rtol=1e-9, atol=1e-11)
    assert wanted.norm() > 0.1  # or there were nothing to get wrong


def test_a_mean_of_all_steps_would_be_biased():
    """What the leave-one-out baseline is for: with the mean of all steps, own ones too, the same sum is another vector."""
    config = Config("reinforce", "none", discount=DISCOUNT, normalise_advantages=False, hidden=())
    agent = agent_of(config, spaces((SEEN,))).eval()
    found = torch.zeros(())
    for (chance, one), (likewise, other) in itertools.product(*(histories(start, agent) for start in (0, 1))):
        steps = agent.prepare(rollout_of([one, other]))
        steps = steps._replace(advantage=steps.advantage - steps.advantage.mean())
        found = found + chance * likewise * len(steps.advantage) * -gradient(agent.loss(steps).total, agent.policy)
    wanted = exact_gradient(0, agent) + exact_gradient(1, agent)
    assert (found - wanted).norm() > 0.05 * wanted.norm()


def by_hand(rollout, values, config):
    """Advantages, targets, times and copies of the steps, episode by episode, with numbers only."""
    total, copies = rollout.reward.shape
    episodes = []
    for e in range(copies):
        episode = []
        for t in range(total - 1):
            if rollout.first[t + 1, e]:
                if episode:
                    episodes.append(episode)
                episode = []
                continue
            ended, cut = bool(rollout.terminated[t + 1, e]), bool(rollout.truncated[t + 1, e])
            delta = float(rollout.reward[t + 1, e]) - values[t][e]
            if not ended:
                delta += config.discount * values[t + 1][e]
            episode.append((t, e, delta))
            if ended or cut:
                episodes.append(episode)
                episode = []
        if episode:
            episodes.append(episode)
    found = {}
    for episode in episodes:
        for i, (t, e, _) in enumerate(episode):
            found[t, e] = sum((config.discount * config.decay) ** k * delta for k, (*_, delta) in enumerate(episode[i:]))
    targets = {(t, e): a + values[t][e] for (t, e), a in found.items()}
    if config.baseline == "moving_average":
        found = {place: a - 0.7 for place, a in found.items()}
    elif config.baseline == "leave_one_out":
        others = {e: [a for (_, o), a in found.items() if o != e] for e in range(copies)}
        found = {(t, e): a - (sum(others[e]) / len(others[e]) if others[e] else 0.0) for (t, e), a in found.items()}
    if config.normalise_advantages:
        mean = sum(found.values()) / len(found)
        deviation = (sum((a - mean) ** 2 for a in found.values()) / len(found)) ** 0.5
        found = {place: (a - mean) / (deviation + 1e-8) for place, a in found.items()}
    return found, targets


def odd_rollout(rng, where, total, copies):
    """Flags anywhere: ends without a restart, restarts without an end, both at once."""
    g = torch.Generator().manual_seed(rng.randrange(2**31))

    def flags(chance):
        return torch.rand(total, copies, generator=g) < chance

    action = where.random(total * copies, g).reshape(total, copies, *where.action)
    observation = torch.randn(total, copies, *where.observation, generator=g)
    return Arrival(observation, action, torch.randn(total, copies, generator=g), flags(0.2), flags(0.15), flags(0.15))


@pytest.mark.parametrize("baseline", BASELINES)
def test_rollouts_taken_apart_by_episodes(baseline):
    rng = random.Random(0)
    for case in range(60):
        where = (spaces(), spaces((2, 2), (2, 3), single=False), continuous((), 2))[case % 3]
        config = Config(
            rng.choice(["ppo", "reinforce"]),
            baseline,
            discount=rng.choice([0.0, 0.9, 1.0]),
            decay=rng.choice([0.0, 0.5, 1.0]) if baseline == "value" else None,
            normalise_advantages=rng.choice([True, False]),
            hidden=(4,),
        )
        agent = agent_of(config, where, seed=case).eval()
        rollout = odd_rollout(rng, where, rng.randint(3, 9), rng.randint(2, 4))
        if rollout.first[1:].all():
            continue
        values = [[0.0] * rollout.reward.shape[1]] * len(rollout.reward)
        if agent.value is not None:
            values = agent.value(
                rollout.observation.double().flatten(2) if where.observation else rollout.observation[..., None].double()
            )
            values = values.squeeze(-1).tolist()
        advantage, target = by_hand(rollout, values, agent.config)
        steps = agent.prepare(rollout)
        places = sorted(advantage)  # of one time side by side
        assert len(places) == len(steps.advantage)
        assert torch.allclose(steps.advantage, torch.tensor([advantage[p] for p in places]).double(), atol=1e-6)
        assert torch.allclose(steps.target, torch.tensor([target[p] for p in places]).double(), atol=1e-6)
        for i, (t, e) in enumerate(places):
            assert torch.equal(steps.observation[i], rollout.observation[t, e].double().flatten())
            assert torch.equal(steps.action[i], rollout.action[t + 1, e])
            assert math.isclose(steps.value[i], values[t][e], abs_tol=1e-9)
        law = agent.law(torch.stack([rollout.observation[p] for p in places]))
        assert torch.allclose(steps.log_prob, law.log_prob(steps.action))


def test_nothing_leaks_from_what_is_no_step():
    """Whatever stands where a copy is restarted, and whatever a state is worth where the episode terminated."""
    agent = agent_of(Config("ppo", discount=0.9, hidden=(4,), **PLAIN), spaces()).eval()
    rollout = odd_rollout(random.Random(3), spaces(), 8, 3)
    rollout = rollout._replace(truncated=torch.zeros(8, 3, dtype=torch.bool), first=torch.zeros(8, 3, dtype=torch.bool))
    rollout.terminated[:] = False
    rollout.terminated[3, 1] = rollout.first[4, 1] = True
    wanted = agent.prepare(rollout)
    rollout.reward[4, 1], rollout.observation[3, 1], rollout.action[4, 1] = math.nan, 1e6, 99
    for found, was in zip(agent.prepare(rollout), wanted, strict=True):
        assert torch.equal(found, was)


@pytest.mark.parametrize(
    "where", [spaces(), spaces((3,), (2, 4, 3), single=False), continuous((3,), 2)], ids=["one", "several", "real"]
)
@pytest.mark.parametrize("baseline", BASELINES)
def test_ppo_is_reinforce_where_the_policy_is_the_old_one(where, baseline):
    rollout = odd_rollout(random.Random(1), where, 6, 3)
    gradients = []
    for objective in ("reinforce", "ppo"):
        agent = agent_of(Config(objective, baseline, decay=1.0, normalise_advantages=False), where, spread=0.3).eval()
        loss = agent.loss(agent.prepare(rollout))
        gradients.append(gradient(loss.total, agent))
        assert abs(loss.parts["divergence"]) < 1e-12
    assert torch.allclose(*gradients)
    assert gradients[0].norm() > 0.1


def test_ppo_stops_where_ratios_are_clipped():
    """Away from the old policy, steps whose move has paid enough have no gradient; "clipped" and "divergence" say so."""
    rollout = odd_rollout(random.Random(1), spaces(), 12, 3)
    for clip, moved in ((0.3, True), (0.6, False)):
        agent = agent_of(Config(hidden=(), ratio_clip=clip, baseline="none"), spaces()).eval()
        steps = agent.prepare(rollout)
        better = steps.advantage.sign()
        ratio = 1 + 0.5 * better
        steps = steps._replace(log_prob=steps.log_prob - ratio.log())
        loss = agent.loss(steps)
        assert loss.parts["clipped"] == moved
        assert torch.isclose(loss.parts["divergence"], (ratio - 1 - ratio.log()).mean())
        assert (gradient(loss.total, agent).norm() == 0.0) == moved
        assert gradient(agent.loss(steps._replace(advantage=-steps.advantage)).total, agent).norm() > 0.1


@pytest.mark.parametrize("value_clip", [0.0, 0.1])
def test_terms_of_the_loss(value_clip):
    config = Config(entropy_bonus=0.3, value_weight=2.0, value_clip=value_clip)
    agent = agent_of(config, spaces((3,), (2, 5), single=False), spread=0.4).eval()
    steps = agent.prepare(odd_rollout(random.Random(2), agent.spaces, 9, 2))
    steps = steps._replace(value=steps.value + 0.25)
    loss = agent.loss(steps)
    first, second = (Categorical(logits=part) for part in agent.policy(steps.observation).split((2, 5), -1))
    entropy = (first.entropy() + second.entropy()).mean()  # of independent choices, their sum
    now = agent.value(steps.observation).squeeze(-1)
    clipped = {"old_value": steps.value, "clip": 0.1} if value_clip else {}
    fit = -rp.ppo_value(now, steps.target, **clipped).mean()
    policy = -rp.ppo_clip(first.log_prob(steps.action[:, 0]) + second.log_prob(steps.action[:, 1]), steps.log_prob, steps.advantage)
    for name, term in {"entropy": entropy, "value": fit, "policy": policy.mean()}.items():
        assert torch.isclose(loss.parts[name], term), name
    assert torch.isclose(loss.total, policy.mean() - 0.3 * entropy + 2.0 * fit)
    assert torch.allclose(gradient(loss.total, agent), gradient(policy.mean() - 0.3 * entropy + 2.0 * fit, agent))


def test_minibatches_add_up():
    agent = agent_of(Config(entropy_bonus=0.1), spaces()).eval()
    rollout = odd_rollout(random.Random(4), spaces(), 9, 3)
    steps = agent.prepare(rollout._replace(first=torch.zeros_like(rollout.first)))
    parts = torch.randperm(24, generator=torch.Generator().manual_seed(0)).split(6)
    total = sum(gradient(agent.loss(tuple(t.index_select(0, rows) for t in steps)).total, agent) for rows in parts)
    assert torch.allclose(total / 4, gradient(agent.loss(steps).total, agent))


def test_actions_are_drawn_from_the_policy():
    """Frequencies of 50 000 draws: false alarms once in 1e9 each, and a probability that is off by 0.03 is caught."""
    agent = agent_of(Config(hidden=(4,)), spaces((3,), (2, 3), single=False)).eval()
    observation = torch.tensor([[0.3, -1.0, 0.5]]).expand(50_000, 3)
    first = torch.zeros(50_000, dtype=torch.bool)
    action, carry = agent.act(observation, None, first, rp.Fresh(torch.Generator().manual_seed(0)))
    assert carry is None
    assert not action.requires_grad
    p = [part[0].softmax(-1) for part in agent.policy(observation[:1].double()).split((2, 3), -1)]
    joint = (p[0][:, None] * p[1]).flatten().tolist()
    for i, chance in enumerate(joint):
        verdict = mean_test(action[:, 0] * 3 + action[:, 1] == i, chance)
        assert verdict.detectable < 0.03, verdict
        assert verdict, verdict
    again, _ = agent.act(observation, None, first, rp.Fresh(torch.Generator().manual_seed(0)))
    assert torch.equal(action, again)
    mode, _ = agent.act(observation[:1], None, first[:1], None)
    assert mode.tolist() == [[int(part.argmax()) for part in p]]


def test_gradient_of_continuous_actions():
    """E[-(a - 0.5)²] of a squashed normal: actions at nodes of a quadrature, each with its weight, so without sampling."""
    agent = agent_of(Config("reinforce", "none", hidden=(), discount=0.0), continuous((1,)), spread=0.3).eval()
    nodes = torch.linspace(-9, 9, 2001, dtype=torch.float64)[:, None]
    weight = Normal(0.0, 1.0).log_prob(nodes).exp().squeeze(-1) * 18 / 2000
    loc, scale = agent.head.parameters(agent.policy(torch.ones(1, 1, dtype=torch.float64)))
    action = (loc + scale * nodes).tanh()
    reward = -((action - 0.5) ** 2).squeeze(-1)
    wanted = gradient((weight * reward).sum(), agent.policy)  # along the nodes
    flag = torch.zeros(2, 2001, dtype=torch.bool)
    lived = [torch.stack([torch.zeros_like(tensor), tensor]).detach() for tensor in (action, reward)]
    steps = agent.prepare(Arrival(torch.ones(2, 2001, 1), *lived, flag, flag, flag))
    found = -gradient(agent.loss(steps._replace(advantage=steps.advantage * weight * 2001)).total, agent.policy)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert wanted.abs().min() > 0.01

    drawn, _ = agent.act(
        torch.ones(50_000, 1), None, torch.zeros(50_000, dtype=torch.bool), rp.Fresh(torch.Generator().manual_seed(0))
    )
    eps = ((drawn.double().atanh() - loc) / scale).detach()
    for moment, truth in ((eps, 0.0), (eps**2, 1.0)):  # false alarms once in 1e9 each
        verdict = mean_test(moment, truth)
        assert verdict.detectable < 0.1, verdict
        assert verdict, verdict
    mode, _ = agent.act(torch.ones(1, 1), None, torch.zeros(1, dtype=torch.bool), None)
    assert torch.allclose(mode, loc.tanh())


def test_actions_at_the_ends_keep_their_log_probability_finite():
    agent = agent_of(Config(), continuous(actions=2)).float().eval()
    rollout = odd_rollout(random.Random(5), agent.spaces, 5, 2)
    rollout.action[1:3] = torch.tensor([1.0, -1.0])
    steps = agent.prepare(rollout._replace(first=torch.zeros_like(rollout.first)))
    assert steps.log_prob.isfinite().all()
    loss = agent.loss(steps)
    assert gradient(loss.total, agent).isfinite().all()
    assert loss.parts["divergence"].abs() < 1e-6


def test_observations_are_standardised_between_rollouts():
    """The policy that acted is the one whose probabilities are remembered: the statistics move when that is done."""
    agent = agent_of(Config(), spaces()).train()
    rollout = odd_rollout(random.Random(6), spaces(), 6, 3)
    rollout = rollout._replace(observation=5 * rollout.observation + 20, first=torch.zeros_like(rollout.first))
    plain = agent_of(Config(**PLAIN), spaces()).prepare(rollout._replace(observation=rollout.observation.clamp(-10, 10)))
    steps = agent.prepare(rollout)
    assert torch.allclose(steps.log_prob, plain.log_prob)  # nothing was known yet, but for values ending at 10
    seen = rollout.observation.double().flatten(0, 1)
    mean, deviation = seen.mean(0), seen.std(0, correction=0)
    before = {name: buffer.clone() for name, buffer in agent.named_buffers()}
    again = agent.prepare(rollout)
    assert torch.allclose(again.observation[:3], (rollout.observation[0].double() - mean) / deviation, atol=1e-5)
    assert torch.allclose(agent.law(rollout.observation[:-1].flatten(0, 1)).log_prob(again.action), again.log_prob, atol=0.3)
    assert any(not torch.equal(before[name], buffer) for name, buffer in agent.named_buffers())
    agent.eval()
    before = {name: buffer.clone() for name, buffer in agent.named_buffers()}
    agent.prepare(rollout)
    assert all(torch.equal(before[name], buffer) for name, buffer in agent.named_buffers())
    other = agent_of(Config(), spaces(), seed=9)
    other.load_state_dict(agent.state_dict())
    first = torch.zeros(3, dtype=torch.bool)
    draws = [a.act(rollout.observation[0], None, first, rp.Fresh(torch.Generator().manual_seed(1)))[0] for a in (agent, other)]
    assert torch.equal(*draws)


def test_rewards_are_divided_by_the_spread_of_their_sums():
    agent = agent_of(Config("reinforce", "none", discount=0.9), spaces()).train()
    rollout = odd_rollout(random.Random(7), spaces(), 9, 3)
    plain = agent_of(Config("reinforce", "none", discount=0.9, **PLAIN), spaces()).prepare(rollout).advantage
    assert torch.allclose(agent.prepare(rollout).advantage, plain / plain.std(correction=0), atol=1e-5)
    # Values are learned in those units, and told in the environment's.
    agent = agent_of(Config(discount=0.9), spaces()).train()
    agent.prepare(rollout)
    learned = agent.value(agent.observations.standardise(rollout.observation[0].double())).squeeze(-1)
    assert torch.allclose(agent.values(rollout.observation[0]), learned * plain.std(correction=0), rtol=1e-5)
    assert Reinforce(Config(baseline="none"), spaces()).values(rollout.observation[0]) is None


def test_the_moving_average_is_that_of_rollouts_before():
    agent = Reinforce(Config("reinforce", "moving_average", discount=1.0, **PLAIN), spaces()).train()
    rollout = odd_rollout(random.Random(8), spaces(), 9, 3)
    returns = agent.prepare(rollout).advantage
    assert torch.allclose(agent.average(), returns.mean())
    assert torch.allclose(agent.prepare(rollout).advantage, returns - returns.mean(), atol=1e-6)


@pytest.mark.parametrize(("objective", "baseline"), [("ppo", "value"), *(("reinforce", b) for b in BASELINES)])
def test_a_bandit_is_solved(objective, baseline):
    """Two contexts with a best arm of three each: from chance, 1/3, to a probability above 0.9 of the best in both."""
    config = Config(objective, baseline, rollout=8, hidden=(16,), discount=0.0)
    torch.manual_seed(0)
    agent = Reinforce(config, spaces((2,), (3,))).train()
    adam = torch.optim.Adam(agent.parameters(), 0.02)
    noise, best = torch.Generator().manual_seed(0), torch.tensor([2, 0])
    flag = torch.zeros(9, 8, dtype=torch.bool)
    for _ in range(100 if objective == "reinforce" else 15):
        place = torch.randint(2, (9, 8), generator=noise)
        observation = torch.eye(2)[place]
        action = agent.act(observation.flatten(0, 1), None, flag.flatten(), rp.Fresh(noise))[0].reshape(9, 8)
        reward = torch.zeros(9, 8)
        reward[1:] = (action[:-1] == best[place[:-1]]).float()
        rollout = Arrival(observation, action.roll(1, 0), reward, flag, flag, flag)
        steps = agent.prepare(rollout)
        for _ in range(agent.learns_from.passes):
            adam.zero_grad()
            agent.loss(steps).total.backward()
            adam.step()
    assert (agent.law(torch.eye(2)).probs[torch.arange(2), best] > 0.9).all()


def test_what_training_asks_of_it():
    config = Config(rollout=16, reuse=3, hidden=(8,))
    agent = Reinforce.for_environment(config, spaces())
    assert agent.learns_from == Rollout(16, 3)
    assert agent.monitor.part == "return"
    choices = {
        ("ppo", "value"): (0.95, 10, True),
        ("ppo", "none"): (1.0, 10, True),
        ("reinforce", "value"): (1.0, 1, False),
        ("reinforce", "leave_one_out"): (1.0, 1, False),
    }
    for (objective, baseline), wanted in choices.items():
        made = Reinforce(Config(objective, baseline), spaces())
        assert (made.config.decay, made.learns_from.passes, made.config.normalise_advantages) == wanted
        assert (made.value is not None) == (baseline == "value")
    again = Reinforce.from_record(config, {"spaces": spaces().facts()})
    again.load_state_dict(agent.state_dict())
    assert again.spaces == agent.spaces
    pictures = Spaces((4, 4, 3), "counts", 255, "discrete", (), (2,))
    shown = torch.full((5, 4, 4, 3), 255.0)
    viewer = Reinforce(Config(normalise_observations=False), pictures)
    assert torch.equal(viewer.law(shown).logits, viewer.head(viewer.policy(torch.ones(5, 48))).logits)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"objective": "trpo"}, "objective='trpo': give one of ppo, reinforce"),
        ({"baseline": "mean"}, "give one of value, leave_one_out"),
        ({"activation": "sine"}, "activation"),
        ({"hidden": (8, 0)}, "widths must be positive"),
        ({"discount": 1.1}, "discount=1.1: give a number from 0 to 1"),
        ({"decay": math.nan}, "decay=nan"),
        ({"rollout": 1}, "at least 2 steps"),
        ({"reuse": 0}, "at least 1 pass"),
        ({"ratio_clip": 0.0}, "ratio_clip"),
        ({"value_clip": -1.0}, "value_clip"),
        ({"entropy_bonus": math.inf}, "entropy_bonus"),
        ({"value_weight": math.nan}, "value_weight"),
        ({"objective": "reinforce", "reuse": 2}, "the score function is biased: take objective='ppo', or reuse=1"),
        ({"baseline": "none", "decay": 0.9}, "it wants values to trust"),
    ],
)
def test_settings_that_cannot_be(wrong, match):
    with pytest.raises(BadInputError, match=match):
        Config(**wrong)


def test_rollouts_that_cannot_be():
    agent = Reinforce(Config(baseline="leave_one_out"), spaces())
    rollout = odd_rollout(random.Random(0), spaces(), 5, 1)
    with pytest.raises(BadInputError, match="there is 1: give copies=2 or more"):
        agent.prepare(rollout)
    with pytest.raises(BadInputError, match=r"give T \+ 1 arrivals, at least 2"):
        agent.prepare(Arrival(*(tensor[:1] for tensor in rollout)))
    with pytest.raises(BadInputError, match=r"observations of shape \(3,\)"):
        agent.prepare(rollout._replace(observation=rollout.observation[..., :2]))
