"""An actor and a critic in imagination: returns, gradients and who gets them, and policies against those that are known."""

import copy

import pytest
import torch
from torch import nn

import reparam as rp
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.models.world import Config, World
from reparam.nn.behaviour import Behaviour, constant, lambda_returns
from reparam.nn.state_space import State, StateSpace
from reparam.nn.stochastic import Gaussian


def noise(seed: int = 0) -> rp.Fresh:
    return rp.Fresh(torch.Generator().manual_seed(seed))


class Linear(nn.Module):
    """A world x' = A x + B a whose state is x and the action that led there, without noise."""

    def __init__(self, a, b):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.as_tensor(a)), nn.Parameter(torch.as_tensor(b))

    def join(self, state):
        return torch.cat([state.deterministic, state.stochastic], -1)

    def imagine(self, state, action, source=None):
        return State(state.deterministic @ self.a.T + action @ self.b.T, action)


class Chain(nn.Module):
    """Five places in a row; choice 0 leads to the left and 1 to the right, and the walls hold."""

    PLACES = 5

    def join(self, state):
        return state.deterministic

    def imagine(self, state, action, source=None):
        here = state.deterministic
        left = torch.cat([here[..., :1] + here[..., 1:2], here[..., 2:], torch.zeros_like(here[..., :1])], -1)
        right = torch.cat([torch.zeros_like(here[..., :1]), here[..., :-2], here[..., -2:-1] + here[..., -1:]], -1)
        return State(action[..., :1] * left + action[..., 1:2] * right, state.stochastic)


def imagined(seed: int = 0, dtype=torch.float32, **settings):
    """A behaviour in an untrained state space, with a reward and a probability to go on; and states to begin from."""
    torch.manual_seed(seed)
    space = StateSpace(4, 2, Gaussian(3), deterministic=6, hidden=8).to(dtype)
    reward, goes_on = (
        nn.Sequential(nn.Linear(space.features, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(-2)).to(dtype) for _ in "12"
    )
    behaviour = Behaviour(space.features, (2,), hidden=(8,), activation="tanh", horizon=4, **settings).to(dtype)
    start = State(torch.randn(7, 6, dtype=dtype), torch.randn(7, 3, dtype=dtype))
    return behaviour, space, reward, lambda x: goes_on(x).sigmoid(), [space, reward, goes_on], start


def test_lambda_returns_are_those_of_a_plain_recursion():
    """Exact: in double precision to 1e-12, for continuations of every size; with every derivative by finite differences."""
    generator = torch.Generator().manual_seed(0)
    reward, value, goes_on = (torch.rand(6, 2, generator=generator, dtype=torch.float64) for _ in range(3))
    goes_on[3, 1] = 0.0

    def plain(column: int, t: int, gamma: float, decay: float) -> float:
        r, v, c = (float(tensor[t, column]) for tensor in (reward, value, goes_on))
        later = v if t == 5 else plain(column, t + 1, gamma, decay)
        return r + gamma * c * ((1 - decay) * v + decay * later)

    for gamma, decay in ((0.9, 0.95), (1.0, 1.0), (0.5, 0.0)):
        found = lambda_returns(reward, gamma * goes_on, value, decay)
        wanted = torch.tensor([[plain(column, t, gamma, decay) for column in range(2)] for t in range(6)], dtype=torch.float64)
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)
    inputs = tuple(tensor.requires_grad_() for tensor in (reward, goes_on, value))
    assert torch.autograd.gradcheck(lambda_returns, inputs)


@pytest.mark.parametrize("shapes", [((3,), (3,), (2,)), ((3, 1), (3,), (3,)), ((), (), ()), ((0, 2), (0, 2), (0, 2))])
def test_lambda_returns_refuse_what_would_broadcast(shapes):
    with pytest.raises(ValueError, match="time \\+ rows"):
        lambda_returns(*(torch.ones(shape) for shape in shapes))


@pytest.mark.parametrize("estimator", [rp.Pathwise(), rp.Score()])
def test_gradients_land_where_they_belong(estimator):
    """None in the model; those of the actor are the same without a critic that learns, and the other way round."""
    behaviour, space, reward, goes_on, model, start = imagined(estimator=estimator)
    behaviour.loss(start, space, reward, goes_on, noise(), model=model).total.backward()
    assert all(p.grad is None and p.requires_grad for module in model for p in module.parameters())
    both = {name: p.grad.clone() for name, p in behaviour.named_parameters()}
    assert all(grad.abs().sum() > 0 for grad in both.values())
    for part in ("actor", "critic"):
        behaviour.zero_grad()
        with constant([getattr(behaviour, part)]):
            total = behaviour.loss(start, space, reward, goes_on, noise(), model=model).total
        total.backward()
        for name, p in behaviour.named_parameters():
            assert p.grad is None if name.startswith(part) else torch.equal(p.grad, both[name])


def test_what_the_model_learns_is_not_touched():
    """Its own loss has the same gradient, to the bit, beside that of a behaviour as alone."""
    behaviour, space, reward, goes_on, model, _ = imagined()
    embedded, action = torch.randn(3, 5, 4), torch.randn(3, 5, 2)
    grads = []
    for beside in (False, True):
        space.zero_grad()
        seen = space.observe(embedded, action, torch.zeros(3, 5, dtype=torch.bool), noise())
        loss = space.join(seen.state).square().mean() + torch.distributions.kl_divergence(seen.posterior, seen.prior).mean()
        if beside:
            rows = State(*(part.flatten(0, 1) for part in seen.state))
            loss = loss + behaviour.loss(rows, space, reward, goes_on, noise(1), model=model).total
        loss.backward()
        grads.append([p.grad.clone() for p in space.parameters()])
    assert all(map(torch.equal, *grads))


def test_constant_gives_back_what_it_took():
    layer, frozen = nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    with pytest.raises(ZeroDivisionError), constant([layer, frozen]):
        1 / layer.weight.requires_grad
    assert layer.weight.requires_grad
    assert not frozen.weight.requires_grad
    # Autocast remembers weights in half precision, which must not bring their gradient along.
    x = torch.ones(1, 2, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        before = layer(x)
        with constant([layer]):
            within = layer(x)
        after = layer(x)
    within.sum().backward()
    assert layer.weight.grad is None
    for kept in (before, after):
        kept.sum().backward()
        assert layer.weight.grad.abs().sum() > 0
        layer.zero_grad()


def test_the_pathwise_gradient_is_that_of_finite_differences():
    """In double precision, along three directions of the actor's parameters, to 1e-6; the noise is held, and so is the spread."""
    behaviour, space, reward, _, model, start = imagined(dtype=torch.float64)
    with torch.no_grad():
        reward[2].weight *= 0.2
    lesson = behaviour.loss(start, space, reward, None, noise(), model=model)
    lesson.total.backward()
    assert behaviour._next == 1.0  # the spread of returns so near each other is at its least, and does not move
    parameters = list(behaviour.actor.parameters())
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        along = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
        ends = []
        for step in (1e-5, -1e-5):
            with torch.no_grad():
                for p, v in zip(parameters, along, strict=True):
                    p += step * v
                ends.append(float(behaviour.loss(start, space, reward, None, noise(), model=model).parts["actor"]))
                for p, v in zip(parameters, along, strict=True):
                    p -= step * v
        slope = sum(float((p.grad * v).sum()) for p, v in zip(parameters, along, strict=True))
        assert abs(slope) > 1e-3
        assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope, rel=1e-6)


@pytest.mark.parametrize("horizon", [1, 3])
def test_the_score_gradient_is_that_of_the_path_in_the_mean(horizon):
    """Of 400 000 draws, where episodes may end. Twelve gradients, each within 5 standard errors of its other: a false alarm in 1e5
    times if they are equal; the largest is above 20 errors, so that an error of a quarter of it is caught."""
    space = Linear([[0.9]], [[0.5]])
    grads = []
    for estimator in (rp.Pathwise(), rp.Score()):
        torch.manual_seed(4)
        behaviour = Behaviour(
            2, (1,), hidden=(2,), activation="tanh", horizon=horizon, discount=0.5, decay=1.0, entropy=0.0, estimator=estimator
        )
        each = []
        for seed in range(20):
            behaviour.zero_grad()
            start = State(torch.full((20_000, 1), 0.4), torch.full((20_000, 1), 0.1))
            reward, goes_on = (lambda x: 2 * x[..., 0] + x[..., 0] ** 2), (lambda x: (1 + x[..., 0]).sigmoid())
            behaviour.loss(start, space, reward, goes_on, noise(seed), model=[space]).total.backward()
            each.append(torch.cat([p.grad.flatten() for p in behaviour.actor.parameters()]))
        grads.append(torch.stack(each))
    error = (sum(each.var(0) for each in grads) / 20).sqrt()
    difference = (grads[0].mean(0) - grads[1].mean(0)).abs()
    assert grads[0].mean(0).abs().max() > 20 * error.max()
    assert (difference <= 5 * error + 1e-7).all()


def riccati(a, b, q, r, gamma):
    """P and K of V(x) = -x'Px and a = -Kx, for rewards -(x'' Q x' + a' R a) of the state x' that an action leads to."""
    p = torch.zeros_like(q)
    for _ in range(500):
        s = q + gamma * p
        k = torch.linalg.solve(r + b.T @ s @ b, b.T @ s @ a)
        p = a.T @ s @ (a - b @ k)
    return p, k


def learn(behaviour, space, reward, start, steps, learning_rate):
    adam = torch.optim.Adam(behaviour.parameters())
    for step in range(steps):
        adam.param_groups[0]["lr"] = learning_rate * (1 - step / steps)
        lesson = behaviour.loss(start(step), space, reward, None, noise(step), model=[space])
        adam.zero_grad()
        lesson.total.backward()
        adam.step()
        behaviour.after_step()


def test_a_linear_world_with_quadratic_rewards_is_solved():
    """A double integrator that slips away. The actor comes within 5 % of the least cost there is, on states from all sides, which
    Riccati's equation knows. Returns that are summed over all imagined states, as is usual, end at 25 % above it, since they
    count late rewards several times; a wrong sign anywhere, far beyond."""
    a, b = torch.tensor([[1.05, 0.2], [0.0, 1.0]]), torch.tensor([[0.0], [2.0]])
    q, r, gamma = 10 * torch.eye(2), torch.tensor([[32.0]]), 0.95
    p, k = riccati(a, b, q, r, gamma)
    torch.manual_seed(0)
    space = Linear(a, b)
    behaviour = Behaviour(3, (1,), hidden=(32,), activation="tanh", discount=gamma, entropy=0.0, rate=0.1)
    with torch.no_grad():
        behaviour.actor[-1].bias[1] = -3.0  # actions that vary little from the beginning

    def reward(x):
        return -(x[..., :2] @ q * x[..., :2]).sum(-1) - 32.0 * x[..., 2] ** 2

    def states(seed, rows=32):
        generator = torch.Generator().manual_seed(seed)
        return State(torch.rand(rows, 2, generator=generator) * 0.8 - 0.4, torch.zeros(rows, 1))

    def cost(policy):
        now, total = states(2**31, 200), torch.zeros(200)
        for t in range(150):
            now = space.imagine(now, policy(now))
            total -= gamma**t * reward(space.join(now))
        return total.mean()

    learn(behaviour, space, reward, states, steps=120, learning_rate=2e-2)
    with torch.no_grad():
        x = states(2**31, 200).deterministic
        least = (x @ p * x).sum(-1).mean()
        assert cost(lambda now: -now.deterministic @ k.T) == pytest.approx(float(least), rel=1e-4)
        assert least < cost(lambda now: behaviour.act(space.join(now))) < 1.05 * least


CHOOSERS = [None, rp.ReinMax(), rp.GumbelSoftmax(1.0, hard=True), rp.Score()]


@pytest.mark.parametrize("estimator", CHOOSERS, ids=["straight_through", "reinmax", "st_gumbel", "score"])
def test_choices_find_the_far_end_of_a_chain(estimator):
    """A tenth at the left end, one at the right: the way to the right is best from everywhere, for a discount of 0.8, and its value
    known. The policy is that in all five places, and the critic within 0.3 of values from 2.6 to 5."""
    torch.manual_seed(0)
    behaviour = Behaviour(5, (), (2,), hidden=(16,), horizon=6, discount=0.8, rate=0.2, entropy=1e-3, estimator=estimator)
    pay = torch.tensor([0.1, 0.0, 0.0, 0.0, 1.0])
    start = State(torch.eye(5).repeat(4, 1), torch.zeros(20, 1))
    learn(behaviour, Chain(), lambda x: x @ pay, lambda step: start, steps=120, learning_rate=2e-2)
    with torch.no_grad():
        assert behaviour.act(torch.eye(5)).tolist() == [1] * 5
        assert behaviour.act(torch.eye(5), noise()).dtype == torch.int64
        wanted = 5 * torch.tensor([0.8**3, 0.8**2, 0.8, 1.0, 1.0])
        assert (behaviour.value(torch.eye(5)) - wanted).abs().max() < 0.3


def test_several_choices_at_once_are_joined_one_hots():
    class Record(nn.Module):
        def join(self, state):
            return state.deterministic

        def imagine(self, state, action, source=None):
            assert action.shape == (6, 5)
            assert torch.equal(action[:, :2].sum(-1), torch.ones(6))
            assert torch.equal(action[:, 2:].sum(-1), torch.ones(6))
            return State(state.deterministic + action.sum(-1, keepdim=True) * action[:, 4:], state.stochastic)

    torch.manual_seed(0)
    for estimator in CHOOSERS:
        behaviour = Behaviour(3, (2,), (2, 3), hidden=(8,), horizon=2, estimator=estimator)
        start = State(torch.randn(6, 3), torch.zeros(6, 1))
        total, parts = behaviour.loss(start, Record(), lambda x: x.sum(-1), None, noise())
        total.backward()
        assert all(p.grad.abs().sum() > 0 for p in behaviour.actor.parameters())
        assert parts["entropy"] == pytest.approx(float(torch.tensor(6.0).log()), abs=0.05)
        assert behaviour.act(torch.randn(4, 3)).shape == (4, 2)


@pytest.mark.parametrize("estimator", [rp.Pathwise(), rp.Score()])
def test_the_same_noise_gives_the_same_bits(estimator):
    behaviour, space, reward, goes_on, model, start = imagined(estimator=estimator)
    before = torch.get_rng_state()
    totals = [behaviour.loss(start, space, reward, goes_on, noise(seed), model=model).total for seed in (5, 5, 6)]
    assert torch.equal(totals[0], totals[1])
    assert not torch.equal(totals[0], totals[2])
    assert torch.equal(before, torch.get_rng_state())
    actions = [behaviour.act(torch.ones(3, space.features), noise(seed)) for seed in (5, 5, 6)]
    assert torch.equal(actions[0], actions[1])
    assert not torch.equal(actions[0], actions[2])
    assert torch.equal(behaviour.act(torch.ones(3, space.features)), behaviour.act(torch.ones(3, space.features)))


@pytest.mark.parametrize("loc", [-20.0, 20.0, 100.0])
@pytest.mark.parametrize("estimator", [rp.Pathwise(), rp.Score()])
def test_saturated_actions_stay_finite(estimator, loc):
    behaviour, space, reward, goes_on, model, start = imagined(estimator=estimator, entropy=0.1)
    with torch.no_grad():
        behaviour.actor[-1].bias[:2] = loc
    total, parts = behaviour.loss(start, space, reward, goes_on, noise(), model=model)
    total.backward()
    assert total.isfinite()
    assert all(part.isfinite() for part in parts.values())
    assert all(p.grad.isfinite().all() for p in behaviour.parameters())


def test_states_after_the_end_do_not_count():
    """Where the episode does not go on from the start, nothing is learned; where it ends after a step, only that step is."""
    behaviour, space, reward, _, model, start = imagined()
    over = lambda x: torch.zeros_like(x[..., 0])  # noqa: E731
    behaviour.loss(start, space, reward, over, noise(), model=model).total.backward()
    assert all(p.grad.abs().max() == 0 for p in behaviour.parameters())
    first = lambda x: torch.cat([torch.ones_like(x[:1, ..., 0]), torch.zeros_like(x[1:, ..., 0])])  # noqa: E731
    once = behaviour.loss(start, space, reward, first, noise(), model=model).parts
    short = copy.deepcopy(behaviour)
    short.horizon, short.discount = 1, 0.0
    alone = short.loss(start, space, reward, None, noise(), model=model).parts
    assert once["critic"] * 4 == pytest.approx(float(alone["critic"]), rel=1e-4)


def test_the_spread_of_returns_and_the_slow_critic_follow():
    """Rewards from -100 to 100, evenly: 90 % of them span 180. The first loss sets the spread, the second has 9 of 11 parts."""
    torch.manual_seed(0)
    space = Linear([[1.0]], [[0.0]])
    behaviour = Behaviour(2, (1,), hidden=(4,), horizon=1, discount=0.0, rate=0.5)
    start = State(torch.linspace(-100, 100, 201)[:, None], torch.zeros(201, 1))
    slow = [tensor.clone() for pair in behaviour.slow.layers() for tensor in pair]
    with torch.no_grad():
        for _, bias in behaviour.critic.layers():
            bias += 1.0
    for factor, before, after in ((1.0, 1.0, 180.0), (2.0, 180.0, 2 / 11 * 180 + 9 / 11 * 360)):
        behaviour.loss(start, space, lambda x, factor=factor: factor * x[..., 0], None, noise())
        assert behaviour.spread == pytest.approx(before, rel=1e-5)
        behaviour.after_step()
        assert behaviour.spread == pytest.approx(after, rel=1e-5)
    follows = [tensor for pair in behaviour.slow.layers() for tensor in pair]
    goals = [tensor for pair in behaviour.critic.layers(constant=True) for tensor in pair]
    for old, new, goal in zip(slow, follows, goals, strict=True):
        torch.testing.assert_close(new, old + 0.75 * (goal - old))
    again = Behaviour(2, (1,), hidden=(4,), horizon=1, rate=0.5)
    again.load_state_dict(behaviour.state_dict())
    assert (again.spread, again.updates) == (behaviour.spread, 2)
    assert torch.equal(again.value(torch.ones(2)), behaviour.value(torch.ones(2)))


def test_returns_take_the_slow_critic():
    behaviour, space, reward, goes_on, model, start = imagined()

    def returns():
        return behaviour.loss(start, space, reward, goes_on, noise(), model=model).parts["imagined"]

    before = returns()
    with torch.no_grad():
        behaviour.critic.layers()[-1][1].add_(1.0)
    assert returns() == before
    behaviour.after_step()
    assert returns() > before + 1e-3


def test_a_score_is_weighed_by_what_the_critic_did_not_know():
    """Where every return is 5 and the critic says so, the gradient of the actor is zero: to the bit."""
    behaviour, space, _, _, model, start = imagined(estimator=rp.Score(), entropy=0.0, discount=1.0)
    for tensor in behaviour.slow.layers()[-1]:
        tensor.fill_(5.0 * (tensor.shape[-2] == 1))
    behaviour.loss(start, space, lambda x: 0 * x[..., 0], None, noise(), model=model).total.backward()
    assert all(p.grad.abs().max() == 0 for p in behaviour.actor.parameters())


@pytest.mark.parametrize(
    ("choices", "estimator"), [((), rp.Pathwise()), ((), rp.Score()), ((3,), rp.StraightThrough()), ((3,), rp.Score())]
)
def test_entropy_is_what_it_says_and_is_paid_for(choices, estimator):
    """It is that of the law, within 5 standard errors (a false alarm in 2e6 times) of 100 000 draws. Where nothing else pays, the
    gradient is that of the entropy alone, which a small step along it raises by what it promises, to a tenth."""
    torch.manual_seed(0)
    action = () if choices else (1,)
    behaviour = Behaviour(2, action, choices, hidden=(4,), horizon=1, entropy=1.0, discount=0.0, estimator=estimator)
    with torch.no_grad():
        behaviour.actor[-1].bias.copy_(torch.tensor([0.5, -0.3, 1.0][: behaviour.head.width]))
    space = Linear([[0.9]], [[0.5]])
    space.imagine = lambda state, action, source=None: state
    start = State(torch.full((100_000, 1), 0.4), torch.full((100_000, 1), 0.1))
    here = torch.tensor([0.4, 0.1])

    def exact():
        return behaviour.head(behaviour.actor(here)).entropy().sum()

    lesson = behaviour.loss(start, space, lambda x: 0 * x[..., 0], None, noise(), model=[space])
    before = exact().detach()
    assert lesson.parts["entropy"] == pytest.approx(float(before), abs=1e-5 if choices else 5 * 1.0 / 100_000**0.5)
    actor = list(behaviour.actor.parameters())
    slopes = torch.autograd.grad(lesson.total, actor)
    rise = 1e-2 * sum(float(slope.square().sum()) for slope in slopes)
    with torch.no_grad():
        for p, slope in zip(actor, slopes, strict=True):
            p -= 1e-2 * slope
    assert rise > 1e-4
    assert float(exact().detach() - before) == pytest.approx(rise, rel=0.1)


def test_starts_are_at_equal_distances():
    behaviour, space, reward, _, model, start = imagined(starts=3)
    few = State(*(part[[0, 3, 6]] for part in start))
    some = behaviour.loss(start, space, reward, None, noise(), model=model).total
    behaviour.starts = 0
    assert torch.equal(some, behaviour.loss(few, space, reward, None, noise(), model=model).total)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"choices": (3,), "action": (), "estimator": rp.Pathwise()}, "choices, through which Pathwise"),
        ({"choices": (3,), "action": (), "estimator": rp.LeaveOneOut()}, "choices, through which LeaveOneOut"),
        ({"choices": (3,), "action": (), "estimator": rp.Enumerate()}, "choices, through which Enumerate"),
        ({"estimator": rp.StraightThrough()}, "continuous"),
        ({"estimator": rp.Score(1.0)}, "the critic"),
        ({"action": (2, 2)}, "vectors"),
        ({"horizon": 0}, "horizon=0"),
        ({"discount": 1.5}, "discount=1.5"),
        ({"decay": -0.1}, "decay=-0.1"),
        ({"entropy": -1.0}, "entropy=-1.0"),
        ({"rate": 0.0}, "rate of 0.0"),
    ],
)
def test_what_cannot_be_is_refused(settings, says):
    settings = {"action": (2,), **settings}
    before = torch.get_rng_state()
    with pytest.raises(BadInputError, match=says):
        Behaviour(3, settings.pop("action"), **settings)
    if "estimator" in settings:
        assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("choices", "name", "says"), [((2,), "pathwise", "choices, give one of str"), ((), "reinmax", "reals, give one of path")]
)
def test_worlds_refuse_estimators_by_the_names_of_settings(choices, name, says):
    action = () if choices else (1,)
    kind, bounds = ("discrete", ()) if choices else ("continuous", (1.0,))
    spaces = Spaces((3,), "real", None, kind, action, choices, tuple(-b for b in bounds), bounds)
    with pytest.raises(BadInputError, match=f"actor_gradient='{name}': actions are {says}"):
        World.for_environment(Config(actor_gradient=name), spaces)
