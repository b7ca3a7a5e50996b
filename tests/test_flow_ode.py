"""The probability-flow ODE with the best denoiser of a mixture: its density, its gradient, there and back."""

import math

import pytest
import torch
from torch import tensor
from torch.distributions import Independent, MixtureSameFamily, Normal

import reparam as rp
from mixtures import draw, mixture, project
from reparam.nn.bayes import bayes
from reparam.nn.flow_ode import decode, encode, log_likelihood
from reparam.nn.noising import EDM, VP
from reparam.noise import Fresh
from reparam.stats import law_tests, mean_test

SCHEDULES = {"cosine": VP("cosine"), "linear": VP("linear"), "rho": EDM()}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def standard_normal(z, log_snr):
    """The denoiser of N(0, I) by a variance-preserving schedule."""
    return log_snr.sigmoid().sqrt().unsqueeze(-1) * z


class TestDensity:
    @schedules
    @pytest.mark.parametrize("dim", [1, 2, 8])
    def test_is_that_of_the_data(self, schedule, dim):
        """To 1e-3 nats an element at each datum, the ends of the ODE and its steps included."""
        law = mixture(dim)
        x = draw(law, 32)
        with torch.no_grad():
            found = log_likelihood(bayes(law, schedule), x, schedule, tolerance=1e-5)
        assert (found - law.log_prob(x)).abs().max() / dim < 1e-3

    @pytest.mark.parametrize("schedule", [VP(high=2.0), EDM(sigma_min=math.exp(-1))], ids=["vp", "edm"])
    def test_is_that_of_the_data_smoothed_by_the_noise_of_the_clean_end(self, schedule):
        """With noise of exp(-1) left, which counts: the density is that of the mixture with scales `hypot(s_k, exp(-1))`."""
        law = mixture(2)
        base = law.component_distribution.base_dist
        scale = torch.hypot(base.scale, tensor(math.exp(-1), dtype=torch.float64))
        smooth = MixtureSameFamily(law.mixture_distribution, Independent(Normal(base.loc, scale), 1))
        x = draw(smooth, 16)
        with torch.no_grad():
            found = log_likelihood(bayes(law, schedule), x, schedule, tolerance=1e-5)
        assert torch.allclose(found, smooth.log_prob(x), atol=2e-3)

    def test_error_falls_with_the_tolerance(self):
        law, schedule = mixture(2), VP()
        x = draw(law, 16)
        with torch.no_grad():
            fine, *rest = (log_likelihood(bayes(law, schedule), x, schedule, tolerance=t) for t in (1e-8, 1e-2, 1e-4, 1e-6))
        errors = [(found - fine).abs().max().item() for found in rest]
        assert errors[0] > errors[1] > errors[2]
        assert errors[1] < 20 * 1e-4 * 2  # steps add up, and an element's tolerance is per element
        assert errors[2] < 20 * 1e-6 * 2

    def test_hutchinson_is_unbiased(self):
        """One datum, 1000 probes: false-alarm rate 1e-6, catches 0.04 nats an element."""
        law, schedule = mixture(3), VP()
        x = draw(law, 1)
        with torch.no_grad():
            exact = log_likelihood(bayes(law, schedule), x, schedule, probes=0)
            found = log_likelihood(bayes(law, schedule), x.expand(1000, 3), schedule, probes=1, source=fresh())
            several = log_likelihood(bayes(law, schedule), x.expand(200, 3), schedule, probes=8, source=fresh())
        verdict = mean_test(found, exact.item(), alpha=1e-6)
        assert verdict, verdict
        assert verdict.detectable < 0.12
        assert 3 < found.var() / several.var() < 24  # eight: a ratio beyond has a probability below 1e-9, for normal values

    def test_the_trace_is_estimated_above_sixteen_elements(self):
        x = draw(mixture(17), 2)
        law, schedule = mixture(17), VP()
        with torch.no_grad():
            a, b = (log_likelihood(bayes(law, schedule), x, schedule, source=fresh(seed)) for seed in (1, 2))
            exact = log_likelihood(bayes(law, schedule), x, schedule, probes=0)
        assert not torch.equal(a, b)
        assert (exact - law.log_prob(x)).abs().max() / 17 < 1e-3

    def test_gradients(self):
        """In the data it is the score of the mixture; in a parameter of the denoiser that of differences."""
        law, schedule = mixture(2), VP()
        x = draw(law, 4).requires_grad_()
        (score,) = torch.autograd.grad(log_likelihood(bayes(law, schedule), x, schedule, tolerance=1e-5).sum(), x)
        (wanted,) = torch.autograd.grad(law.log_prob(x).sum(), x)
        assert torch.allclose(score, wanted, rtol=1e-3, atol=5e-3)

        def total(w):
            best = bayes(law, schedule)
            return log_likelihood(lambda z, log_snr: w * best(z, log_snr), x.detach(), schedule, tolerance=1e-6).sum()

        w = tensor(0.98, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(total(w), w)
        with torch.no_grad():
            differences = (total(w + 1e-4) - total(w - 1e-4)) / 2e-4
        assert torch.allclose(slope, differences, rtol=1e-3)

    def test_images_are_flattened(self):
        x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0))
        flat = lambda z, log_snr: standard_normal(z.flatten(1), log_snr).reshape(z.shape)  # noqa: E731
        with torch.no_grad():
            assert torch.allclose(log_likelihood(flat, x, VP()), Normal(0.0, 1.0).log_prob(x).sum((1, 2, 3)), atol=2e-3)


class TestFlow:
    @schedules
    def test_there_and_back(self, schedule):
        law = mixture(3)
        x = draw(law, 16)
        eps = encode(bayes(law, schedule), x, schedule, tolerance=1e-6)
        assert torch.allclose(decode(bayes(law, schedule), eps, schedule, tolerance=1e-6), x, atol=1e-4)

    def test_the_clean_end_is_at_the_scale_of_the_data(self):
        """The flow of N(0, 1) leaves the state at unit scale as it is: data go in times a, `a^2 = sigmoid(2)`, and out over a."""
        x, a = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None], math.sqrt(1 / (1 + math.exp(-2)))
        assert torch.allclose(encode(standard_normal, x, VP(high=2.0)), a * x)
        assert torch.allclose(decode(standard_normal, x, VP(high=2.0)), x / a)

    @schedules
    def test_noise_is_standard_normal(self, schedule):
        """Catches a Kolmogorov distance of 0.12; false-alarm rate 1e-6."""
        law = mixture(2)
        with torch.no_grad():
            eps = encode(bayes(law, schedule), draw(law, 2000), schedule, tolerance=1e-3)
        for column in eps.unbind(1):
            for verdict in law_tests(torch.special.ndtr(column), alpha=1e-6):
                assert verdict, verdict

    def test_decoded_noise_has_the_law_of_the_data(self):
        """Catches a Kolmogorov distance of 0.12; false-alarm rate 1e-6."""
        law, schedule = mixture(2), VP()
        eps = torch.randn(2000, 2, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        with torch.no_grad():
            x = decode(bayes(law, schedule), eps, schedule, tolerance=1e-3)
        for verdict in law_tests(project(law, x, tensor([0.6, -0.8], dtype=torch.float64)), alpha=1e-6):
            assert verdict, verdict

    def test_schedules_agree(self):
        """One ODE at unit scale, whatever the schedule, between ends of the same noise."""
        law, vp = mixture(2), VP(low=-8.0, high=8.0)
        ve = EDM(sigma_min=math.exp(-4), sigma_max=math.exp(4))
        x = draw(law, 8)
        a, b = (encode(bayes(law, s), x, s, tolerance=1e-7) for s in (vp, ve))
        assert torch.allclose(a, b, atol=1e-5)


class TestEdges:
    @pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
    def test_dtypes(self, dtype):
        x = torch.linspace(-2, 2, 6, dtype=dtype).reshape(3, 2)
        with torch.no_grad():
            eps = encode(standard_normal, x, VP())
            log_p = log_likelihood(standard_normal, x, VP())
        assert (eps.dtype, log_p.dtype) == (dtype, torch.float32)
        assert torch.allclose(eps.float(), x.float(), atol=0.02)
        assert torch.allclose(log_p, Normal(0.0, 1.0).log_prob(x.float()).sum(1), atol=1e-3)

    def test_empty(self):
        x = torch.ones(0, 2)
        assert log_likelihood(standard_normal, x, VP()).shape == (0,)
        assert encode(standard_normal, x, VP()).shape == decode(standard_normal, x, VP()).shape == (0, 2)

    @pytest.mark.parametrize("schedule", [VP("uniform", -60, 60), VP("cosine", -80, 80)], ids=["60", "80"])
    def test_huge_log_snr(self, schedule):
        x = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
        with torch.no_grad():
            log_p = log_likelihood(standard_normal, x, schedule)
        assert torch.allclose(log_p, Normal(0.0, 1.0).log_prob(x)[:, 0], atol=1e-3)

    def test_refused(self):
        x = torch.ones(2, 2)
        with pytest.raises(ValueError, match=r"take torch.no_grad off"):
            log_likelihood(torch.no_grad()(standard_normal), x, VP())
        with pytest.raises(RuntimeError, match="steps below 1e-6"):
            encode(lambda z, _: z * math.nan, x, VP())
        with pytest.raises(ValueError, match=r"returned shape \(2,\)"):
            encode(lambda z, _: z[:, 0], x, VP())
        for probes in (-1, 1.5, True):
            with pytest.raises(ValueError, match="probes is"):
                log_likelihood(standard_normal, x, VP(), probes=probes)
        for tolerance in (0.0, -1.0, math.nan):
            with pytest.raises(ValueError, match="the tolerance of the ODE"):
                encode(standard_normal, x, VP(), tolerance=tolerance)

    def test_signs_come_from_the_source(self):
        x = draw(mixture(2), 8)
        best = bayes(mixture(2), VP())
        with torch.no_grad():
            a, b = (log_likelihood(best, x, VP(), probes=2, source=rp.Sobol(seed=1)) for _ in range(2))
        assert torch.equal(a, b)
