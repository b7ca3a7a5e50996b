"""Bad parameters are refused by name, index and value; good ones pass, whatever tensor they are in."""

import pytest
import torch
import torch.distributions as td
from torch import nn

import reparam as rp
from reparam.paths.parameters import check_parameters, map_parameters

INF, NAN = float("inf"), float("nan")


def vector(bad):
    return torch.tensor([0.5, bad, 1.0])


@pytest.mark.parametrize(
    ("d", "message"),
    [
        (lambda: td.Normal(vector(INF), 1.0), r"Normal: parameter loc is inf at index \(1,\); samples need finite parameters"),
        (lambda: td.Normal(0.0, torch.tensor(INF)), r"Normal: parameter scale is inf; samples"),
        (lambda: td.Independent(td.Normal(vector(-INF), 1.0), 1), r"Independent: parameter loc is -inf at index \(1,\)"),
        (lambda: td.LogNormal(vector(INF), 1.0), r"LogNormal: parameter loc is inf"),
        (lambda: td.Uniform(0.0, vector(INF)), r"Uniform: parameter high is inf at index \(1,\)"),
        (
            lambda: td.Gumbel(torch.zeros(2, 3).index_put((torch.tensor(1), torch.tensor(2)), torch.tensor(INF)), 1.0),
            r"index \(1, 2\)",
        ),
        (lambda: td.Gamma(vector(INF), 1.0), "Gamma: parameter concentration is inf"),
        (lambda: td.ContinuousBernoulli(logits=vector(-INF)), "parameter logits is -inf"),
        (
            lambda: td.TransformedDistribution(td.Normal(0.0, 1.0), td.AffineTransform(vector(NAN), 1.0)),
            r"transforms\[0\].loc is nan",
        ),
    ],
)
def test_infinite_parameters(d, message):
    with pytest.raises(ValueError, match=message):
        rp.rsample(d())


@pytest.mark.parametrize("law", [td.Normal, td.Laplace, td.Gumbel, td.Weibull, td.Pareto, td.Kumaraswamy, td.Uniform])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_no_sample_comes_from_bad_parameters(law, bad):
    for values in ((vector(bad), torch.full((3,), 2.0)), (torch.full((3,), 0.5), vector(bad))):
        with pytest.raises(ValueError, match="parameter"):  # torch's own check when it is made, or ours when it is sampled
            rp.rsample(law(*values))


def test_parameters_that_went_bad_after_construction():
    loc = torch.zeros(3)
    d = td.Normal(loc, 1.0)
    loc[2] = NAN
    with pytest.raises(ValueError, match=r"Normal: parameter loc is nan at index \(2,\)"):
        rp.rsample(d)


def test_distributions_that_do_not_validate_are_left_alone():
    x = rp.rsample(td.Normal(vector(NAN), 1.0, validate_args=False))
    assert x.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("value", [torch.tensor([1, 2]), torch.tensor([True, False]), torch.tensor([1j, 2j])], ids=str)
def test_parameters_that_are_not_floating_point(value):
    with pytest.raises(
        TypeError, match=r"Normal: parameter loc is torch.\w+; pass it as floating point, for example loc.float\(\)"
    ):
        rp.rsample(td.Normal(value, torch.ones(2), validate_args=False))


def test_large_but_finite_parameters_pass_though_their_sum_overflows():
    assert rp.rsample(td.Normal(torch.full((4,), 3e38), 1.0)).isfinite().all()


def test_minus_infinity_is_a_logit_of_a_category():
    logits = torch.tensor([[0.0, -INF]])
    check_parameters(td.RelaxedOneHotCategorical(torch.tensor(1.0), logits=logits))
    with pytest.raises(ValueError, match="logits"):
        check_parameters(td.RelaxedBernoulli(torch.tensor(1.0), logits=logits))
    with pytest.raises(ValueError, match="logits"):  # torch's own check
        td.RelaxedOneHotCategorical(torch.tensor(1.0), logits=torch.full((2,), -INF))


def test_bad_covariances_are_refused_when_made():
    """Torch's own checks, relied on here."""
    loc = torch.zeros(2)
    with pytest.raises(ValueError, match="covariance_matrix"):
        td.MultivariateNormal(loc, torch.tensor([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(ValueError, match="covariance_matrix"):
        td.MultivariateNormal(loc, torch.tensor([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(torch.linalg.LinAlgError):
        td.MultivariateNormal(loc, torch.tensor([[1.0, 2.0], [2.0, 1.0]]), validate_args=False)


def test_which_dtypes_there_are():
    assert check_parameters(td.Normal(torch.zeros(2, dtype=torch.bfloat16), 1.0)) >= {torch.bfloat16}
    assert check_parameters(td.Gumbel(0.0, 1.0)) == {torch.float32}


def test_a_class_without_declared_constraints():
    class Shifted(td.Distribution):
        support = td.constraints.real

        def __init__(self, shift):
            self.shift = shift
            super().__init__(shift.shape, validate_args=False)

    d = Shifted(torch.zeros(2, dtype=torch.float64))
    assert check_parameters(d) == {torch.float64}
    d._validate_args = True
    d.shift = vector(INF)
    with pytest.raises(ValueError, match="Shifted: parameter shift is inf"):
        check_parameters(d)


# Copies


class Scale(td.Transform, nn.Module):
    """A transform with weights, as normalising flows have."""

    domain = codomain = td.constraints.real
    bijective = True

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(0.25, dtype=dtype))
        self.register_buffer("shift", torch.zeros((), dtype=dtype))

    __hash__ = nn.Module.__hash__

    def _call(self, x):
        return x * self.log_scale.exp() + self.shift

    def _inverse(self, y):
        return (y - self.shift) * (-self.log_scale).exp()

    def log_abs_det_jacobian(self, x, y):
        return self.log_scale.expand_as(x)


def laws(loc):
    yield td.Normal(loc, 1.0)
    yield td.Independent(td.Laplace(loc, 1.0), 1)
    yield td.Gumbel(loc, 1.0)
    yield td.MultivariateNormal(loc, torch.eye(3))
    yield td.TransformedDistribution(td.Normal(loc, 1.0), [td.AffineTransform(loc, 2.0), td.ExpTransform().inv.inv])
    yield td.MixtureSameFamily(td.Categorical(logits=loc), td.Normal(loc, 1.0))
    yield td.RelaxedOneHotCategorical(torch.tensor(1.0), logits=loc)


def test_detached_cuts_every_parameter_and_only_those():
    loc = torch.zeros(3, requires_grad=True)
    for d in laws(loc):
        x = d.sample().requires_grad_()
        expected = d.log_prob(x)
        q = rp.detached(d)
        assert type(q) is type(d)
        assert torch.equal(q.log_prob(x), expected)
        assert torch.autograd.grad(q.log_prob(x).sum(), (loc, x), allow_unused=True, materialize_grads=True)[0].eq(0).all()
        assert q.log_prob(x).requires_grad  # in the value
        assert d.log_prob(x.detach()).requires_grad  # the original is left alone


def test_detached_transform_with_weights():
    transform = Scale()
    d = td.TransformedDistribution(td.Normal(torch.zeros(3), 1.0), transform)
    q = rp.detached(d)
    x = torch.ones(3)
    assert not q.log_prob(x).requires_grad
    assert d.log_prob(x).requires_grad
    assert torch.equal(q.log_prob(x), d.log_prob(x))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_flow_learns_through_its_path(dtype):
    transform = Scale(dtype)
    d = td.TransformedDistribution(td.Normal(torch.zeros(3, dtype=dtype), 1.0), transform)
    x = rp.rsample(d, (4,))
    assert x.dtype == dtype
    (slope,) = torch.autograd.grad(x.float().sum(), transform.log_scale)
    assert torch.isclose(slope.float(), x.float().sum(), rtol=1e-5 if dtype == torch.float32 else 3e-2, atol=1e-2)
    assert transform.log_scale.dtype == transform.shift.dtype == dtype  # the original is left alone


def test_buffers_and_dictionaries_are_mapped_too():
    loc = torch.zeros(3, requires_grad=True)
    transform = Scale()
    transform.shift = loc.sum()
    d = td.TransformedDistribution(td.Normal(torch.zeros(3), 1.0), transform)
    assert rp.rsample(d).requires_grad
    assert not rp.rsample(rp.detached(d)).requires_grad

    class Table(td.Distribution):
        def __init__(self, table):
            self.table = table
            super().__init__((3,), validate_args=False)

    assert not rp.detached(Table({"loc": loc})).table["loc"].requires_grad
    assert check_parameters(Table({"loc": loc.double()})) == {torch.float64}


def test_integers_are_refused_among_parameters_only():
    class Reorder(td.Transform):
        domain = codomain = td.constraints.real_vector
        bijective = True

        def __init__(self, order):
            super().__init__()
            self.order = order

        def _call(self, x):
            return x[..., self.order]

    loc = torch.tensor([1e3, 2e3, 3e3])
    d = td.TransformedDistribution(td.Normal(loc, 1.0), Reorder(torch.tensor([2, 0, 1])))
    assert torch.allclose(rp.rsample(d), loc[[2, 0, 1]], atol=10)


def test_detached_of_a_transform_that_knows_its_inverse():
    loc = torch.ones(2, requires_grad=True)
    transform = td.AffineTransform(loc, 2.0, cache_size=1)
    _ = transform.inv(transform(torch.zeros(2)))
    q = rp.detached(td.TransformedDistribution(td.Normal(torch.zeros(2), 1.0), transform))
    assert not q.rsample().requires_grad
    assert not q.log_prob(torch.zeros(2)).requires_grad


def test_map_parameters_changes_dtype_everywhere():
    for d in laws(torch.zeros(3)):
        assert map_parameters(d, torch.Tensor.double).sample().dtype == torch.float64
