"""Mutants, laws with one fault each: the public bar must catch every one, by the property that is there for it."""

import math

import pytest
import torch
import torch.distributions as td
from torch.distributions import constraints

import reparam as rp
from reparam.distributions.law import Law, Univariate
from reparam.noise import EXPONENTIAL, NORMAL
from reparam.special.slopes import with_slopes
from reparam.testing import PropertyError, check_distribution


class Made(Univariate):
    """A law whose path is its own methods, so that a mutant replaces one of them."""

    kind = EXPONENTIAL
    support = constraints.real
    pull = fresh = None

    @property
    def parameters(self):
        return [getattr(self, name) for name in self.arg_constraints]


@rp.path.register
def made_path(d: Made) -> rp.Path:
    return rp.Path(rp.noise_like(d.parameters[0], d.kind), d.push, d.pull, d.fresh)


class Bell(Made):
    """The logistic law."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}

    def __init__(self, loc, scale, validate_args=None):
        self._set(validate_args, loc=loc, scale=scale)

    def push(self, eps):
        return self.loc + self.scale * (eps + torch.log(-torch.expm1(-eps)))

    def pull(self, x):
        return torch.nn.functional.softplus((x - self.loc) / self.scale)

    def _log_density(self, x):
        z = ((x - self.loc) / self.scale).abs()
        return -z - 2 * torch.log1p(torch.exp(-z)) - self.scale.log()

    def cdf(self, x):
        return torch.sigmoid((x - self.loc) / self.scale)

    def icdf(self, p):
        return self.loc + self.scale * torch.logit(p)

    mean = mode = property(lambda self: self.loc)
    variance = property(lambda self: (self.scale * math.pi) ** 2 / 3)

    def entropy(self):
        return self.scale.log() + 2


class Bow(Made):
    """Kumaraswamy's law."""

    arg_constraints = {"a": constraints.positive, "b": constraints.positive}
    support = constraints.unit_interval

    def __init__(self, a, b, validate_args=None):
        self._set(validate_args, a=a, b=b)

    def push(self, eps):
        return (-torch.expm1(-eps / self.b)) ** (1 / self.a)

    def pull(self, x):
        return -self.b * torch.log1p(-(x**self.a))

    def _log_density(self, x):
        return self.a.log() + self.b.log() + (self.a - 1) * x.log() + (self.b - 1) * torch.log1p(-(x**self.a))


class Half(Made):
    """The half-normal law."""

    arg_constraints = {"scale": constraints.positive}
    support = constraints.positive

    def __init__(self, scale, validate_args=None):
        self._set(validate_args, scale=scale)

    def push(self, eps):
        upper = eps > math.log(2)
        z = torch.where(upper, -torch.special.ndtri(torch.exp(-eps) / 2), math.sqrt(2) * torch.erfinv(-torch.expm1(-eps)))
        return self.scale * z

    def _log_density(self, x):
        return math.log(2 / math.pi) / 2 - self.scale.log() - (x / self.scale) ** 2 / 2


class Two(Made):
    """Student's t with two degrees of freedom."""

    arg_constraints = {"loc": constraints.real}

    def __init__(self, loc, validate_args=None):
        self._set(validate_args, loc=loc)

    def push(self, eps):
        tail = torch.exp(-eps)
        return self.loc + (1 - 2 * tail) / torch.sqrt(-2 * tail * torch.expm1(-eps))

    def _log_density(self, x):
        return -1.5 * torch.log(2 + (x - self.loc) ** 2)


class Pair(Law):
    """Two independent normal numbers."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real_vector

    def __init__(self, loc, scale, validate_args=None):
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        super().__init__(self.loc.shape, torch.Size([2]), validate_args)

    def push(self, eps):
        return self.loc.unsqueeze(-1) + self.scale.unsqueeze(-1) * eps

    def pull(self, x):
        return (x - self.loc.unsqueeze(-1)) / self.scale.unsqueeze(-1)

    def log_prob(self, x):
        return td.Normal(self.loc.unsqueeze(-1), self.scale.unsqueeze(-1)).log_prob(x).sum(-1)


@rp.path.register
def pair_path(d: Pair) -> rp.Path:
    return rp.Path(rp.noise_like(d.loc, NORMAL, torch.Size([*d.loc.shape, 2])), d.push, d.pull)


def bow_cdf(x, a, b):
    return -torch.expm1(b * torch.log1p(-(x**a)))


def pair_scores(x, loc, scale):
    # The sum and the difference, a sample for one of them each: they are independent where the two numbers are.
    both = torch.where(torch.arange(len(x)) % 2 == 0, x[:, 0] + x[:, 1] - 2 * loc, x[:, 0] - x[:, 1])
    return torch.special.ndtr(both / scale / math.sqrt(2))


HONEST = {
    "bell": (Bell, (0.7, 1.3), {}),
    "bow": (Bow, (2.0, 3.5), {"cdf": bow_cdf}),
    "half": (Half, (1.7,), {"cdf": lambda x, s: torch.erf(x / s / math.sqrt(2))}),
    "two": (Two, (0.4,), {"cdf": lambda x, m: ((x - m) / torch.sqrt(2 + (x - m) ** 2) + 1) / 2}),
    "pair": (Pair, (0.7, 1.3), {"scores": pair_scores}),
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_laws_pass(name):
    law, parameters, known = HONEST[name]
    report = check_distribution(law, *parameters, **known, backend="aot_eager" if name == "bell" else None)
    assert report
    assert report.alpha < 1e-7


class ScaleOffByTwoPerCent(Bell):
    def push(self, eps):
        return self.loc + 1.02 * (super().push(eps) - self.loc)


class Clamped(Bell):
    def push(self, eps):
        return super().push(eps).clamp(-3.0, 4.0)


class Swapped(Bow):
    def push(self, eps):
        return (-torch.expm1(-eps / self.a)) ** (1 / self.b)


class DroppedJacobian(Bell):
    def _log_density(self, x):
        return super()._log_density(x) + self.scale.log()


class StoppedGradient(Bell):
    def push(self, eps):
        return self.loc.detach() + self.scale * (eps + torch.log(-torch.expm1(-eps)))


class CopiedRows(Bell):
    def push(self, eps):
        half = (len(eps) + 1) // 2 if eps.dim() else 0
        return super().push(torch.cat([eps[:half], eps[: len(eps) - half]]) if half else eps)


class ReusedKey(Pair):
    def push(self, eps):
        return super().push(eps[..., :1].expand_as(eps))


class TruncatedTail(Bell):
    def push(self, eps):
        return super().push(eps * 0.9 + eps * 0.1 * torch.where(eps > -math.log(0.1), 0.0, 1.0))


class WrongBranchConstant(Half):
    def push(self, eps):
        return super().push(eps) + 0.01 * self.scale * (eps > math.log(2))


class SinglePrecisionTail(Bell):
    def push(self, eps):
        u = -torch.expm1(-eps)
        return self.loc + self.scale * (u / (1 - u).clamp(min=torch.finfo(u.dtype).tiny)).log()


class OffByOneFreedom(Two):
    def push(self, eps):
        return self.loc - 1 / torch.tan(math.pi * -torch.expm1(-eps))


class WrongSign(Bell):
    def push(self, eps):
        def slopes(x, eps, loc, scale):
            return scale / -torch.expm1(-eps), torch.ones_like(x), -(x - loc) / scale

        return with_slopes(super().push(eps), slopes, eps, self.loc, self.scale)


class NoSecondDerivative(Bell):
    def push(self, eps):
        def slopes(x, eps, loc, scale):
            return (scale / -torch.expm1(-eps)).detach(), torch.ones_like(x), ((x - loc) / scale).detach()

        return with_slopes(super().push(eps), slopes, eps, self.loc, self.scale)


class WrongInverse(Bell):
    def pull(self, x):
        return torch.nn.functional.softplus((self.loc - x) / self.scale)


class AtomAtZero(Bow):
    def push(self, eps):
        x = super().push(eps)
        return torch.where(x < 0.02, 0.0, x)


class NotMirrored(Half):
    kind = NORMAL

    def push(self, eps):
        return self.scale * eps.abs()


class ForgetfulExpand(Bell):
    def expand(self, batch_shape, _instance=None):
        return type(self)(self.loc.expand(batch_shape), torch.ones_like(self.scale).expand(batch_shape))


class EntropyInBits(Bell):
    def entropy(self):
        return super().entropy() - math.log(2)


class WrongNormaliser(Bell):
    def _log_density(self, x):
        return super()._log_density(x) + 0.01


class SeedInside(Bell):
    def push(self, eps):
        again = torch.rand(eps.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        return super().push(-torch.log1p(-again).to(eps.dtype) + 0 * eps)


class HiddenNoise(Bell):
    def push(self, eps):
        return super().push(eps) + 1e-12 * torch.rand_like(eps)


class MomentsSwapped(Bell):
    mean = property(lambda self: (self.scale * math.pi) ** 2 / 3)
    variance = property(lambda self: self.loc)


class UpsideDown(Bell):
    def cdf(self, x):
        return 1 - super().cdf(x)


class ModeAtTheEnd(Bell):
    mode = property(lambda self: self.loc + self.scale)


class FarFromItself(Bell):
    pass


@td.register_kl(FarFromItself, FarFromItself)
def _far(p, q):
    return (p.loc - q.loc) ** 2 + 0.5 * torch.ones_like(p.scale)


class DenseOutside(Half):
    def log_prob(self, x):
        return self._log_density(x)


class LooksAtNumbers(Bell):
    def push(self, eps):
        return super().push(eps) * (1.0 if float(self.scale.sum()) > 0 else -1.0)


class HalfBatch(Bell):
    def push(self, eps):
        return super().push(eps) - (0.1 * eps.mean() - 0.1 if eps.numel() else 0.0)


class TorchsBeta(Made):
    """Beta's law, drawn and differentiated by torch: the sign of some gradients is wrong (b06), without an error."""

    arg_constraints = {"a": constraints.positive, "b": constraints.positive}
    support = constraints.unit_interval

    def __init__(self, a, b, validate_args=None):
        self._set(validate_args, a=a, b=b)

    def _log_density(self, x):
        return td.Beta(self.a, self.b, validate_args=False).log_prob(x)

    def push(self, eps):
        return rp.path(td.Beta(self.a, self.b)).push(eps)

    def pull(self, x):
        return rp.path(td.Beta(self.a, self.b)).pull(x)

    def fresh(self, rows, generator):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0 if generator is None else generator.initial_seed())
            return td.Beta.rsample(td.Beta(self.a, self.b), rows)


class FreshOfAnotherScale(Bell):
    def fresh(self, rows, generator):
        eps = rp.path(td.Exponential(torch.ones_like(self.loc))).noise.draw(rows, source=rp.Fresh(generator))
        return 1.05 * self.push(eps)


# The mutant, and the properties that must catch it, whatever else does.
MUTANTS = {
    ScaleOffByTwoPerCent: {"density", "inverse"},
    Clamped: {"law"},
    Swapped: {"law", "density"},
    DroppedJacobian: {"density", "normalisation"},
    StoppedGradient: {"derivatives", "implicit gradient"},
    CopiedRows: {"rows"},
    ReusedKey: {"law", "density"},
    TruncatedTail: {"law", "density"},
    WrongBranchConstant: {"density"},
    SinglePrecisionTail: {"float32"},
    OffByOneFreedom: {"law", "density"},
    WrongSign: {"derivatives", "implicit gradient"},
    NoSecondDerivative: {"derivatives"},
    WrongInverse: {"inverse"},
    AtomAtZero: {"support"},
    NotMirrored: {"mirrored"},
    ForgetfulExpand: {"expand"},
    EntropyInBits: {"moments"},
    WrongNormaliser: {"density", "normalisation"},
    SeedInside: {"rows"},
    HiddenNoise: {"rows", "sources"},
    MomentsSwapped: {"moments"},
    UpsideDown: {"cumulative"},
    ModeAtTheEnd: {"mode"},
    FarFromItself: {"divergence"},
    DenseOutside: {"outside the support"},
    LooksAtNumbers: {"transforms", "compiled"},
    HalfBatch: {"rows"},
    FreshOfAnotherScale: {"fresh sampler"},
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.__name__)
def test_mutants_are_caught(mutant):
    _, parameters, known = next(row for row in HONEST.values() if issubclass(mutant, row[0]))
    backend = "aot_eager" if "compiled" in MUTANTS[mutant] else None
    with pytest.raises(PropertyError, match=f"{mutant.__name__} does not hold to") as error:
        check_distribution(mutant, *parameters, **known, backend=backend)
    failed = set(error.value.report.failed)
    assert MUTANTS[mutant] <= failed, str(error.value)
    # What has nothing to do with the fault still holds.
    assert "shapes" not in failed


def test_torchs_own_beta_gradient_is_caught():
    with pytest.raises(PropertyError) as error:
        check_distribution(TorchsBeta, 5.0, 1e5, half=False, draws=20_000)
    assert "fresh sampler" in error.value.report.failed
    found = [f.found for f in error.value.report if f.property == "fresh sampler" and f.passed is False]
    assert all("gradient in parameter" in line for line in found), found
