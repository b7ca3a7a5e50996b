"""The contract of paths: shapes, inverses, sources, structure, stand-ins for torch's own classes, clear refusals."""

import copy
import pickle

import numpy as np
import pytest
import torch
import torch.distributions as td
from torch.distributions import kl_divergence
from torch.distributions.relaxed_bernoulli import LogitRelaxedBernoulli
from torch.distributions.relaxed_categorical import ExpRelaxedCategorical

import reparam as rp
from cases import CASES, holds, ids
from reparam.noise import NORMAL, Noise
from reparam.testing.paths import expand, inverse, mirrored, rows, shapes, sources


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


SOURCES = {
    "fresh": lambda: fresh(),
    "antithetic": lambda: rp.Antithetic(fresh()),
    "sobol": lambda: rp.Sobol(seed=0),
    "antithetic sobol": lambda: rp.Antithetic(rp.Sobol(seed=0)),
}


@pytest.mark.parametrize("check", [shapes, expand, sources, rows, inverse, mirrored], ids=lambda check: check.__name__)
@pytest.mark.parametrize("case", CASES, ids=ids)
def test_contract(case, check):
    if check is expand and case.law is td.GeneralizedPareto:
        pytest.skip("torch's own density of this law takes float32 only")
    holds(check, case)


def test_the_widest_interval_has_an_inverse():
    p = rp.path(td.Uniform(-3e38, 3e38))
    u = torch.tensor([1e-3, 0.5, 0.9])
    assert torch.allclose(p.pull(p.push(u)), u)


def test_what_has_no_inverse_says_so():
    assert [c.name for c in CASES if rp.path(c.make()).pull is None] == [c.name for c in CASES if not c.pull]
    assert rp.path(td.TransformedDistribution(td.Normal(0.0, 1.0), td.AbsTransform())).pull is None


def test_the_global_generator_is_untouched_by_explicit_sources():
    state = torch.get_rng_state()
    for source in SOURCES.values():
        rp.rsample(td.Gumbel(torch.zeros(3), 1.0), (8,), source=source())
    assert torch.equal(torch.get_rng_state(), state)


def test_default_dtype_and_python_numbers():
    assert rp.rsample(td.Normal(0.0, 1.0)).shape == ()
    assert rp.rsample(td.Uniform(0.0, 1.0), 3).dtype == torch.get_default_dtype()
    x = rp.rsample(td.Normal(torch.zeros(2, dtype=torch.float32), torch.ones(2, dtype=torch.float64)))
    assert x.dtype == torch.float64


def test_paths_stay_on_the_device_of_the_parameters():
    d = td.Laplace(torch.zeros(3, device="meta"), torch.ones(3, device="meta"), validate_args=False)
    assert rp.path(d).noise.device == torch.device("meta")
    assert rp.rsample(d, (2,)).device == torch.device("meta")


# Structure


def test_independent_and_nested_structure():
    base = td.Gumbel(torch.zeros(4, 3), torch.ones(4, 3))
    eps = rp.path(base).noise.draw((5,), source=fresh())
    nested = td.Independent(td.Independent(base, 1), 1)
    assert torch.equal(rp.path(nested).push(eps), rp.path(base).push(eps))
    affine = td.TransformedDistribution(nested, [td.AffineTransform(1.0, 2.0)])
    assert torch.allclose(rp.path(affine).push(eps), 1 + 2 * rp.path(base).push(eps))
    assert torch.allclose(rp.path(affine).pull(rp.path(affine).push(eps)), eps, rtol=1e-4)


def test_a_transform_that_mixes_an_event():
    factor = torch.tensor([[2.0, 0.0], [1.0, 3.0]])

    class Lower(td.Transform):
        domain = codomain = td.constraints.real_vector
        bijective = True

        def _call(self, x):
            return x @ factor.mT

        def _inverse(self, y):
            return torch.linalg.solve_triangular(factor, y.unsqueeze(-1), upper=False).squeeze(-1)

    d = td.TransformedDistribution(td.Normal(torch.zeros(2), torch.ones(2)), Lower())
    p = rp.path(d)
    eps = p.noise.draw((6,), source=fresh())
    assert torch.allclose(p.push(eps), eps @ factor.mT)
    assert torch.allclose(p.pull(p.push(eps)), eps, atol=1e-5)


def test_a_transform_that_caches_keeps_its_exact_inverse():
    """As in a squashed policy: tanh rounds to one, and only the cache knows where from."""
    d = td.TransformedDistribution(td.Normal(torch.zeros(1000), 30.0), td.TanhTransform(cache_size=1))
    x = rp.rsample(d, source=fresh())
    assert (x.abs() == 1).any()
    assert d.log_prob(x).isfinite().all()


@pytest.mark.parametrize(
    ("transforms", "scale"),
    [
        ([td.TanhTransform(), td.AffineTransform(0.0, 2.0)], 5.0),
        ([td.ComposeTransform([td.TanhTransform(), td.AffineTransform(0.0, 2.0)])], 5.0),
        ([td.ExpTransform(), td.AffineTransform(0.0, 2.0)], 60.0),
        ([td.SigmoidTransform(), td.SigmoidTransform().inv], 200.0),
    ],
    ids=["tanh, affine", "composed", "exp, affine", "there and back"],
)
def test_no_step_of_a_chain_leaves_the_floats(transforms, scale):
    d = td.TransformedDistribution(td.Normal(torch.zeros(20_000), scale), transforms)
    x = rp.rsample(d, source=fresh())
    assert x.isfinite().all()
    assert d.log_prob(x).isfinite().all()


def test_learned_transforms_get_their_gradient():
    shift = torch.tensor(0.5, requires_grad=True)
    d = td.TransformedDistribution(td.Normal(0.0, 1.0), [td.AffineTransform(shift, 2.0), td.ExpTransform()])
    x = rp.rsample(d, (10,))
    (slope,) = torch.autograd.grad(x.sum(), shift)
    assert torch.isclose(slope, x.sum())


def test_matrix_paths_read_a_shared_factor_once():
    loc, factor = torch.randn(7, 3), torch.eye(3) * 2
    d = td.MultivariateNormal(loc, scale_tril=factor)
    eps = rp.path(d).noise.draw((5,), source=fresh())
    assert torch.allclose(rp.path(d).push(eps), loc + 2 * eps)
    d = td.MultivariateNormal(loc[:2], scale_tril=torch.stack([factor, 3 * factor]))
    eps = rp.path(d).noise.draw((5, 4), source=fresh())
    assert torch.allclose(rp.path(d).push(eps), loc[:2] + eps * torch.tensor([2.0, 6.0]).reshape(2, 1))


def test_users_register_their_own():
    class Triangular(td.Distribution):
        arg_constraints = {"width": td.constraints.positive}
        support = td.constraints.real

        def __init__(self, width):
            self.width = width
            super().__init__(width.shape)

    with pytest.raises(rp.NoPathError, match="Triangular has no path"):
        rp.path(Triangular(torch.ones(2)))

    @rp.path.register
    def triangular_path(d: Triangular) -> rp.Path:
        return rp.Path(rp.noise_like(d.width, NORMAL, torch.Size([2, 2])), lambda eps: d.width * eps.sum(-1))

    assert rp.rsample(Triangular(torch.ones(2)), (3,)).shape == (3, 2)
    assert rp.reparameterized(Triangular(torch.ones(2))).rsample((3,)).shape == (3, 2)


# Refusals


class Unmoved(td.Distribution):
    """A class with a sampler of its own, which has no gradient."""

    arg_constraints = {"loc": td.constraints.real}
    support = td.constraints.real

    def __init__(self, loc):
        self.loc = torch.as_tensor(loc)
        super().__init__(self.loc.shape)

    def sample(self, sample_shape=()):
        return self.loc + torch.randn(self._extended_shape(sample_shape))


@pytest.mark.parametrize(
    ("d", "hint"),
    [
        (td.Bernoulli(0.5), "rp.relaxed"),
        (td.Categorical(torch.ones(3)), "rp.relaxed"),
        (td.Independent(td.Bernoulli(torch.ones(3) / 2), 1), "rp.Enumerate"),
        (td.Poisson(3.0), "rp.Score"),
        (Unmoved(0.0), "rp.expect"),
        (td.MixtureSameFamily(td.Categorical(torch.ones(2)), td.Poisson(torch.ones(2))), "MixtureSameFamily is discrete"),
    ],
    ids=lambda v: type(v).__name__ if isinstance(v, td.Distribution) else v,
)
def test_what_has_no_path_names_what_to_use(d, hint):
    for act in (rp.path, rp.rsample, rp.reparameterized):
        with pytest.raises(rp.NoPathError, match=hint):
            act(d)
    if d.support.is_discrete and type(d) is td.Poisson:
        with pytest.raises(rp.NoPathError) as error:
            rp.path(d)
        assert "relaxed" not in str(error.value)
        assert "Enumerate" not in str(error.value)  # its values are infinitely many


class OwnGamma(td.Gamma):
    """A class with a sampler of its own, which has a gradient."""

    def rsample(self, sample_shape=()):
        return 2 * super().rsample(torch.Size(sample_shape))


def test_a_sampler_of_its_own_serves_with_fresh_noise_only():
    concentration = torch.tensor([2.0, 3.0], requires_grad=True)
    for d in (OwnGamma(concentration, 1.0), td.Independent(OwnGamma(concentration, 2.0), 1)):
        x = rp.rsample(d, (4,))
        assert x.shape == (4, 2)
        assert x.requires_grad
        assert rp.rsample(d, (4,), source=rp.Fresh()).requires_grad  # the default source by name
        for act in (rp.rsample, rp.sample):
            with pytest.raises(rp.NoPathError, match=r"OwnGamma has no explicit path, only its own sampler, which"):
                act(d, (4,), source=rp.Sobol(seed=0))
    with pytest.raises(rp.NoPathError, match="Poisson has no explicit path, only its own sampler"):
        rp.sample(td.Poisson(3.0), source=rp.Sobol(seed=0))
    assert rp.sample(td.Poisson(3.0), source=rp.Fresh()).shape == ()
    assert torch.equal(rp.sample(td.Poisson(3.0), (9,), source=fresh(1)), rp.sample(td.Poisson(3.0), (9,), source=fresh(1)))


class Clamped(td.Normal):
    """A class that brings its own sampler, and with it another law."""

    def rsample(self, sample_shape=()):
        return super().rsample(sample_shape).clamp(0, 1)

    def sample(self, sample_shape=()):
        return self.rsample(sample_shape).detach()


def test_a_class_with_its_own_sampler_is_not_taken_for_its_parent():
    d = Clamped(torch.zeros(100, requires_grad=True), 1.0)
    for law in (d, td.Independent(d, 1), rp.reparameterized(d), td.TransformedDistribution(d, td.AffineTransform(0.0, 1.0))):
        with pytest.raises(rp.NoPathError, match="Clamped has no explicit path, only its own sampler"):
            rp.path(law)
        for x in (rp.rsample(law, (3,)), law.rsample((3,)), rp.sample(law, (3,))):
            assert x.min() >= 0
        assert rp.rsample(law).requires_grad
        with pytest.raises(rp.NoPathError, match="takes no noise source"):
            rp.rsample(law, source=rp.Sobol(0))

    class Named(td.Normal):
        """A class that adds nothing to the sampler keeps the path."""

    assert rp.path(Named(0.0, 1.0)).pull is not None
    assert rp.path(rp.reparameterized(td.Normal(0.0, 1.0))).pull is not None

    class Heads(td.Bernoulli):
        def sample(self, sample_shape=()):
            return torch.ones_like(super().sample(sample_shape))

    coins = Heads(torch.full((50,), 0.5))
    assert rp.sample(coins).min() == 1
    for law in (coins, td.Independent(coins, 1)):
        with pytest.raises(rp.NoPathError, match="Heads has no explicit path, only its own sampler"):
            rp.sample(law, source=rp.Sobol(0))


def test_a_straight_through_gradient_is_refused():
    """It is the gradient of no expectation; torch takes the class for one with differentiable samples."""
    d = td.OneHotCategoricalStraightThrough(logits=torch.zeros(4, 3, requires_grad=True))
    for law in (d, td.Independent(d, 1)):
        for act in (rp.path, rp.rsample, rp.reparameterized):
            with pytest.raises(rp.NoPathError, match=r"is discrete: no sample of it is differentiable.* with rp.Enumerate\(\)"):
                act(law)
        assert rp.sample(law, source=fresh()).shape == (4, 3)
    assert rp.rsample(rp.relaxed(d, 0.5)).requires_grad


def test_not_a_distribution():
    def relax(d):
        return rp.relaxed(d, 0.5)

    for act in (rp.path, rp.rsample, rp.sample, rp.reparameterized, rp.detached, relax):
        with pytest.raises(TypeError, match=r"expected a torch\.distributions.Distribution, got int"):
            act(3)
        with pytest.raises(TypeError, match=r"expected a torch\.distributions.Distribution, got the class Normal"):
            act(td.Normal)


@pytest.mark.parametrize("source", [torch.Generator(), 0, rp.Sobol], ids=lambda s: type(s).__name__)
def test_not_a_source(source):
    for d in (td.Normal(0.0, 1.0), td.HalfNormal(1.0), td.Gamma(1.0, 1.0), td.Bernoulli(0.5)):
        with pytest.raises(TypeError, match=r"is no noise source: pass one such as .*rp.Fresh\(generator\) for a torch.Generator"):
            (rp.sample if d.support.is_discrete else rp.rsample)(d, source=source)
    with pytest.raises(TypeError, match="is no noise source"):
        rp.rsample(td.Normal(0.0, 1.0), (4,), source=rp.Antithetic(source))


def test_rows_are_integers():
    for d in (td.Normal(torch.zeros(2), 1.0), td.HalfNormal(torch.ones(2)), td.Gamma(torch.ones(2), 1.0)):
        assert rp.rsample(d, np.int64(4)).shape == rp.rsample(d, (np.int64(4),)).shape == (4, 2)
        for size in (4.0, True, (4.0,), "4", None):
            with pytest.raises(TypeError, match=r"the rows to draw are given as .*; pass an integer or a tuple of integers"):
                rp.rsample(d, size)
    for d in (td.Normal(torch.zeros(2), 1.0), td.HalfNormal(torch.ones(2))):
        assert rp.path(d).draw(3).shape == (3, 2)
        assert rp.path(d).draw().shape == (2,)


# Stand-ins


@pytest.mark.parametrize("case", CASES, ids=ids)
def test_reparameterized_samples_as_rsample_does(case):
    d = case.make(torch.float32)
    q = rp.reparameterized(d)
    assert isinstance(q, type(d))
    assert q.has_rsample
    torch.manual_seed(0)
    x = rp.rsample(d, (3,))
    torch.manual_seed(0)
    assert torch.equal(q.rsample((3,)), x)
    torch.manual_seed(0)
    assert torch.equal(q.sample(torch.Size([3])), x)
    assert torch.equal(q.log_prob(x), d.log_prob(x))
    assert type(q.expand((2, *q.batch_shape))) is type(q)
    assert type(d) is not type(q)  # the original is left alone


def test_reparameterized_in_other_peoples_code():
    loc = torch.zeros(3, requires_grad=True)
    q = rp.reparameterized(td.Normal(loc, 1.0))
    assert kl_divergence(q, td.Normal(0.0, 1.0)).shape == (3,)
    assert td.Independent(q, 1).rsample((2,)).shape == (2, 3)
    assert td.Independent(q, 1).rsample().requires_grad
    assert not q.sample().requires_grad
    assert type(rp.reparameterized(q)) is type(q)
    assert type(rp.reparameterized(td.Normal(0.0, 1.0))) is type(q)  # one class each
    plain = td.Normal(torch.tensor([1.0, 2.0]), 1.0)
    for again in (copy.deepcopy, copy.copy, lambda d: pickle.loads(pickle.dumps(d))):
        other = again(rp.reparameterized(plain))
        assert type(other) is type(q)
        assert torch.equal(other.loc, plain.loc)
    assert repr(q).startswith("Normal(")


def test_reparameterized_falls_back_on_a_sampler_of_its_own():
    q = rp.reparameterized(OwnGamma(torch.tensor([2.0], requires_grad=True), 1.0))
    assert q.rsample((5,)).requires_grad
    assert rp.rsample(q, (5,)).shape == (5, 1)
    assert rp.reparameterized(td.Independent(q, 1)).rsample((2,)).shape == (2, 1)


def test_reparameterized_gives_a_sampler_to_a_class_without_one():
    class Ramp(td.Distribution):
        arg_constraints = {"top": td.constraints.positive}
        support = td.constraints.positive

        def __init__(self, top):
            self.top = top
            super().__init__(top.shape)

        def __call__(self):  # how Pyro samples
            return self.rsample() if self.has_rsample else self.sample()

    @rp.path.register
    def ramp_path(d: Ramp) -> rp.Path:
        return rp.Path(rp.noise_like(d.top, rp.noise.UNIFORM), lambda u: d.top * u.sqrt())

    d = Ramp(torch.ones(2, requires_grad=True))
    assert not d.has_rsample
    assert rp.reparameterized(d)().requires_grad


@pytest.mark.parametrize(
    ("d", "relaxation"),
    [
        (td.Bernoulli(logits=torch.zeros(4)), td.RelaxedBernoulli),
        (td.Bernoulli(probs=torch.tensor([0.1, 0.9])), td.RelaxedBernoulli),
        (td.Categorical(logits=torch.zeros(4, 3)), td.RelaxedOneHotCategorical),
        (td.Categorical(probs=torch.ones(4, 3)), td.RelaxedOneHotCategorical),
        (td.OneHotCategorical(logits=torch.zeros(3)), td.RelaxedOneHotCategorical),
    ],
)
def test_relaxed(d, relaxation):
    r = rp.relaxed(d, 0.5)
    assert isinstance(r, relaxation)
    assert torch.allclose(r.logits, d.logits)
    x = rp.rsample(r, (1000,), source=fresh())
    assert r.support.check(x).all()
    assert r.log_prob(x).isfinite().all()


def test_relaxed_independent_and_learned_temperature():
    logits, temperature = torch.zeros(2, 3, requires_grad=True), torch.tensor(0.7, requires_grad=True)
    r = rp.relaxed(td.Independent(td.Categorical(logits=logits), 1), temperature)
    assert r.event_shape == (2, 3)
    slopes = torch.autograd.grad((rp.rsample(r, (5,)) ** 2).sum(), (logits, temperature))
    assert all(s.isfinite().all() and (s != 0).any() for s in slopes)


@pytest.mark.parametrize(
    "temperature", [0.0, -1.0, float("nan"), float("inf"), torch.tensor(0.0), torch.tensor([1.0, float("nan")])]
)
def test_temperatures_must_be_positive(temperature):
    with pytest.raises(ValueError, match=r"the temperature of a relaxation is .*; it must be positive and finite"):
        rp.relaxed(td.Bernoulli(logits=torch.zeros(2)), temperature)
    t = torch.as_tensor(temperature)
    for law in (LogitRelaxedBernoulli, ExpRelaxedCategorical, td.RelaxedBernoulli, td.RelaxedOneHotCategorical):
        with pytest.raises(ValueError, match=r"must be positive and finite|samples need finite parameters"):
            rp.rsample(law(t, logits=torch.zeros(2), validate_args=False))


def test_relaxed_refuses_other_laws():
    with pytest.raises(NotImplementedError, match="Normal has no relaxation; Bernoulli, Categorical"):
        rp.relaxed(td.Normal(0.0, 1.0), 0.5)
    with pytest.raises(TypeError, match=r"the temperature of a relaxation is '0\.5'; it must be a number or a tensor"):
        rp.relaxed(td.Bernoulli(0.5), "0.5")
    with pytest.raises(NotImplementedError, match="Poisson"):
        rp.relaxed(td.Independent(td.Poisson(torch.ones(2)), 1), 0.5)


@pytest.mark.parametrize("law", [td.Bernoulli, td.Categorical, td.OneHotCategorical])
def test_a_relaxation_has_one_temperature(law):
    d = law(logits=torch.zeros(3, 3))
    with pytest.raises(ValueError, match=r"the temperature of a relaxation has shape \(3,\); it must be one number"):
        rp.relaxed(d, torch.full((3,), 0.5))
    for temperature in (torch.tensor([0.5]), torch.tensor([[0.5]]), np.float32(0.5), 1):
        r = rp.relaxed(d, temperature)
        assert r.log_prob(rp.rsample(r, (2,))).shape == (2, *d.batch_shape)


def test_relaxed_tends_to_the_discrete_law():
    """At a low temperature the share of each category is its probability: z-tests at 1e-9 that catch 0.01."""
    d = td.Categorical(probs=torch.tensor([0.5, 0.3, 0.2]))
    x = rp.rsample(rp.relaxed(d, 0.01), (400_000,), source=fresh())
    shares = (x > 0.5).double().mean(0)
    assert torch.allclose(shares, d.probs.double(), atol=6.1 * 0.5 / 400_000**0.5)


def test_some_categories_may_be_impossible():
    logits = torch.tensor([0.0, -torch.inf, 1.0], requires_grad=True)
    x = rp.rsample(td.RelaxedOneHotCategorical(torch.tensor(0.5), logits=logits), (100,))
    assert x.isfinite().all()
    (slope,) = torch.autograd.grad((x**2).sum(), logits)
    assert slope.isfinite().all()
    assert slope[1] == 0


def test_noise_can_be_asked_for_alone():
    assert Noise(NORMAL, torch.Size([3])).draw((2,)).shape == (2, 3)


def test_binomial_noise_reaches_both_ends():
    def draw(d, eps):
        return rp.sample(d, source=rp.Replay(torch.full(d.batch_shape, eps, dtype=torch.float64)))

    least, most = 2.0**-54, 1 - 2.0**-53
    for eps in (least, 1e-8, 0.5, most):
        assert draw(td.Binomial(5, torch.tensor([0.0, 1.0])), eps).tolist() == [0, 5]
        assert draw(td.Binomial(torch.tensor([2.0, 5.0]), torch.tensor([1.0, 1.0])), eps).tolist() == [2, 5]
        for law in (td.Binomial(5, logits=torch.tensor(-800.0)), td.Binomial(5, logits=torch.tensor(800.0))):
            assert draw(law, eps) == (5 if law.logits > 0 else 0)
    assert draw(td.Binomial(5, torch.tensor(0.5)), least) == 0
    assert draw(td.Binomial(5, torch.tensor(0.5)), most) == 5
    counts = torch.arange(1.0, 60.0)
    assert (draw(td.Binomial(counts, torch.tensor(0.3)), most) <= counts).all()
    assert rp.sample(td.Binomial(5, torch.zeros(0)), (3,), source=rp.Sobol(0)).shape == (3, 0)


def test_a_law_without_its_path_is_refused_and_not_asked_for_samples():
    class Forgotten(rp.distributions.Univariate):
        arg_constraints = {"rate": td.constraints.positive}
        support = td.constraints.positive

        def __init__(self, rate):
            self._set(None, rate=rate)

    d = Forgotten(1.0)
    for act in (rp.path, rp.rsample, lambda d: d.rsample(), lambda d: d.sample()):
        with pytest.raises(rp.NoPathError, match=r"Forgotten has no path.* register one with rp\.path\.register"):
            act(d)
    assert isinstance(rp.choose(d).estimator, rp.Score)


def test_what_is_no_number_does_not_hold_up_a_rejection_sampler():
    td.Distribution.set_default_validate_args(False)
    kappa = torch.tensor([float("nan"), 2.0])
    x = rp.rsample(td.VonMises(torch.zeros(2), kappa))
    assert x.isnan().tolist() == [True, False]


@pytest.mark.parametrize("first", [0.0, -0.0, 1e-7, -1e-7])
def test_directions_turn_smoothly_where_a_component_is_zero(first):
    """Torch's slope of `abs` at zero is zero; the reflection onto `loc` must not pass through it."""
    loc = torch.tensor([first, 0.6, 0.8], dtype=torch.float64, requires_grad=True)
    d = rp.distributions.VonMisesFisher(loc, torch.tensor(5.0, dtype=torch.float64), validate_args=False)
    eps = rp.path(d).noise.draw((4096,), source=rp.Sobol(0))
    weights = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    (slope,) = torch.autograd.grad((rp.path(d).push(eps) @ weights).mean(), loc)
    (truth,) = torch.autograd.grad(d.mean @ weights, loc)
    assert torch.allclose(slope, truth, atol=5e-3)
