"""Schedules and predictions against their formulas, in every precision and at both ends."""

import math

import pytest
import torch
from torch import tensor

from mixtures import draw, mixture
from reparam.nn.bayes import bayes
from reparam.nn.noising import EDM, PREDICTIONS, VP, Clean, Epsilon, Preconditioned, Velocity, as_denoiser, as_output, spread

SCHEDULES = {
    "cosine": VP("cosine"),
    "linear": VP("linear"),
    "uniform": VP("uniform"),
    "rho": EDM("rho"),
    "lognormal": EDM("lognormal"),
}
EXTREME = {
    "cosine": VP("cosine", -80, 80),
    "linear": VP("linear", -80, 80),
    "uniform": VP("uniform", -80, 80),
    "rho": EDM("rho", math.exp(-39.9), math.exp(39.9)),
    "lognormal": EDM("lognormal", math.exp(-39.9), math.exp(39.9)),
}
ENDS = {VP: (13.0, -10.0), EDM: (-2 * math.log(0.002), -2 * math.log(80.0))}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
predictions = pytest.mark.parametrize("prediction", [make() for make in PREDICTIONS.values()], ids=PREDICTIONS)


class TestSchedules:
    @schedules
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_falls_from_end_to_end(self, schedule, dtype):
        t = torch.linspace(0, 1, 1001, dtype=dtype)
        log_snr = schedule.log_snr(t)
        assert log_snr.dtype == dtype
        assert (log_snr.diff() < 0).all()
        assert torch.allclose(
            log_snr[[0, -1]], tensor(ENDS[type(schedule)], dtype=dtype), rtol=0, atol=1e-3 if dtype.itemsize == 4 else 1e-9
        )

    @schedules
    def test_scales_make_the_log_snr(self, schedule):
        log_snr = torch.linspace(-80, 80, 33, dtype=torch.float64)
        alpha, sigma = schedule.alpha(log_snr), schedule.sigma(log_snr)
        assert torch.allclose(2 * (alpha.log() - sigma.log()), log_snr, rtol=1e-12)
        constant = alpha**2 + sigma**2 if isinstance(schedule, VP) else alpha
        assert torch.allclose(constant, torch.ones_like(log_snr), rtol=1e-12)

    @pytest.mark.parametrize("schedule", EXTREME.values(), ids=EXTREME)
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
    def test_extremes_are_finite_with_their_slopes(self, schedule, dtype):
        t = tensor([0.0, 1e-30, 1e-7, 0.5, 1 - 1e-7, 1.0], dtype=dtype, requires_grad=True)
        log_snr = schedule.log_snr(t)
        slope = torch.autograd.grad(log_snr.sum(), t)[0]
        assert log_snr.isfinite().all()
        assert slope.isfinite().all()
        assert (log_snr.abs() < 80.1).all()
        for value in (schedule.alpha(log_snr), schedule.sigma(log_snr)):
            assert ((value > 0) & value.isfinite()).all()

    def test_cosine_is_a_quarter_of_a_turn(self):
        t = torch.linspace(0, 1, 11, dtype=torch.float64)
        wide = VP("cosine", -60, 60)
        assert torch.allclose(wide.alpha(wide.log_snr(t)), torch.cos(t * math.pi / 2), atol=1e-12)

    def test_linear_has_a_linear_rate(self):
        t = torch.linspace(0, 1, 11, dtype=torch.float64, requires_grad=True)
        schedule = VP("linear")
        loss = -2 * schedule.alpha(schedule.log_snr(t)).log().sum()
        rate = torch.autograd.grad(loss, t)[0]
        assert torch.allclose(rate, rate[-1] * t, atol=1e-9)

    def test_rho_is_the_grid_of_karras(self):
        steps, rho, low, high = 18, 7, 0.002, 80.0
        i = torch.arange(steps, dtype=torch.float64)
        sigma = (high ** (1 / rho) + i / (steps - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
        schedule = EDM()
        assert torch.allclose(schedule.sigma(schedule.log_snr(1 - i / (steps - 1))), sigma, rtol=1e-12)

    def test_lognormal_has_the_quantiles_of_its_law(self):
        schedule = EDM("lognormal", sigma_min=1e-6, sigma_max=1e6)  # so wide that the cut is not seen
        t = torch.special.ndtr(tensor([-2.0, 0.0, 2.0], dtype=torch.float64))
        log_sigma = -0.5 * schedule.log_snr(t)
        assert torch.allclose(log_sigma, -1.2 + 1.2 * tensor([-2.0, 0.0, 2.0], dtype=torch.float64), atol=1e-6)

    @schedules
    def test_slope_is_that_of_differences(self, schedule):
        t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(schedule.log_snr, t)

    @schedules
    def test_traced_and_mapped(self, schedule):
        t = torch.rand(7)
        assert torch.allclose(torch.vmap(schedule.log_snr)(t), schedule.log_snr(t), rtol=1e-5, atol=1e-5)
        compiled = torch.compile(schedule.log_snr, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(t), schedule.log_snr(t))

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: VP("cubic"), "'cubic'; it must be one of 'cosine'"),
            (lambda: VP(low=1.0, high=1.0), "are 1 and 1"),
            (lambda: VP(high=math.nan), "nan"),
            (lambda: VP(high=math.inf), "inf"),
            (lambda: VP(high=90), "between -80 and 80"),
            (lambda: EDM(sigma_min=0.0), "sigma_min"),
            (lambda: EDM(sigma_min=-1.0), "sigma_min"),
            (lambda: EDM(sigma_min=5.0, sigma_max=1.0), "sigma_max"),
            (lambda: EDM(rho=0.0), "rho is 0.0"),
            (lambda: EDM(std=math.inf), "std is inf"),
        ],
    )
    def test_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()


class TestPredictions:
    @staticmethod
    def state(schedule, log_snr, dtype=torch.float64):
        g = torch.Generator().manual_seed(0)
        x, eps = (torch.randn(len(log_snr), 3, generator=g, dtype=dtype) for _ in range(2))
        alpha, sigma = schedule.alpha(log_snr)[:, None], schedule.sigma(log_snr)[:, None]
        return x, eps, alpha, sigma, alpha * x + sigma * eps

    @schedules
    @predictions
    def test_output_and_denoiser_are_inverse(self, schedule, prediction):
        log_snr = torch.linspace(-12, 12, 9, dtype=torch.float64)
        x, _, _, _, z = self.state(schedule, log_snr)
        output = as_output(x, z, log_snr, prediction, schedule)
        denoise = as_denoiser(lambda *_: output, prediction, schedule)
        assert torch.allclose(denoise(z, log_snr), x, atol=1e-9)

    @schedules
    def test_outputs_are_what_they_are_called(self, schedule):
        log_snr = torch.linspace(-12, 12, 9, dtype=torch.float64)
        x, eps, alpha, sigma, z = self.state(schedule, log_snr)
        unit = (alpha**2 + sigma**2).sqrt()
        assert torch.allclose(spread(schedule, log_snr)[:, None], unit)
        for prediction, wanted in ((Epsilon(), eps), (Clean(), x), (Velocity(), (alpha * eps - sigma * x) / unit)):
            assert torch.allclose(as_output(x, z, log_snr, prediction, schedule), wanted, atol=1e-7), prediction

    @pytest.mark.parametrize("sigma_data", [0.5, 1.0, 3.0])
    def test_preconditioning_is_that_of_karras(self, sigma_data):
        schedule, sigma = EDM(), torch.logspace(-3, 2, 11, dtype=torch.float64)
        log_snr = -2 * sigma.log()
        _, _, _, _, z = self.state(schedule, log_snr)
        root = (sigma**2 + sigma_data**2).sqrt()
        skip, out, seen = sigma_data**2 / root**2, sigma * sigma_data / root, 1 / root
        denoise = as_denoiser(lambda y, _: torch.tanh(y), Preconditioned(sigma_data), schedule)
        wanted = skip[:, None] * z + out[:, None] * torch.tanh(seen[:, None] * z)
        assert torch.allclose(denoise(z, log_snr), wanted, atol=1e-12)

    def test_preconditioning_of_unit_data_is_velocity(self):
        log_snr = torch.linspace(-30, 30, 13, dtype=torch.float64)
        for a, b, sign in zip(Preconditioned().coefficients(log_snr), Velocity().coefficients(log_snr), (1, -1, 1), strict=True):
            assert torch.allclose(a, sign * b, rtol=1e-12)

    @schedules
    def test_the_network_sees_unit_scale(self, schedule):
        law, seen = mixture(2), []
        x = draw(law, 40_000)
        for prediction in (Velocity(), Preconditioned()):
            for value in (-8.0, 0.0, 8.0):
                log_snr = torch.full((len(x),), value, dtype=torch.float64)
                z = schedule.alpha(log_snr)[:, None] * x + schedule.sigma(log_snr)[:, None] * draw(mixture(2, 1), len(x), 1)
                as_denoiser(lambda y, _: seen.append(y) or y, prediction, schedule)(z, log_snr)
        # 80 000 values of unit variance: a standard deviation off by 3 % is ten standard errors and more.
        assert all(abs(y.std() - 1) < 0.03 for y in seen)

    @predictions
    @pytest.mark.parametrize("value", [-80.0, 80.0])
    def test_extremes_are_finite(self, prediction, value):
        for coefficient in prediction.coefficients(tensor([value])):
            assert coefficient.isfinite().all()

    @predictions
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
    def test_keeps_the_dtype_of_the_state(self, prediction, dtype):
        seen = []
        for schedule in (VP(), EDM()):
            denoise = as_denoiser(lambda y, _: seen.append(y.dtype) or y, prediction, schedule)
            x = denoise(torch.ones(2, 1, 4, 4, dtype=dtype), tensor([-5.0, 12.0]))
            assert x.dtype == dtype
            assert x.isfinite().all()
        assert set(seen) == {dtype}

    def test_empty(self):
        assert as_denoiser(lambda y, _: y, Velocity(), VP())(torch.ones(0, 3), torch.ones(0)).shape == (0, 3)


class TestBayes:
    @schedules
    def test_is_the_mean_given_the_state(self, schedule):
        """Against Tweedie's formula, `E[x | z] = (z + sigma^2 d/dz log p(z)) / alpha`, with the density of z by torch."""
        law = mixture(3)
        base = law.component_distribution.base_dist
        for value in (-6.0, 0.0, 6.0):
            log_snr = tensor(value, dtype=torch.float64)
            alpha, sigma = schedule.alpha(log_snr), schedule.sigma(log_snr)
            noisy = type(base)(alpha * base.loc, (alpha**2 * base.variance + sigma**2).sqrt())
            z = (alpha * draw(law, 16) + sigma).requires_grad_()
            marginal = type(law)(law.mixture_distribution, type(law.component_distribution)(noisy, 1))
            score = torch.autograd.grad(marginal.log_prob(z).sum(), z)[0]
            found = bayes(law, schedule)(z, log_snr.expand(16))
            assert torch.allclose(found, (z + sigma**2 * score) / alpha, atol=1e-9)

    def test_refuses_other_mixtures(self):
        law = mixture(2)
        from torch.distributions import Categorical, MixtureSameFamily, Normal

        with pytest.raises(TypeError, match=r"Independent\(Normal"):
            bayes(MixtureSameFamily(Categorical(torch.ones(2)), Normal(torch.zeros(2), 1.0)), VP())
        assert bayes(law, VP())(torch.zeros(0, 2), torch.zeros(0)).shape == (0, 2)
