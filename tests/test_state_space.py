"""States of sequences against the same steps made one by one, closed forms, and exact gradients."""

import math

import pytest
import torch
from torch.distributions import kl_divergence

import reparam as rp
from reparam.errors import BadInputError
from reparam.nn.state_space import State, StateSpace
from reparam.nn.stochastic import Gaussian, OneHot
from reparam.noise import Antithetic, Fresh, Replay, Sobol

FAMILIES = [Gaussian(3), OneHot(2, 4), OneHot(2, 4, unimix=0.1)]
SOFT = {"st_gumbel": rp.GumbelSoftmax(0.7, hard=True), "gumbel_rao": rp.GumbelRao(0.7, k=3), "reinmax": rp.ReinMax()}


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def space_of(stochastic, action=2, **settings):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return StateSpace(5, action, stochastic, deterministic=6, hidden=7, **settings).double()


def episodes(rows=3, steps=6, begins=(0,), action=2):
    first = torch.zeros(rows, steps, dtype=torch.bool)
    first[:, list(begins)] = True
    return normal(rows, steps, 5), normal(rows, steps, action, seed=1), first


def flat(observed):
    """All that a look at sequences gives, as tensors."""
    laws = [p for law in (observed.prior, observed.posterior) for p in (law.mean, law.variance)]
    return [*observed.state, *laws]


def same(a, b):
    return all(torch.allclose(x, y, rtol=1e-10, atol=1e-12) for x, y in zip(a, b, strict=True))


# The stochastic part.


def test_a_gaussian_sample_is_its_mean_and_scale_times_noise():
    latent, h, eps = Gaussian(3), normal(4, 6), normal(4, 3, seed=1)
    law = latent.law(h)
    assert torch.allclose(latent.push(h, eps), law.mean + law.stddev * eps)
    assert torch.allclose(law.stddev, torch.log1p(h[:, 3:].exp()) + 0.1)


@pytest.mark.parametrize("unimix", [0.0, 0.2])
def test_a_choice_falls_where_the_probabilities_come_to_the_noise(unimix):
    latent = OneHot(1, 4, unimix)
    logits = normal(1, 4)
    p = ((1 - unimix) * logits.softmax(-1) + unimix / 4)[0]
    ends = p.cumsum(0)
    middles = torch.stack([ends - p / 2, ends - 1e-9, ends - p + 1e-9], 1).T.flatten()
    z = latent.push(logits.expand(len(middles), -1), middles[:, None])
    assert z[:, 0].argmax(-1).tolist() == [0, 1, 2, 3] * 3
    assert set(z.flatten().tolist()) == {0.0, 1.0}
    assert torch.allclose(latent.law(logits).mean[0, 0], p)


@pytest.mark.parametrize("unimix", [0.0, 0.2])
def test_the_gradient_of_a_choice_is_that_of_its_probabilities(unimix):
    latent, cost = OneHot(2, 4, unimix), normal(2, 4, seed=1)
    h = normal(5, 8).requires_grad_()
    (latent.push(h, torch.rand(5, 2, dtype=torch.float64)) * cost).sum().backward()
    (slope,) = torch.autograd.grad((latent.law(h).mean * cost).sum(), h)
    assert torch.allclose(h.grad, slope)


def test_unimix_bounds_probabilities_from_below_and_is_a_share():
    law = OneHot(1, 4, 0.1).law(torch.tensor([[100.0, 0.0, 0.0, 0.0]]))
    assert torch.allclose(law.mean[0, 0], torch.tensor([0.925, 0.025, 0.025, 0.025]))
    for share in (-0.1, 1.0):
        with pytest.raises(BadInputError, match="unimix"):
            OneHot(1, 4, share)


def test_divergences_are_the_closed_forms():
    q, p = Gaussian(2).law(normal(5, 4)), Gaussian(2).law(normal(5, 4, seed=1))
    ratio = (q.stddev / p.stddev).square()
    by_hand = 0.5 * (ratio + ((q.mean - p.mean) / p.stddev).square() - 1 - ratio.log()).sum(-1)
    assert torch.allclose(kl_divergence(q, p), by_hand)
    q, p = (OneHot(2, 3, 0.05).law(normal(5, 6, seed=seed)) for seed in (0, 1))
    assert torch.allclose(kl_divergence(q, p), (q.mean * (q.mean.log() - p.mean.log())).sum((-1, -2)))


# Sequences.


@pytest.mark.parametrize("stochastic", FAMILIES)
@pytest.mark.parametrize("action", [0, 2])
def test_sequences_are_the_same_steps_one_by_one(stochastic, action):
    """The reference: advance, posterior and push, a step at a time, with the same noise."""
    space = space_of(stochastic, action)
    embedded, actions, first = episodes(begins=(0, 4), action=action)
    noise = torch.rand(6, 3, *stochastic.noise, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) * 0.98 + 0.01
    seen = space.observe(embedded, actions, first, Replay(noise))
    now, rows = space.start(3), []
    for t in range(6):
        if t in (0, 4):
            now, actions = space.start(3), actions.clone()
            actions[:, t] = 0
        h = space.advance(now, actions[:, t])
        q, p = space.posterior(h, embedded[:, t]), space.prior(h)
        outputs = space.to_posterior(space.activation(space.from_memory(h) + space.from_datum(embedded[:, t])))
        now = State(h, stochastic.push(outputs, noise[t]))
        rows.append([*now, p.mean, p.variance, q.mean, q.variance])
    assert same(flat(seen), [torch.stack(parts, 1) for parts in zip(*rows, strict=True)])


@pytest.mark.parametrize("stochastic", FAMILIES)
def test_an_episode_knows_nothing_of_the_one_before(stochastic):
    space = space_of(stochastic)
    embedded, action, first = episodes(begins=(0, 4))
    noise = torch.rand(6, 3, *stochastic.noise, dtype=torch.float64)
    whole = flat(space.observe(embedded, action, first, Replay(noise)))
    for part in (slice(0, 4), slice(4, 6)):
        alone = space.observe(embedded[:, part], action[:, part], first[:, part], Replay(noise[part]))
        assert same([x[:, part] for x in whole], flat(alone))
    other = action.clone()
    other[:, [0, 4]] = 1e6
    assert same(whole, flat(space.observe(embedded, other, first, Replay(noise))))


def test_an_episode_may_begin_in_some_rows_only():
    space = space_of(Gaussian(3))
    embedded, action, first = episodes(begins=(0,))
    first[1, 3] = True
    noise = normal(6, 3, 3)
    mixed, never = (flat(space.observe(embedded, action, f, Replay(noise))) for f in (first, episodes()[2]))
    anew = flat(space.observe(embedded, action, first | (torch.arange(6) == 3), Replay(noise)))
    for m, n, a in zip(mixed, never, anew, strict=True):
        assert torch.allclose(m[[0, 2]], n[[0, 2]])
        assert torch.allclose(m[1], a[1])
        assert not torch.allclose(m[1, 3:], n[1, 3:])


@pytest.mark.parametrize("stochastic", FAMILIES)
def test_a_sequence_can_be_gone_on_with(stochastic):
    space = space_of(stochastic)
    embedded, action, first = episodes()
    noise = torch.rand(6, 3, *stochastic.noise, dtype=torch.float64)
    whole = flat(space.observe(embedded, action, first, Replay(noise)))
    head = space.observe(embedded[:, :2], action[:, :2], first[:, :2], Replay(noise[:2]))
    now = State(*(part[:, -1] for part in head.state))
    tail = space.observe(embedded[:, 2:], action[:, 2:], first[:, 2:], Replay(noise[2:]), state=now)
    assert same([x[:, 2:] for x in whole], flat(tail))
    begun = [space.observe(embedded[:, 2:], action[:, 2:], first[:, :4], Replay(noise[2:]), state=state) for state in (now, None)]
    assert same(*map(flat, begun))


@pytest.mark.parametrize("stochastic", FAMILIES)
def test_what_is_imagined_follows_the_prior(stochastic):
    space = space_of(stochastic)
    now = State(normal(4, 6), torch.zeros(4, *stochastic.event, dtype=torch.float64))
    noise = torch.rand(4, *stochastic.noise, dtype=torch.float64)
    action = normal(4, 2, seed=1)
    next_ = space.imagine(now, action, Replay(noise))
    assert torch.allclose(next_.deterministic, space.advance(now, action))
    assert torch.allclose(next_.stochastic, stochastic.push(space.to_prior(next_.deterministic), noise))


def test_the_gradient_of_what_is_imagined_is_exact():
    """Pathwise, in the action and in where it began, three steps on: against differences."""
    space = space_of(Gaussian(2))
    noise = normal(3, 2, 2)

    def ahead(h, z, *actions):
        now = State(h, z)
        for action, eps in zip(actions, noise, strict=True):
            now = space.imagine(now, action, Replay(eps))
        return space.join(now)

    given = [normal(2, 6), normal(2, 2), *(normal(2, 2, seed=i) for i in range(3))]
    assert torch.autograd.gradcheck(ahead, [x.requires_grad_() for x in given])


# Noise and estimators.


@pytest.mark.parametrize("stochastic", FAMILIES)
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("source", [fresh, lambda: Antithetic(fresh()), lambda: Sobol(3)], ids=["fresh", "antithetic", "sobol"])
def test_the_same_noise_gives_the_same_states(stochastic, samples, source):
    space = space_of(stochastic)
    a, b = (flat(space.observe(*episodes(), source(), samples=samples)) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))
    assert len(a[0]) == 3 * samples
    assert not torch.equal(a[1], space.observe(*episodes(), fresh(9), samples=samples).state.stochastic)


def test_antithetic_samples_mirror_each_other_step_by_step():
    space = space_of(Gaussian(3))
    seen = space.observe(*episodes(), Antithetic(fresh()), samples=2)
    eps = ((seen.state.stochastic - seen.posterior.mean) / seen.posterior.stddev).unflatten(0, (2, 3))
    assert torch.allclose(eps[0], -eps[1])
    # Noise of one sample at different steps, and of different rows, is not mirrored.
    assert eps[0].flatten().unique().numel() == eps[0].numel() == 54
    assert not torch.isclose(eps[0].flatten()[:, None], -eps[0].flatten(), rtol=1e-9, atol=0).any()


@pytest.mark.parametrize("name", SOFT)
def test_estimators_that_are_given_make_values_with_a_gradient(name):
    space = space_of(OneHot(2, 4), estimator=SOFT[name])
    embedded, action, first = episodes()
    for samples, source in ((1, fresh()), (2, Antithetic(fresh())), (2, Sobol(1))):
        z = space.observe(embedded, action, first, source, samples=samples).state.stochastic
        assert set(z.flatten().tolist()) == {0.0, 1.0}
        assert bool((z.sum(-1) == 1).all())
    (z * normal(2, 4)).sum().backward()
    assert space.to_posterior.weight.grad.abs().sum() > 0


def test_relaxed_values_lie_between_the_choices_and_scored_ones_pass_no_gradient():
    space = space_of(OneHot(2, 4), estimator=rp.GumbelSoftmax(1.0))
    z = space.observe(*episodes(), fresh()).state.stochastic
    assert bool((z > 0).all())
    assert torch.allclose(z.sum(-1), torch.ones(3, 6, 2, dtype=torch.float64))
    space.estimator = rp.Score()
    assert not space.observe(*episodes(), fresh()).state.stochastic.requires_grad


@pytest.mark.parametrize("stochastic", [Gaussian(1), OneHot(1, 3)])
@pytest.mark.parametrize("source", [fresh, lambda: Antithetic(fresh()), lambda: Sobol(3)], ids=["fresh", "antithetic", "sobol"])
def test_samples_follow_the_posterior(stochastic, source):
    """The mean of 4096 samples: an alarm once in a million, and 0.16 standard deviations are caught as surely.

    Of noise in balance the mean is nearer than that of independent noise.
    """
    space = space_of(stochastic)
    embedded, action, first = (x[:1, :1] for x in episodes())
    seen = space.observe(embedded, action, first, source(), samples=4096)
    z = seen.state.stochastic.detach().flatten(1)[:, :1]
    law = seen.posterior
    eps = (z - law.mean.detach().flatten(1)[:, :1]) / law.variance.detach().flatten(1)[:, :1].sqrt()
    assert abs(eps.mean()) < 4.9 / math.sqrt(4096)
