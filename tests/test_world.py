"""The world model against sequences whose likelihood is known, and every cell of its settings.

Known are: a linear model without memory, made of the same modules, whose posterior is exact; one of choices, whose paths are few
enough to be enumerated; a hidden Markov chain, by the forward algorithm; and an autoregression seen through noise, by the Kalman
filter.
"""

import copy
import itertools
import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

import reparam as rp
from reparam.data import from_tensor
from reparam.environments.copies import Arrival
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.models.world import Config, Layout, Sequences, World
from reparam.nn.actions import Actions
from reparam.nn.behaviour import Lesson
from reparam.noise import Antithetic, Fresh, Sobol
from reparam.stats import mean_test
from reparam.training import Run, Training, fit

# Without the moving average of a fitted scale a loss can be asked for twice.
SMALL = {"latent_dim": 3, "categories": 4, "deterministic": 8, "hidden": (8,), "scale": "learned"}


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def world_of(config, layout, spaces=None):
    """A world far from where training begins: divergences and slopes are of the order of one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        world = World(config, layout, spaces)
        with torch.no_grad():
            for p in world.parameters():
                p.mul_(2).add_(0.3 * torch.randn(p.shape))
    return world


def batch_of(x, *, action=None, reward=None, terminated=None, begins=(0,), mask=None):
    rows = x.shape[:2]
    first = torch.zeros(rows, dtype=torch.bool)
    first[:, list(begins)] = True
    return Sequences(
        x,
        torch.zeros(*rows, 0) if action is None else action,
        torch.zeros(rows) if reward is None else reward,
        first,
        torch.zeros_like(first) if terminated is None else terminated,
        torch.ones_like(first) if mask is None else mask,
    )


def everything(rows=4, steps=6, values="real", seed=0):
    """A layout with all that there is, and a batch of it."""
    g = generator(seed)
    layout = Layout((3,), values, {"real": None, "binary": 1, "counts": 5}[values], (), (4,), True, True)
    x = torch.randn(rows, steps, 3, generator=g)
    if values != "real":
        x = torch.randint(layout.levels + 1, (rows, steps, 3), generator=g).float()
    terminated = torch.zeros(rows, steps, dtype=torch.bool)
    terminated[::2, -1] = True
    action = torch.randint(4, (rows, steps), generator=g)
    return layout, batch_of(x, action=action, reward=torch.randn(rows, steps, generator=g), terminated=terminated)


def part(batch, rows=slice(None), steps=slice(None)):
    return Sequences(*(tensor[rows, steps] for tensor in batch))


# A linear model: z ~ N(0, 1) at each step, x = w z + noise.


W, SIGMA = 1.5, 0.6


def linear():
    """A world whose layers are set so that its prior is standard normal, and its posterior exact: halves of x pass as relu(±x)."""
    world = world_of(Config(latent_dim=1, deterministic=2, hidden=(2,), activation="relu"), Layout((1,), "real")).double()
    halves, eye = torch.tensor([[1.0], [-1.0]]), torch.eye(2)
    precision = 1 + (W / SIGMA) ** 2
    raw = lambda scale: math.log(math.expm1(scale - 0.1))  # noqa: E731
    with torch.no_grad():
        for p in world.parameters():
            p.zero_()
        enter, leave = (layer for layer in world.encoder if isinstance(layer, torch.nn.Linear))
        enter.weight.copy_(halves)
        leave.weight.copy_(eye)
        space = world.space
        space.from_datum.weight.copy_(eye)
        space.to_posterior.weight[0].copy_(torch.tensor([1.0, -1.0]) * W / SIGMA**2 / precision)
        space.to_posterior.bias[1] = raw(precision**-0.5)
        space.to_prior[-1].bias[1] = raw(1.0)
        up, down = (layer for layer in world.decoder if isinstance(layer, torch.nn.Linear))
        up.weight[:, 2:] = halves
        down.weight.copy_(torch.tensor([[W, -W]]))
        world.likelihood.log_var.fill_(math.log(SIGMA**2 - 1e-6))
    return world


def test_the_bound_of_a_linear_model_is_its_likelihood():
    """With the exact posterior every sample gives log p(x), and the mean of the one-sample terms is the ELBO = log p(x)."""
    world, x = linear().eval(), 2 * torch.randn(5, 7, 1, generator=generator(), dtype=torch.float64)
    exact = Normal(0.0, math.sqrt(W**2 + SIGMA**2)).log_prob(x).sum((1, 2))
    for k in (1, 3):
        _, bound = world.bounds(batch_of(x), k, fresh())
        assert torch.allclose(bound, exact)
    terms, _ = world.bounds(batch_of(x[:1].expand(500, -1, -1)), 40, fresh(1))
    assert mean_test(terms["elbo"], float(exact[0]))  # an alarm once in 10^9


def test_the_bound_is_in_units_of_the_data():
    """log p(10 x + 3) = log p(x) - log 10, at each step of each column, with the same weights and scaling of their own."""
    x = torch.randn(20, 5, 2, generator=generator()).cumsum(1)
    worlds = [World.for_data(Config(**SMALL), from_tensor(y.numpy(), layout="sequence")) for y in (x, 10 * x + 3)]
    worlds[1].load_state_dict({k: v for k, v in worlds[0].state_dict().items() if "likelihood" not in k}, strict=False)
    a, b = (float(w.eval().loss(batch_of(y), fresh()).parts["elbo"]) for w, y in zip(worlds, (x, 10 * x + 3), strict=True))
    assert math.isclose(a - 2 * math.log(10), b, abs_tol=1e-4)


# A model of two choices, enumerated.


def enumerated(world, batch):
    """log q(z), log p(x, z) and the terms of the divergence, of every path z of one sequence."""
    steps = batch.mask.shape[1]
    values = torch.eye(2, dtype=torch.float64)
    found = []
    for path in itertools.product(range(2), repeat=steps):
        z = values[list(path)].reshape(1, steps, 1, 2)
        now, rows = world.space.start(1), []
        embedded = world.embed(batch.observation)
        for t in range(steps):
            h = world.space.advance(now, torch.zeros(1, 0))
            q, p = world.space.posterior(h, embedded[:, t]), world.space.prior(h)
            now = type(now)(h, z[:, t])
            log_x = world.likelihood(world._outputs(world.space.join(now)[:, None])).log_prob(batch.observation[:, t : t + 1])
            rows.append(torch.stack([q.log_prob(z[:, t]), p.log_prob(z[:, t]), log_x[:, 0], kl_divergence(q, p)]))
        found.append(torch.stack(rows)[..., 0])
    return torch.stack(found).unbind(-1)  # each paths x steps


def two_choices(**settings):
    config = Config(
        latent="categorical", latent_dim=1, categories=2, deterministic=3, hidden=(4,), unimix=0.0, scale="learned", **settings
    )
    return world_of(config, Layout((2,), "real")).double(), batch_of(torch.randn(1, 3, 2, generator=generator(3)).double())


def test_the_bound_of_choices_against_all_their_paths():
    """The ELBO and its importance-weighted relatives: alarms once in 10^9, errors of 0.05 nats in 1.5 are caught as surely."""
    world, batch = two_choices()
    log_q, log_p, log_x, kl = enumerated(world, batch)
    q = log_q.sum(1).exp()
    assert torch.allclose(q.sum(), torch.ones((), dtype=torch.float64))
    elbo, exact = (q * (log_x - kl).sum(1)).sum().item(), (log_p + log_x).sum(1).logsumexp(0).item()
    assert exact - elbo > 0.02
    many = Sequences(*(tensor.expand(20_000, *tensor.shape[1:]) for tensor in batch))
    terms, bound = world.bounds(many, 1, fresh())
    assert mean_test(terms["elbo"], elbo)
    assert mean_test(bound, elbo)
    ratio = (log_p + log_x - log_q).sum(1)
    pairs = (q[:, None] * q) * (torch.logaddexp(ratio[:, None], ratio) - math.log(2))
    assert elbo < pairs.sum().item() < exact
    assert mean_test(world.bounds(many, 2, fresh(1))[1], pairs.sum().item())
    assert abs(world.bounds(batch, 200_000, fresh(2))[1].item() - exact) < 0.02


@pytest.mark.parametrize("estimator", ["leave_one_out"])
def test_the_score_function_is_unbiased_over_paths(estimator):
    """Against the gradient of the enumerated bound, along ten random directions: an alarm once in 10^8."""
    world, batch = two_choices(estimator=estimator)
    log_q, _, log_x, kl = enumerated(world, batch)
    named = [p for name, p in world.named_parameters() if "space" in name or "encoder" in name]
    ways = [[torch.randn(p.shape, generator=generator(i)).double() for p in named] for i in range(10)]

    def along(loss):
        slopes = torch.autograd.grad(loss, named, allow_unused=True)
        return torch.stack([sum((s * w).sum() for s, w in zip(slopes, way, strict=True) if s is not None) for way in ways])

    exact = along(-(log_q.sum(1).exp() * (log_x - kl).sum(1)).sum() / 3)
    many = Sequences(*(tensor.expand(1000, *tensor.shape[1:]) for tensor in batch))
    found = torch.stack([along(world.loss(many, fresh(i)).total) for i in range(40)])
    for column, wanted in zip(found.T, exact, strict=True):
        verdict = mean_test(column, wanted.item())
        assert verdict
        assert verdict.detectable < 0.5 * exact.abs().max()


# Sequences that are longer, shorter, joined or lack something.


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
@pytest.mark.parametrize("values", ["real", "binary", "counts"])
def test_masked_steps_count_nowhere(latent, values):
    layout, batch = everything(values=values)
    world = world_of(Config(latent=latent, **SMALL), layout)
    mask = torch.arange(6) < torch.tensor([6, 4, 2, 1])[:, None]
    garbage = []
    for fill in (0, 77):
        other = Sequences(*(t.clone() for t in batch))._replace(mask=mask)
        for tensor in (other.observation, other.reward, other.action):
            tensor[~mask] = 3 * fill
        other.terminated[~mask] = bool(fill)
        garbage.append(other)
    garbage[1].action[~mask] = -1
    losses = [world.loss(other, fresh()) for other in garbage]
    assert losses[0].total == losses[1].total
    assert losses[0].parts == losses[1].parts
    losses[1].total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in world.parameters())
    bounds = [world.bounds(other, 2, fresh()) for other in garbage]
    assert torch.equal(bounds[0][1], bounds[1][1])
    # Each sequence is as if it were alone and cut: to rounding, and with the mean posterior in place of noise of other shapes.
    assert torch.equal(world.surprise(garbage[1], fresh())[~mask], torch.zeros(int((~mask).sum())))


def test_a_shorter_sequence_is_one_that_is_cut():
    layout, batch = everything()
    world = world_of(Config(**SMALL), layout).eval()
    mask = torch.arange(6) < 4
    hidden = batch._replace(mask=mask.expand(4, 6))
    noise = Fresh(generator())
    a = world.bounds(hidden, 1, noise)[0]
    b = world.bounds(part(batch, steps=slice(0, 4)), 1, fresh())[0]
    for name in a:  # noise of the first steps is drawn first
        assert torch.allclose(a[name], b[name], atol=1e-4), name


def test_two_episodes_in_a_sequence_cost_what_they_cost_alone():
    layout, batch = everything()
    world = world_of(Config(**SMALL), layout).eval()
    both = batch._replace(first=(torch.arange(6) % 4 == 0).expand(4, 6))
    terms, bound = world.bounds(both, 1, fresh())
    source = fresh()
    parts = [world.bounds(part(both, steps=steps), 1, source) for steps in (slice(0, 4), slice(4, 6))]
    assert torch.allclose(bound, parts[0][1] + parts[1][1], atol=1e-4)
    for name, term in terms.items():
        assert torch.allclose(term, parts[0][0][name] + parts[1][0][name], atol=1e-4), name
    # The loss is a mean of steps.
    source = fresh()
    one, two = (float(world.loss(part(both, steps=steps), source).parts["elbo"]) for steps in (slice(0, 4), slice(4, 6)))
    assert math.isclose(world.loss(both, fresh()).parts["elbo"] * 6, one * 4 + two * 2, rel_tol=1e-4)


def test_rewards_that_are_not_known_count_nowhere():
    layout, batch = everything()
    world = world_of(Config(**SMALL), layout)
    known = torch.rand(4, 6, generator=generator(5)) < 0.5
    some = batch._replace(reward=torch.where(known, batch.reward, math.nan))
    counted = known & ~batch.first
    loss = world.loss(some, fresh())
    loss.total.backward()
    assert all(p.grad.isfinite().all() for p in world.parameters())
    seen = world.observed(some, fresh(), 1, learns=False)
    mean = world.mean_reward(world.space.join(seen.state))
    sigma = world.reward_likelihood(torch.zeros(1)).stddev
    by_hand = Normal(mean, sigma).log_prob(batch.reward)[counted].sum() / 24
    assert torch.allclose(loss.parts["reward"], by_hand.detach())
    other = some._replace(reward=torch.where(batch.first, 1e3, some.reward))  # where an episode begins, none was got
    assert world.loss(other, fresh()).total == loss.total.detach()
    none = batch._replace(reward=torch.full_like(batch.reward, math.nan))
    assert world.loss(none, fresh()).parts["reward"] == 0


# What divergences cost.


def gradients(world, loss):
    named = [(n, p) for n, p in world.named_parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [p for _, p in named], allow_unused=True)
    return {n: torch.zeros_like(p) if g is None else g for (n, p), g in zip(named, found, strict=True)}


@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
def test_balanced_divergences_have_the_gradient_written_by_hand(latent):
    layout, batch = everything()
    plain = world_of(Config(latent=latent, **SMALL), layout)
    balanced = world_of(Config(latent=latent, dynamics=0.8, representation=0.2, **SMALL), layout)
    seen = balanced.observed(batch, fresh(), 1, learns=True)
    q, p = seen.posterior, seen.prior
    by_hand = -balanced.terms(seen.state, batch).total().sum()
    by_hand = by_hand + 0.8 * kl_divergence(rp.detached(q), p).sum() + 0.2 * kl_divergence(q, rp.detached(p)).sum()
    a, b = gradients(balanced, by_hand / 24), gradients(balanced, balanced.loss(batch, fresh()).total)
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in a)
    assert balanced.loss(batch, fresh()).parts == plain.loss(batch, fresh()).parts
    c = gradients(plain, plain.loss(batch, fresh()).total)
    assert not torch.allclose(b["space.to_posterior.weight"], c["space.to_posterior.weight"], atol=1e-3)


def test_the_plain_bound_is_what_equal_weights_descend():
    layout, batch = everything()
    world = world_of(Config(**SMALL), layout)
    loss = world.loss(batch, fresh())
    assert torch.equal(loss.total.detach(), -loss.parts["elbo"])
    # The two terms of balancing, with weight 1 each, have its gradient together.
    almost = world_of(Config(dynamics=1.0, representation=1.0 + 1e-7, **SMALL), layout)
    a, b = gradients(world, loss.total), gradients(almost, almost.loss(batch, fresh()).total)
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


def test_a_score_weighs_balanced_divergences_as_the_bound_does():
    """Equal weights and all but equal ones are the same gradient, also through the probabilities of the samples."""
    layout, batch = everything()
    config = {"latent": "categorical", "estimator": "leave_one_out", **SMALL}
    world, almost = (world_of(Config(representation=weight, **config), layout) for weight in (1.0, 1.0 + 1e-7))
    a, b = (gradients(each, each.loss(batch, fresh()).total) for each in (world, almost))
    assert a["space.to_posterior.weight"].abs().max() > 0.01
    assert all(torch.allclose(a[name], b[name], atol=1e-5) for name in a)


def test_free_nats_are_not_charged_and_have_no_gradient():
    layout, batch = everything()
    free = world_of(Config(free_bits=500.0, **SMALL), layout)
    loss = free.loss(batch, fresh())
    assert torch.allclose(loss.total.detach(), 500.0 - loss.parts["elbo"] - loss.parts["kl"])
    assert gradients(free, loss.total)["space.to_prior.0.weight"].abs().max() == 0
    # Steps above pay in full.
    world = world_of(Config(**SMALL), layout)
    kl = world.surprise(batch, fresh())
    edge = float(kl.median())
    some = world_of(Config(free_bits=edge, **SMALL), layout)
    loss = some.loss(batch, fresh())
    assert torch.allclose(loss.total.detach() + loss.parts["elbo"] + loss.parts["kl"], kl.clamp(min=edge).mean())


def test_a_fitted_scale_is_that_of_the_residuals():
    """A moving average of the logarithm of their mean square, over what is there; what is not trained changes nothing."""
    layout, batch = everything()
    batch = batch._replace(mask=(torch.arange(6) < 5).expand(4, 6), reward=torch.where(batch.first, math.nan, batch.reward))
    world = world_of(Config(**SMALL | {"scale": "fitted"}), layout)
    assert not any("log_var" in name for name, _ in world.named_parameters())
    with torch.no_grad():
        seen = world.observed(world.read(batch), fresh(), 1, learns=False)
        features = world.space.join(seen.state)[:, :5]
        square = (world.decoder(features) - batch.observation[:, :5]).square().mean((0, 1))
        reward = (world.reward(features)[:, 1:, 0] - batch.reward[:, 1:5]).square().mean()
    start = [likelihood.log_var.clone() for likelihood in (world.likelihood, world.reward_likelihood)]
    world.eval().loss(batch, fresh())
    with torch.no_grad():
        world.train().loss(batch, fresh())
    assert torch.equal(world.likelihood.log_var, start[0])
    world.loss(batch, fresh()).total.backward()
    assert torch.allclose(world.likelihood.log_var, 0.95 * start[0] + 0.05 * square.log(), atol=1e-5)
    assert torch.allclose(world.reward_likelihood.log_var, 0.95 * start[1] + 0.05 * reward.log(), atol=1e-5)
    one = World(Config(**SMALL | {"scale": "one"}), layout)
    one.loss(batch, fresh()).total.backward()
    assert one.likelihood.log_var.abs().max() == 0


# Every estimator and noise.


@pytest.mark.parametrize(
    ("latent", "estimator"),
    [
        ("gaussian", "pathwise"),
        ("gaussian", "leave_one_out"),
        *(("categorical", name) for name in ("straight_through", "st_gumbel", "gumbel_softmax", "gumbel_rao", "reinmax")),
        ("categorical", "leave_one_out"),
    ],
)
@pytest.mark.parametrize("noise", ["fresh", "antithetic", "sobol"])
def test_every_estimator_with_every_noise(latent, estimator, noise):
    layout, batch = everything()
    world = world_of(Config(latent=latent, estimator=estimator, **SMALL), layout)
    source = {"fresh": fresh, "antithetic": lambda: Antithetic(fresh()), "sobol": lambda: Sobol(1)}[noise]
    if estimator == "leave_one_out" and noise != "fresh":
        with pytest.raises(BadInputError, match="leave_one_out"):
            world.loss(batch, source())
        return
    losses = [world.loss(batch, source()) for _ in range(2)]
    assert losses[0].total == losses[1].total
    assert losses[0].parts == losses[1].parts
    losses[0].total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in world.parameters())
    assert ("relaxed_elbo" in losses[0].parts) == (estimator == "gumbel_softmax")
    names = ["elbo", "reconstruction", "reward", "continuation", "kl"]
    parts = losses[0].parts
    assert [name for name in parts if name != "relaxed_elbo"] == names
    assert math.isclose(parts["elbo"], sum(float(parts[name]) for name in names[1:4]) - float(parts["kl"]), rel_tol=1e-4)


def test_a_temperature_falls_with_the_steps_of_training():
    layout, batch = everything()
    config = Config(latent="categorical", estimator="st_gumbel", temperature=2.0, temperature_rate=0.1, **SMALL)
    world = world_of(config, layout)
    for _ in range(3):
        world.loss(batch)
    assert math.isclose(world.gradient.temperature, 2 * math.exp(-0.3))
    again = world_of(config, layout)
    again.load_state_dict(world.state_dict())
    assert again.gradient.temperature == world.gradient.temperature
    world.eval().loss(batch)
    assert math.isclose(world.gradient.temperature, 2 * math.exp(-0.3))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"latent": "normal"}, "latent"),
        ({"estimator": "disarm"}, "does not serve"),
        ({"latent": "categorical", "estimator": "pathwise"}, "does not serve"),
        ({"latent": "gaussian", "estimator": "reinmax"}, "does not serve"),
        ({"estimator": "leave_one_out", "samples": 1}, "at least 2"),
        ({"latent_dim": 0}, "positive"),
        ({"hidden": ()}, "at least one hidden"),
        ({"categories": 1}, "at least 2"),
        ({"unimix": 1.0}, "share"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature_rate": 1.0, "temperature_floor": 2.0}, "falls"),
        ({"free_bits": -1.0}, "not negative"),
        ({"representation": math.nan}, "finite"),
        ({"horizon": 0}, "horizon"),
        ({"discount": 1.5}, "discount"),
        ({"updates": 0.0}, "updates"),
        ({"sequence_length": 1}, "sequence_length"),
        ({"actor_hidden": (0,)}, "actor_hidden"),
        ({"actor_gradient": "arm"}, "actor_gradient"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, match):
    with pytest.raises(BadInputError, match=match):
        Config(**settings)


def test_likelihoods_that_do_not_fit_the_values_are_refused():
    for values, levels, name in (("real", None, "bernoulli"), ("counts", 5, "bernoulli"), ("real", None, "binomial")):
        with pytest.raises(BadInputError, match="likelihood"):
            World(Config(likelihood=name), Layout((2,), values, levels))


def test_batches_that_do_not_fit_are_refused():
    layout, batch = everything()
    world = world_of(Config(**SMALL), layout)
    for wrong in (batch.observation, batch[:3], batch._replace(reward=batch.reward[:, 1:]), part(batch, steps=slice(0, 0))):
        with pytest.raises(ValueError, match="batch"):
            world.loss(wrong)
    binary = world_of(Config(**SMALL), everything(values="binary")[0])
    with pytest.raises(ValueError, match="0 and 1"):
        binary.loss(batch)
    for context in (0, 6):
        with pytest.raises(BadInputError, match="context"):
            world.open_loop(batch, context)
    with pytest.raises(BadInputError, match="length"):
        world.sample(2, length=0)
    with pytest.raises(BadInputError, match="no actor"):
        world.act(batch.observation[:, 0], None, batch.first[:, 0])
    with pytest.raises(BadInputError, match="sequences"):
        World.for_data(Config(), from_tensor(torch.randn(5, 3)))


# What is imagined, sampled and told.


def test_open_loop_sees_the_context_only():
    layout, batch = everything()
    world = world_of(Config(**SMALL), layout)
    seen = world.open_loop(batch, 2, samples=3, source=fresh())
    assert seen.reconstruction.shape == (4, 6, 3)
    assert seen.imagined.shape == (3, 4, 4, 3)
    assert seen.reward.shape == (3, 4, 4)
    later = batch._replace(observation=torch.where((torch.arange(6) < 2)[:, None], batch.observation, 9.0))
    blind = world.open_loop(later, 2, samples=3, source=fresh())
    assert torch.equal(blind.imagined, seen.imagined)
    assert torch.equal(blind.reward, seen.reward)
    assert torch.equal(blind.reconstruction[:, :2], seen.reconstruction[:, :2])
    other = batch._replace(action=torch.where(torch.arange(6) < 4, batch.action, 3 - batch.action))
    moved = world.open_loop(other, 2, samples=3, source=fresh()).imagined
    assert torch.equal(moved[:, :, :2], seen.imagined[:, :, :2])
    assert not torch.equal(moved[:, :, 2:], seen.imagined[:, :, 2:])


def test_open_loop_is_the_prior_step_by_step():
    """The mean of many samples two steps ahead, against a loop of `imagine`: an alarm once in 10^9."""
    layout, batch = everything(rows=1)
    world = world_of(Config(**SMALL), layout)
    imagined = world.open_loop(batch, 3, samples=20_000, source=fresh()).imagined[:, 0, 1, 0]
    seen = world.observed(batch, fresh(1), 20_000, learns=False)
    now = type(seen.state)(*(p[:, 2] for p in seen.state))
    for t in (3, 4):
        now = world.space.imagine(now, world.actions(batch.action[:, t]).expand(20_000, -1), fresh(t))
    loop = world._mean(type(now)(*(p[:, None] for p in now)))[:, 0, 0].detach()
    verdict = mean_test(imagined - loop, 0.0)
    assert verdict
    assert verdict.detectable < 0.15 * imagined.std()


@pytest.mark.parametrize("values", ["real", "binary", "counts"])
def test_samples_are_in_the_units_of_the_data(values):
    layout, _ = everything(values=values)
    world = world_of(Config(**SMALL), layout)
    a, b = (world.sample(5, fresh(), length=4) for _ in range(2))
    assert torch.equal(a, b)
    assert a.shape == (5, 4, 3)
    noisy = world.sample(50, fresh(), length=4, noisy=True)
    if values != "real":
        assert set(noisy.flatten().tolist()) <= set(range(layout.levels + 1))
        assert 0 <= a.min() <= a.max() <= layout.levels
    assert world.sample(2).shape == (2, world.config.sequence_length, 3)


def test_errors_by_horizon_are_those_of_what_is_imagined():
    layout, batch = everything(rows=5)
    world = world_of(Config(**SMALL), layout)
    first = batch.first.clone()
    first[0, 4] = True  # another episode: what comes then cannot be told
    mask = torch.ones_like(first)
    mask[1, 5:] = False
    batch = batch._replace(first=first, mask=mask)
    found = world.evaluate(tuple(batch), k=2, source=fresh(), batch_size=10)
    source = fresh()
    terms, bound = world.bounds(batch, 2, source)
    steps = 29
    assert found.steps == steps
    assert math.isclose(found.elbo, terms["elbo"].sum() / steps, rel_tol=1e-5)
    assert math.isclose(found.sequence_elbo, terms["elbo"].mean(), rel_tol=1e-5)
    assert math.isclose(found.bound, bound.sum() / steps, rel_tol=1e-5)
    guess = world.open_loop(batch, 3, source=source).imagined.mean(0)
    there = torch.ones(5, 3, dtype=torch.bool)
    there[0, 1:], there[1, 2:] = False, False
    x = batch.observation
    guesses = {"error": guess, "error_last": x[:, 2:3], "error_mean": x[mask].mean(0)}
    for name, guessed in guesses.items():
        square = (x[:, 3:] - guessed).square().mean(-1)
        wanted = [square[there[:, t], t].mean().sqrt() for t in range(3)]
        assert torch.allclose(torch.tensor(getattr(found, name)), torch.stack(wanted), rtol=1e-4), name
    assert world.training
    assert len(found.lines()) == 5
    assert len(found.tiles()) == 5
    with pytest.raises(BadInputError, match="at least one"):
        world.evaluate(tuple(batch), k=0)


def test_errors_are_in_the_units_that_they_say():
    for values, wanted in {"binary": "probability", "counts": "counts"}.items():
        layout, batch = everything(values=values)
        found = world_of(Config(**SMALL), layout).evaluate(tuple(batch), k=1, source=fresh())
        x = batch.observation
        assert found.unit == wanted
        assert math.isclose(found.error_last[0], (x[:, 3] - x[:, 2]).square().mean().sqrt(), rel_tol=1e-5)
        assert f"error in {wanted} " in "\n".join(found.lines())
    layout, batch = everything(values="counts")
    world = world_of(Config(likelihood="gaussian", **SMALL), layout)
    world.likelihood.scale.fill_(2.0)
    found = world.evaluate(tuple(batch), k=1, source=fresh())
    assert found.unit == "standard deviations of the data"
    last = (batch.observation[:, 3] - batch.observation[:, 2]) / 2
    assert math.isclose(found.error_last[0], last.square().mean().sqrt(), rel_tol=1e-5)


def test_data_with_less_or_more_than_a_model_knows():
    """No reward is not a reward of 0; and a choice that was never learned of is no other choice."""
    x, action, reward = torch.randn(3, 6, 2), torch.arange(18).reshape(3, 6) % 3, 50 + torch.randn(3, 6)
    full = from_tensor(x, layout="sequence", beside={"action": action, "reward": reward}, actions="led")
    world = World.for_data(Config(**SMALL), full)
    less = from_tensor(x, layout="sequence", beside={"action": action}, actions="led")
    found = world.evaluate(world.inputs(less), k=1, source=fresh())
    assert found.reward is None
    assert math.isclose(found.elbo, found.reconstruction - found.kl, rel_tol=1e-5)
    assert world.evaluate(world.inputs(full), k=1, source=fresh()).reward < -1
    for beside, match in (({"action": action + 1}, "choices of 4, and"), ({}, "no choices")):
        with pytest.raises(ValueError, match=match):
            world.inputs(from_tensor(x, layout="sequence", beside=beside, actions="led"))


def test_sequences_in_double():
    for choices in ((), (4,)):
        layout = Layout((2,), "real", None, () if choices else (1,), choices)
        assert world_of(Config(**SMALL), layout).double().sample(3, length=2).dtype == torch.float64
        assert world_of(Config(**SMALL), layout).double().sample(3, length=1).shape == (3, 1, 2)


def test_actions_follow_each_other_as_they_were_recorded():
    """Mean, deviation and correlation of numbers, transitions of choices: each within five standard errors, or 0.05."""
    g = generator()
    x, rows = torch.zeros(200, 100, 1), [torch.randn(200, generator=g)]
    for _ in range(99):
        rows.append(0.8 * rows[-1] + 0.6 * torch.randn(200, generator=g))
    x = 2 + 3 * torch.stack(rows, 1)[..., None]
    first = torch.zeros(200, 100, dtype=torch.bool)
    first[:, 0] = True
    x[:, 0] = 0  # no action there
    actions = Actions((1,))
    actions.fit(x, first, torch.ones_like(first))
    assert abs(actions.correlation - 0.8) < 0.02
    code = actions(x)[:, 1:]
    assert abs(code.mean()) < 1e-4
    assert abs(code.std() - 1) < 1e-3
    drawn = actions.sample(400, 50, fresh())
    assert abs(drawn.mean() - 2) < 0.35
    assert abs(drawn.std() - 3) < 0.3
    centred = drawn[..., 0] - 2
    assert abs((centred[:, 1:] * centred[:, :-1]).mean() / 9 - 0.8) < 0.1
    assert x.min() <= drawn.min() <= drawn.max() <= x.max()
    # Before an episode that begins in the middle there is none that the first of its actions follows.
    third = first.clone()
    third[:, ::3] = True
    actions.fit(x.masked_fill(third[..., None], 100.0), third, torch.ones_like(first))
    assert abs(actions.correlation - 0.8) < 0.03
    steps = (torch.arange(100) + torch.arange(200)[:, None]) % 3
    choices = Actions((), (3,))
    choices.fit(steps, first, torch.ones_like(first))
    follow = choices.sample(300, 20, fresh())
    assert ((follow[:, 1:] - follow[:, :-1]) % 3 == 1).float().mean() > 0.99
    pair = Actions((2,), (3, 2))
    pair.fit(torch.stack([steps, steps % 2], -1), first, torch.ones_like(first))
    assert pair.width == 5
    assert pair(torch.tensor([[2, 1]])).tolist() == [[0, 0, 1, 0, 1]]
    assert pair.sample(4, 5, fresh()).shape == (4, 5, 2)
    assert Actions(None).sample(2, 3).shape == (2, 3, 0)


def recorded(rows=24, steps=10, **beside):
    x = torch.randn(rows, steps, 2, generator=generator()).cumsum(1)
    return from_tensor(x.numpy(), layout="sequence", beside=beside)


def test_a_world_for_data_begins_at_their_mean_and_comes_back_from_a_record():
    beside = {
        "action": torch.randn(24, 10, 2, generator=generator(1)).numpy(),
        "reward": 100 + 9 * torch.randn(24, 10, generator=generator(2)).numpy(),
    }
    data = recorded(**beside)
    world = World.for_data(Config(**SMALL), data)
    batch = world.inputs(data)
    standardised = world.likelihood.standardise(data.x)
    assert torch.allclose(standardised.mean((0, 1)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(standardised.std((0, 1), correction=0), torch.ones(2), atol=1e-5)
    assert abs(world.reward_likelihood.shift - 100) < 3
    assert torch.allclose(world.reconstruct(batch).mean((0, 1)), data.x.mean((0, 1)), atol=1.0)
    assert world.sample(3, fresh()).shape == (3, 10, 2)
    record = {"shape": [2], "values": data.values, "levels": data.levels, "beside": world.layout.facts()}
    again = World.from_record(world.config, record)
    again.load_state_dict(world.state_dict())
    assert again.config == world.config
    assert again.layout == world.layout
    assert again.loss(batch, fresh()).total == world.loss(batch, fresh()).total
    assert again.sample(3, fresh()).shape == (3, 10, 2)


def test_what_is_not_there_has_no_part_in_the_scaling():
    x = 4 + torch.randn(24, 10, 2, generator=generator())
    data = from_tensor(x, layout="sequence", beside={"mask": torch.arange(10).expand(24, 10) < torch.arange(24)[:, None] % 8 + 3})
    there = data.beside["mask"]
    world = World.for_data(Config(**SMALL), data)
    assert torch.allclose(world.likelihood.shift, x[there].mean(0), atol=1e-5)
    assert torch.allclose(world.likelihood.scale, x[there].std(0, correction=0), atol=1e-5)


def test_pictures_are_seen_through_convolutions():
    x = (torch.rand(6, 4, 1, 16, 16, generator=generator()) < 0.3).float()
    world = World.for_data(Config(channels=(4, 8), **SMALL), from_tensor(x.numpy(), layout="sequence"))
    assert (world.config.network, world.config.likelihood) == ("conv", "bernoulli")
    loss = world.loss(batch := world.inputs(from_tensor(x.numpy(), layout="sequence")), fresh())
    loss.total.backward()
    # The first output is the share of ones.
    share = float(x.mean())
    entropy = -256 * (share * math.log(share) + (1 - share) * math.log(1 - share))
    assert abs(loss.parts["reconstruction"] + entropy) < 8
    assert world.open_loop(batch, 2, samples=2).imagined.shape == (2, 6, 2, 1, 16, 16)
    assert world.sample(2).shape == (2, 4, 1, 16, 16)


# In an environment.

PENDULUM = Spaces((3,), "real", None, "continuous", (1,), low=(-2.0,), high=(2.0,))
CARTPOLE = Spaces((4,), "real", None, "discrete", (), choices=(2,))
TINY = {"horizon": 3, "actor_hidden": (8,), "starts": 5, **SMALL}


def lived(spaces, rows=4, steps=6):
    g = generator()
    action = torch.stack([spaces.random(steps, g) for _ in range(rows)])
    x = torch.randn(rows, steps, *spaces.observation, generator=g)
    terminated = torch.zeros(rows, steps, dtype=torch.bool)
    terminated[0, -1] = True
    return batch_of(x, action=action, reward=torch.randn(rows, steps, generator=g), terminated=terminated)


@pytest.mark.parametrize("spaces", [PENDULUM, CARTPOLE], ids=["numbers", "choices"])
@pytest.mark.parametrize("latent", ["gaussian", "categorical"])
def test_the_actor_and_the_model_teach_each_other_nothing(spaces, latent):
    """The gradient of all model parameters is that of the same model without an actor."""
    config = Config(latent=latent, representation=0.1, free_bits=1.0, **TINY)
    agent = world_of(config, Layout.of_spaces(spaces), spaces)
    model = World(config, Layout.of_spaces(spaces))
    model.load_state_dict({k: v for k, v in agent.state_dict().items() if not k.startswith(("behaviour", "scales"))})
    batch = lived(spaces)
    a, b = (gradients(world, world.loss(batch, fresh()).total) for world in (agent, model))
    assert all(torch.allclose(a[name], b[name], atol=1e-6) for name in b)
    taught = [name for name in a if name not in b]
    assert all(name.startswith("behaviour") for name in taught)
    assert all(a[name].abs().sum() > 0 for name in taught if "weight" in name)
    loss = agent.loss(batch, fresh())
    assert {"elbo", "kl", "reward", "continuation", "actor", "critic"} <= set(loss.parts)
    assert agent.loss(batch, fresh()).total == loss.total
    before = copy.deepcopy(agent.behaviour.state_dict())
    agent.after_step()
    assert not all(torch.equal(before[k], v) for k, v in agent.behaviour.state_dict().items())


@pytest.mark.parametrize("spaces", [PENDULUM, CARTPOLE], ids=["numbers", "choices"])
def test_acting_sees_what_observing_sees(spaces):
    agent = world_of(Config(**TINY), Layout.of_spaces(spaces), spaces)
    g = generator(3)
    x = torch.randn(4, 5, *spaces.observation, generator=g)
    first = torch.zeros(4, 5, dtype=torch.bool)
    first[:, 0] = first[2, 3] = True
    carry, actions, states = None, [spaces.random(4, g)], []
    for t in range(5):
        action, carry = agent.act(x[:, t], carry, first[:, t])
        assert action.shape == (4, *spaces.action)
        actions.append(action)
        states.append(carry)
    assert all(isinstance(part, torch.Tensor) and len(part) == 4 for part in carry)
    # The mean state takes no noise: that of `observe` at noise zero.
    noise = rp.Replay(torch.zeros(5, 4, 3))
    seen = agent.space.observe(agent.embed(x), agent.actions(torch.stack(actions[:5], 1)), first, noise)
    for t, (h, z, _) in enumerate(states):
        assert torch.allclose(seen.state.deterministic[:, t], h, atol=1e-5)
        assert torch.allclose(seen.state.stochastic[:, t], z, atol=1e-5)
    drawn = [agent.act(x[:, 0], None, first[:, 0], fresh(seed))[0] for seed in (0, 0, 1)]
    assert torch.equal(drawn[0], drawn[1])
    if spaces is PENDULUM:
        assert not torch.equal(drawn[0], drawn[2])
        assert drawn[0].abs().max() <= 1


def test_scales_follow_what_arrives():
    agent = World.for_environment(Config(**TINY), PENDULUM)
    assert agent.monitor.part == "return"
    assert agent.learns_from.length == agent.config.sequence_length
    g = generator()
    x, reward = 5 + 2 * torch.randn(8, 30, 3, generator=g), -7 + 3 * torch.randn(8, 30, generator=g)
    none = torch.zeros(8, dtype=torch.bool)
    for t in range(30):
        agent.see(Arrival(x[:, t], torch.zeros(8, 1), reward[:, t], none if t else ~none, none, none))
    assert torch.allclose(agent.likelihood.shift, x.mean((0, 1)), atol=1e-4)
    assert torch.allclose(agent.likelihood.scale, x.std((0, 1), correction=0), atol=1e-4)
    assert torch.allclose(agent.reward_likelihood.shift, reward[:, 1:].mean()[None], atol=1e-4)
    again = World.from_record(agent.config, {"spaces": PENDULUM.facts()})
    again.load_state_dict(agent.state_dict())
    assert again.spaces == PENDULUM
    assert torch.equal(again.likelihood.scale, agent.likelihood.scale)
    assert agent.sample(2, fresh(), length=4).shape == (2, 4, 3)


@pytest.mark.parametrize("shape", [(2, 3), (2, 4, 5), (2, 1, 2, 2)])
def test_scales_of_observations_of_more_axes(shape):
    """One for each number, and of three axes one for each channel."""
    agent = World.for_environment(Config(**TINY), Spaces(shape, "real", None, "continuous", (1,), low=(-1.0,), high=(1.0,)))
    x, none = 5 + 2 * torch.randn(40, *shape, generator=generator()), torch.zeros(40, dtype=torch.bool)
    agent.see(Arrival(x, torch.zeros(40, 1), torch.zeros(40), none, none, none))
    axes = (0, 2, 3) if len(shape) == 3 else (0,)
    assert torch.allclose(agent.likelihood.shift, x.mean(axes, keepdim=True)[0], atol=1e-4)
    assert torch.allclose(agent.likelihood.scale, x.std(axes, correction=0, keepdim=True)[0], atol=1e-4)
    action = agent.act(x, None, ~none)[0]
    assert action.shape == (40, 1)


def test_an_actor_learns_from_what_something_follows_on(monkeypatch):
    """From no state in which the episode is over, nor from one that is not there."""
    spaces = Spaces((3,), "real", None, "discrete", (), (4,))
    layout, batch = everything()
    agent = world_of(Config(**TINY), layout, spaces)
    mask = torch.ones_like(batch.mask)
    mask[1, 4:] = False
    taken = []
    monkeypatch.setattr(agent.behaviour, "loss", lambda start, *_, **__: taken.append(start) or Lesson(torch.zeros(()), {}))
    batch = batch._replace(mask=mask)
    agent.loss(batch, fresh())
    state = agent.observed(agent.read(batch), fresh(), 1, learns=True).state
    (start,) = taken
    assert torch.equal(start.deterministic, state.deterministic[mask & ~batch.terminated])
    assert len(start.stochastic) == 24 - 2 - 2
    assert not start.stochastic.requires_grad


def test_an_actor_wants_latents_that_pass_a_gradient():
    with pytest.raises(BadInputError, match="leave_one_out"):
        World.for_environment(Config(estimator="leave_one_out", **TINY), PENDULUM)


# Training.


def trained(config, batch, layout, steps, rate, batch_size=64):
    torch.manual_seed(0)
    world = World(config, layout)
    world.start_at(batch)
    adam = torch.optim.Adam(world.parameters(), rate)
    for i in range(steps):
        for group in adam.param_groups:
            group["lr"] = rate * min(1.0, 2 - 2 * i / steps)
        rows = torch.randint(len(batch[0]), (batch_size,), generator=generator(i))
        adam.zero_grad()
        world.loss(Sequences(*(t[rows] for t in batch)), fresh(i)).total.backward()
        torch.nn.utils.clip_grad_norm_(world.parameters(), 10.0)
        adam.step()
    return world.eval()


def coins(rows, steps, seed):
    """A hidden Markov chain: two states that stay with probability 0.9, and three coins each, 0.9 or 0.1."""
    g = generator(seed)
    state = torch.randint(2, (rows,), generator=g)
    x = []
    for _ in range(steps):
        x.append((torch.rand(rows, 3, generator=g) < torch.where(state > 0, 0.9, 0.1)[:, None]).float())
        state = torch.where(torch.rand(rows, generator=g) < 0.9, state, 1 - state)
    return torch.stack(x, 1)


def forward_algorithm(x):
    """log p(x) of each sequence."""
    stay = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    belief, log_p = torch.full((len(x), 2), 0.5), torch.zeros(len(x))
    for t in range(x.shape[1]):
        ones = x[:, t].sum(1)
        seen = torch.stack([0.1**ones * 0.9 ** (3 - ones), 0.9**ones * 0.1 ** (3 - ones)], 1)
        joint = belief * seen
        log_p += joint.sum(1).log()
        belief = joint / joint.sum(1, keepdim=True) @ stay
    return log_p


def noisy_walk(rows, steps, seed):
    """y' = 0.95 y + 0.3 e, seen as y + 0.5 e."""
    g = generator(seed)
    y, x = torch.randn(rows, generator=g) * 0.3 / math.sqrt(1 - 0.95**2), []
    for _ in range(steps):
        x.append(y + 0.5 * torch.randn(rows, generator=g))
        y = 0.95 * y + 0.3 * torch.randn(rows, generator=g)
    return torch.stack(x, 1)[..., None]


def kalman_filter(x):
    """log p(x) of each sequence."""
    mean, var, log_p = torch.zeros(len(x)), torch.tensor(0.09 / (1 - 0.95**2)), torch.zeros(len(x))
    for t in range(x.shape[1]):
        total = var + 0.25
        log_p += Normal(mean, total.sqrt()).log_prob(x[:, t, 0])
        mean = mean + var / total * (x[:, t, 0] - mean)
        mean, var = 0.95 * mean, 0.95**2 * var * 0.25 / total + 0.09
    return log_p


KNOWN = {
    # Where the plain bound stops at states that say as little as the hidden ones, balancing goes on to ones that say more.
    "coins": (
        coins,
        forward_algorithm,
        "binary",
        1,
        {"latent": "categorical", "latent_dim": 1, "categories": 4, "representation": 0.1},
    ),
    "walk": (noisy_walk, kalman_filter, "real", None, {"latent_dim": 2}),
}


def gap(name, steps, rate):
    """Nats of a step by which the truth is above the ELBO and the bound of 20 samples, on 1000 new sequences of 20 steps.

    With the standard errors of both.
    """
    make, exact, values, levels, settings = KNOWN[name]
    batch, test = (batch_of(make(n, 20, seed)) for n, seed in ((2000, 0), (1000, 1)))
    layout = Layout(tuple(batch.observation.shape[2:]), values, levels)
    world = trained(Config(deterministic=32, hidden=(32,), **settings), batch, layout, steps, rate)
    elbo, bound = world.bounds(test, 1, fresh())[0]["elbo"], world.bounds(test, 20, fresh(1))[1]
    below = [(exact(test.observation) - found) / 20 for found in (elbo, bound)]
    return [x.mean().item() for x in below], [x.std().item() / math.sqrt(1000) for x in below]


def test_exact_likelihoods_are_those_of_all_paths():
    """The forward algorithm against the sum over states, the filter against the joint normal law."""
    x = coins(3, 4, 0)
    paths = torch.tensor(list(itertools.product(range(2), repeat=4)))
    moves = torch.where(paths[:, 1:] == paths[:, :-1], 0.9, 0.1).log().sum(1) + math.log(0.5)
    seen = torch.where((x[:, None] > 0) == (paths[None, :, :, None] > 0), 0.9, 0.1).log().sum((2, 3))
    assert torch.allclose(forward_algorithm(x), (moves + seen).logsumexp(1), atol=1e-5)
    y = noisy_walk(3, 4, 0)
    place = torch.arange(4)
    covariance = 0.09 / (1 - 0.95**2) * 0.95 ** (place[:, None] - place).abs() + 0.25 * torch.eye(4)
    joint = torch.distributions.MultivariateNormal(torch.zeros(4), covariance)
    assert torch.allclose(kalman_filter(y), joint.log_prob(y[..., 0]), atol=1e-4)


@pytest.mark.parametrize(
    ("name", "steps", "rate", "within"),
    [
        # Steps that know nothing of each other are 0.46 nats below the truth.
        ("walk", 150, 1e-2, (0.20, 0.15)),
        pytest.param("walk", 800, 5e-3, (0.08, 0.03), marks=pytest.mark.slow),
        pytest.param("coins", 500, 5e-3, (0.12, 0.06), marks=pytest.mark.slow),
    ],
)
def test_training_comes_near_the_truth_and_never_above(name, steps, rate, within):
    """Bounds are at most the truth, up to 5 standard errors of their differences, and come within stated gaps of it."""
    below, errors = gap(name, steps, rate)
    assert below[1] < below[0]
    for gone, error, allowed in zip(below, errors, within, strict=True):
        assert -5 * error < gone < allowed, below
        assert error < 0.02


def test_a_run_trains_and_its_loss_falls(tmp_path):
    x = noisy_walk(64, 12, 0)
    data = from_tensor(x.numpy(), layout="sequence")
    world = World.for_data(Config(**SMALL), data)
    run = Run.create(tmp_path / "run", {"model": {"name": "world"}, "training": {}, "data": {}})
    result = fit(
        world, world.inputs(data), world.inputs(data), Training(epochs=4, passes=5, batch_size=16, learning_rate=1e-2), run
    )
    losses = [row["train/elbo"] for row in result.history]
    assert losses[-1] > losses[0] + 0.1
