"""Denoising losses and the variational bound against the least error, the density and the probability of mixtures."""

import math

import pytest
import torch
from torch import tensor
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import reparam as rp
from mixtures import draw, mixture, mmse
from reparam.nn.bayes import bayes
from reparam.nn.noising import EDM, PREDICTIONS, VP, as_denoiser, as_output
from reparam.noise import NORMAL, UNIFORM, Fresh, Noise
from reparam.objectives.denoising import (
    WEIGHTINGS,
    denoising,
    diffusion_bound,
    edm_weighting,
    min_snr_weighting,
)
from reparam.stats import mean_test

SCHEDULES = {"cosine": VP("cosine"), "linear": VP("linear"), "uniform": VP("uniform"), "rho": EDM(), "lognormal": EDM("lognormal")}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def standard_normal(schedule):
    """The denoiser of N(0, I)."""
    return lambda z, log_snr: (torch.sigmoid(log_snr) / schedule.alpha(log_snr)).unsqueeze(-1) * z


class Joint:
    """One Sobol point a row for the times and the noise of one-dimensional data together: a quadrature over both."""

    def __init__(self, seed):
        self.sobol, self.point = rp.Sobol(seed=seed), None

    def draw(self, noise, rows):
        if noise.kind is UNIFORM:
            self.point = Noise(UNIFORM, torch.Size([2]), noise.dtype).draw(rows, source=self.sobol)
            return self.point[:, 0]
        assert noise.kind is NORMAL
        return torch.special.ndtri(self.point[:, 1:]).reshape(rows + noise.shape)


class TestLoss:
    @pytest.mark.parametrize(
        ("schedule", "weighting"),
        [*((name, "eps") for name in SCHEDULES), *(("cosine", name) for name in WEIGHTINGS if name != "eps")],
    )
    def test_of_the_best_denoiser_is_the_least_mean_squared_error(self, schedule, weighting):
        """By an integral over times and states; false-alarm rate 1e-6, catches 20 %."""
        law = mixture(1)
        schedule, weighting = SCHEDULES[schedule], WEIGHTINGS[weighting]
        t = torch.linspace(0, 1, 4097, dtype=torch.float64)
        log_snr = schedule.log_snr(t)
        truth = torch.trapezoid(weighting(log_snr) * mmse(law, log_snr), t).item()
        x = draw(law, 2**15)
        loss = denoising(bayes(law, schedule), x, schedule, weighting=weighting, source=fresh(1))
        verdict = mean_test(loss, truth, alpha=1e-6)
        assert verdict, (verdict, truth)
        assert verdict.detectable < 0.2 * truth

    @pytest.mark.parametrize("make", PREDICTIONS.values(), ids=PREDICTIONS)
    @pytest.mark.parametrize("schedule", [VP(), EDM("lognormal")], ids=["vp", "edm"])
    def test_the_best_denoiser_is_the_optimum_for_each_prediction(self, make, schedule):
        """Moving the output of a network that says E[x | z], in three directions: the slope of the loss is zero, its bend is not.

        False-alarm rate 1e-6 each. What is caught: an optimum that is off by a quarter of the direction.
        """
        law, prediction = mixture(2), make()
        best, x = bayes(law, schedule), draw(law, 2**13)

        def network(move, direction):
            def output(unit, log_snr):
                z = (
                    unit
                    / prediction.coefficients(log_snr)[2][:, None]
                    * torch.hypot(schedule.alpha(log_snr), schedule.sigma(log_snr))[:, None]
                )
                return as_output(best(z, log_snr), z, log_snr, prediction, schedule) + move[:, None] * direction(unit, log_snr)

            return as_denoiser(output, prediction, schedule)

        directions = (lambda y, _: torch.ones_like(y), lambda y, _: y, lambda y, l: torch.tanh(l / 4)[:, None] * torch.tanh(y))  # noqa: E741
        for direction in directions:
            move = torch.zeros(len(x), dtype=torch.float64, requires_grad=True)
            loss = denoising(network(move, direction), x, schedule, weighting=WEIGHTINGS["v"], source=fresh(2))
            (slope,) = torch.autograd.grad(loss.sum(), move, create_graph=True)
            (bend,) = torch.autograd.grad(slope.sum(), move)
            verdict = mean_test(slope, 0.0, alpha=1e-6)
            assert verdict, verdict
            assert bend.mean() > 0
            assert verdict.detectable < 0.25 * bend.mean()

    def test_weightings_are_the_plain_errors_that_they_are_called(self):
        """One network output, one state: the weighted error of x is the unweighted error of the output."""
        schedule, log_snr = VP(), torch.linspace(-9, 9, 7, dtype=torch.float64)
        x, wrong = torch.ones(7, 1, dtype=torch.float64), torch.zeros(7, 1, dtype=torch.float64)
        z = 0.3 * x
        for name, weighting in (("eps", "eps"), ("x0", "x0"), ("v", "v"), ("edm", "edm")):
            right, said = (as_output(value, z, log_snr, PREDICTIONS[name](), schedule) for value in (x, wrong))
            assert torch.allclose((right - said).square()[:, 0], WEIGHTINGS[weighting](log_snr)), name

    def test_min_snr_and_edm(self):
        log_snr = torch.tensor([-2.0, math.log(5.0), 3.0])
        assert torch.allclose(min_snr_weighting(5.0)(log_snr), log_snr.exp().clamp(max=5.0))
        sigma = torch.exp(-0.5 * log_snr)
        assert torch.allclose(edm_weighting(0.5)(log_snr), (sigma**2 + 0.25) / (0.5 * sigma) ** 2)
        for make in (min_snr_weighting, edm_weighting):
            for bad in (0.0, -1.0, math.nan):
                with pytest.raises(ValueError, match="above zero"):
                    make(bad)

    def test_sobol_times_lower_the_variance(self):
        """Of the loss of a batch of 64 data of 64 elements; a ratio of three in 100 batches by chance: below 1e-6."""
        schedule, x = VP(), torch.randn(100, 64, 64, generator=torch.Generator().manual_seed(0))

        def spread(times):
            losses = [denoising(standard_normal(schedule), b, schedule, times=times, source=fresh(i)) for i, b in enumerate(x, 1)]
            return torch.stack(losses).mean(1).var()

        assert spread(fresh(1000)) > 3 * spread(rp.Sobol(seed=0))

    @schedules
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_dtypes(self, schedule, dtype):
        x = torch.ones(16, 1, 3, 3, dtype=dtype)
        loss = denoising(lambda z, _: torch.zeros_like(z), x, schedule, weighting=WEIGHTINGS["x0"], source=fresh())
        assert loss.dtype == torch.promote_types(dtype, torch.float32)
        assert torch.equal(loss, torch.ones_like(loss))

    def test_edges(self):
        schedule = VP()
        assert denoising(standard_normal(schedule), torch.ones(0, 2), schedule).shape == (0,)
        ends = rp.Replay(tensor([1e-38, 1 - 1e-7]))
        loss = denoising(standard_normal(schedule), torch.ones(2, 3), schedule, times=ends, source=fresh())
        assert loss.isfinite().all()
        for of in (denoising, diffusion_bound):
            with pytest.raises(ValueError, match=r"returned shape \(4,\) for data of shape \(4, 1\)"):
                of(lambda z, _: z[:, 0], torch.ones(4, 1), schedule)
        # One number a datum.
        assert denoising(lambda z, log_snr: z * log_snr.sigmoid(), torch.ones(5), schedule).shape == (5,)
        assert diffusion_bound(lambda z, _: 0 * z, torch.ones(5), schedule, lattice=torch.arange(3)).total.shape == (5,)

    @staticmethod
    def scaled(w, x, t, eps):
        denoise = lambda z, log_snr: w * standard_normal(VP())(z, log_snr)  # noqa: E731
        return denoising(denoise, x, VP(), times=rp.Replay(t), source=rp.Replay(eps)).mean()

    GIVEN = (torch.linspace(-1, 1, 8).reshape(4, 2), torch.linspace(0.1, 0.9, 4), torch.linspace(1, -2, 8).reshape(4, 2))

    def test_vmap(self):
        w = tensor([0.5, 1.5])
        assert torch.allclose(
            torch.vmap(lambda w: self.scaled(w, *self.GIVEN))(w), torch.stack([self.scaled(v, *self.GIVEN) for v in w])
        )

    @pytest.mark.slow  # seconds of imports by torch
    def test_transforms_and_compile(self):
        def f(w):
            return self.scaled(w, *self.GIVEN)

        w = tensor([0.5, 1.5])
        slopes = torch.vmap(torch.func.grad(f))(w)
        assert torch.allclose(slopes, torch.stack([(f(v + 0.01) - f(v - 0.01)) / 0.02 for v in w]), rtol=1e-2)
        assert torch.allclose(torch.func.jvp(f, (w[0],), (torch.ones(()),))[1], slopes[0], rtol=1e-4)
        compiled = torch.compile(self.scaled, backend="eager", fullgraph=True)
        assert torch.allclose(compiled(w[0], *self.GIVEN), f(w[0]), rtol=1e-4)


class TestBound:
    @pytest.mark.parametrize(
        "schedule", [VP("cosine"), VP("linear"), VP("uniform"), EDM()], ids=["cosine", "linear", "uniform", "rho"]
    )
    @pytest.mark.parametrize("x", [-1.3, 0.2, 1.6])
    def test_with_the_best_denoiser_is_the_negative_log_density(self, schedule, x):
        """At each datum, by 2^15 Sobol points, whose standard error is below 0.003 nats: to 0.015 nats."""
        law = mixture(1)
        bound = diffusion_bound(
            bayes(law, schedule), tensor([[x]], dtype=torch.float64), schedule, n=2**15, times=(both := Joint(0)), source=both
        )
        assert bound.total.item() == pytest.approx(-law.log_prob(tensor([[x]]).double()).item(), abs=0.015)

    def test_of_normal_data_has_no_variance(self):
        schedule, x = VP(), torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]
        bound = diffusion_bound(standard_normal(schedule), x, schedule, source=fresh())
        assert torch.allclose(bound.total, -Normal(0.0, 1.0).log_prob(x)[:, 0], atol=1e-5)
        assert torch.allclose(bound.total, bound.prior + bound.reconstruction + bound.diffusion)

    def test_a_wrong_denoiser_has_a_larger_bound(self):
        """By half the integral of its squared difference, `SNR 1e-4 E[x'^2]`, which is near `0.5e-4 exp(13)`."""
        schedule, x = VP("uniform"), draw(mixture(1), 2**12)
        best = bayes(mixture(1), schedule)
        right = diffusion_bound(best, x, schedule, times=(both := Joint(1)), source=both).total
        wrong = diffusion_bound(
            lambda z, log_snr: 0.99 * best(z, log_snr), x, schedule, times=(both := Joint(1)), source=both
        ).total
        excess = (wrong - right).mean()
        assert excess.item() == pytest.approx(0.5e-4 * math.exp(13), rel=0.2)

    @staticmethod
    def lattice_bound(schedule, values, p, n=2**14):
        """With the best denoiser of counts, of each count, from Sobol points of its own."""
        law = MixtureSameFamily(Categorical(p), Independent(Normal(values[:, None], 1e-9), 1))
        bounds = [
            diffusion_bound(
                bayes(law, schedule), x.reshape(1, 1), schedule, lattice=values, n=n, times=(both := Joint(2)), source=both
            )
            for x in values
        ]
        return torch.cat([b.total for b in bounds]), torch.cat([b.reconstruction for b in bounds])

    @pytest.mark.parametrize("schedule", [VP("uniform"), EDM()], ids=["vp", "edm"])
    def test_on_a_lattice_is_the_negative_log_probability(self, schedule):
        """Of counts 0..3 at the values -1.5, -0.5, ...: nats on the discrete data, whose probabilities sum to one."""
        values, p = torch.arange(4, dtype=torch.float64) - 1.5, tensor([0.1, 0.4, 0.3, 0.2], dtype=torch.float64)
        total, reconstruction = self.lattice_bound(schedule, values, p)
        assert torch.allclose(total, -p.log(), atol=0.05)
        assert reconstruction.abs().max() < 1e-6

    @pytest.mark.parametrize("high", [0.0, 2.0, 4.0])
    def test_on_a_lattice_with_noise_left_over(self, high):
        """The reconstruction is the posterior of even counts, so the bound is theirs; that of others is above their entropy."""
        values, schedule = torch.arange(4, dtype=torch.float64) - 1.5, VP("uniform", high=high)
        for p, tight in (([0.25] * 4, True), ([0.1, 0.4, 0.3, 0.2], False)):
            p = tensor(p, dtype=torch.float64)
            total, reconstruction = self.lattice_bound(schedule, values, p)
            excess = (p * (total + p.log())).sum()
            assert reconstruction.sum() > 1e-3
            assert abs(excess) < 0.01 if tight else excess > -0.01

    def test_lattices_of_each_element(self):
        schedule, x = VP(), torch.zeros(3, 2, 4, 4)
        scale = tensor([1.0, 2.0]).reshape(2, 1, 1)
        lattice = torch.arange(-1, 2).reshape(3, 1, 1, 1) * scale
        bound = diffusion_bound(lambda z, _: 0 * z, x, schedule, lattice=lattice, n=2)
        assert bound.reconstruction.shape == (3,)
        assert bound.reconstruction.abs().max() < 1e-4
        one = diffusion_bound(lambda z, _: 0 * z, x, schedule, lattice=tensor([-1.0, 0.0, 1.0]))
        assert all(part.shape == (3,) for part in one)
        for bad in (torch.zeros(3, 2), torch.zeros(3, 1, 1, 1, 1), torch.zeros(())):
            with pytest.raises(ValueError, match="the lattice has shape"):
                diffusion_bound(lambda z, _: 0 * z, x, schedule, lattice=bad)

    def test_gradient_reaches_the_denoiser_and_the_schedule(self):
        class Learned:
            low = torch.tensor(-8.0, requires_grad=True)

            def log_snr(self, t):
                return 9.0 + t * (self.low - 9.0)

            alpha, sigma = VP.alpha, VP.sigma

        schedule, w = Learned(), torch.tensor(0.9, requires_grad=True)
        x = torch.randn(64, 2)
        diffusion_bound(lambda z, log_snr: w * standard_normal(VP())(z, log_snr), x, schedule).total.mean().backward()
        assert w.grad.abs() > 0
        assert schedule.low.grad.abs() > 0
        bound = diffusion_bound(standard_normal(VP()), x, VP())
        assert not bound.total.requires_grad

    def test_dtypes_and_edges(self):
        for schedule in SCHEDULES.values():
            for dtype in (torch.float64, torch.float32, torch.float16, torch.bfloat16):
                bound = diffusion_bound(lambda z, _: 0 * z, torch.ones(4, 2, dtype=dtype), schedule, n=3)
                assert bound.total.dtype == torch.promote_types(dtype, torch.float32)
                assert bound.total.isfinite().all()
        assert diffusion_bound(standard_normal(VP()), torch.ones(0, 2), VP()).total.shape == (0,)
        with pytest.raises(ValueError, match="the number of times n"):
            diffusion_bound(standard_normal(VP()), torch.ones(2, 2), VP(), n=0)

    def test_more_draws_have_less_variance(self):
        law, schedule = mixture(1), VP("uniform")
        x = draw(law, 1).expand(500, 1)
        one, many = (diffusion_bound(bayes(law, schedule), x, schedule, n=n, source=fresh(n)).total.var() for n in (1, 16))
        assert 8 < one / many < 32  # a ratio of 16 leaves this with a probability below 1e-9, for normal values
