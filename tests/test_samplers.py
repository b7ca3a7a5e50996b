"""Chains of samples: their steps against closed forms, their gradients against differences, their law against mixtures.

The tests of a law have a false-alarm rate of 1e-6 a direction; each states what it would catch.
"""

import math

import pytest
import torch
from torch import nn, tensor

import reparam as rp
from mixtures import draw, mixture, project
from reparam.nn.bayes import bayes
from reparam.nn.noising import EDM, VP, Preconditioned, Velocity, as_denoiser
from reparam.nn.samplers import DDIM, DDPM, METHODS, Heun, chain, sample, start
from reparam.noise import Fresh
from reparam.stats import law_tests

SCHEDULES = {"cosine": VP("cosine"), "linear": VP("linear"), "rho": EDM()}
EVERY = {**METHODS, "ddim_half": DDIM(0.5), "heun_churn": Heun(churn=0.3, inflate=1.01)}
schedules = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
methods = pytest.mark.parametrize("method", EVERY.values(), ids=EVERY)


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def standard_normal(schedule):
    """The denoiser of N(0, I)."""
    return lambda z, log_snr: (torch.sigmoid(log_snr) / schedule.alpha(log_snr))[:, None] * z


class Given:
    """A source that hands out the tensors it was given, one a draw."""

    def __init__(self, *eps):
        self.eps = list(eps)

    def draw(self, noise, rows):
        eps = self.eps.pop(0)
        assert eps.shape == rows + noise.shape
        return eps


def step(method, schedule, z, log_snr, to, source=None):
    denoise = standard_normal(schedule)
    return method.step(denoise, z, tensor(log_snr).to(z), tensor(to).to(z), schedule, source)


class TestSteps:
    @schedules
    def test_ddpm_is_the_posterior_given_the_datum(self, schedule):
        """A denoiser that knows x: the step's mean and scale are those of q(z_s | z_t, x), by conditioning a joint normal law."""
        x, z, before, after = (tensor(v, dtype=torch.float64) for v in (0.7, -0.4, -1.0, 0.5))
        a_t, s_t, a_s, s_s = schedule.alpha(before), schedule.sigma(before), schedule.alpha(after), schedule.sigma(after)
        # z_s = a_s x + s_s e, and z_t = (a_t / a_s) z_s + noise of variance s_t^2 - (a_t / a_s)^2 s_s^2.
        ratio = a_t / a_s
        gain = ratio * s_s**2 / s_t**2
        mean = a_s * x + gain * (z - a_t * x)
        scale = (s_s**2 * (1 - ratio * gain)).sqrt()
        eps = tensor([[0.0], [1.0]], dtype=torch.float64)
        _, there = DDPM.step(lambda z, _: x.expand(z.shape), z.expand(2, 1), before, after, schedule, Given(eps))
        assert torch.allclose(there[:, 0], torch.stack([mean, mean + scale]), rtol=1e-12)

    @schedules
    @pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
    def test_ddim_keeps_the_marginals(self, schedule, eta):
        """Of a datum x, `z_t = a_t x + s_t e` goes to a state of mean `a_s x` and variance `s_s^2`, for each eta."""
        before, after, x = tensor(-3.0).double(), tensor(2.0).double(), tensor(0.7).double()
        e = tensor([[0.0], [1.0]], dtype=torch.float64)
        z = schedule.alpha(before) * x + schedule.sigma(before) * e
        denoise = lambda z, _: x.expand(z.shape)  # noqa: E731
        (base, moved), noise = [
            DDIM(eta).step(denoise, z, before, after, schedule, Given(torch.full((2, 1), v, dtype=torch.float64)))[1][:, 0]
            for v in (0.0, 1.0)
        ]
        assert torch.allclose(base, schedule.alpha(after) * x)
        assert torch.allclose((moved - base) ** 2 + (noise[0] - base) ** 2, schedule.sigma(after) ** 2)

    @schedules
    def test_ddim_is_eulers_step_of_the_flow(self, schedule):
        z = draw(mixture(2), 5)
        _, there = step(DDIM(), schedule, z, -1.0, 0.5)
        alpha, s = [[f(tensor(v).double()) for v in (-1.0, 0.5)] for f in (schedule.alpha, lambda v: torch.exp(-v / 2))]
        y = z / alpha[0]
        x = standard_normal(schedule)(z, tensor([-1.0], dtype=torch.float64).expand(5))
        assert torch.allclose(there / alpha[1], y + (s[1] - s[0]) * (y - x) / s[0], rtol=1e-12)

    @schedules
    @pytest.mark.parametrize(("method", "order"), [(DDIM(), 1), (Heun(), 2)], ids=["ddim", "heun"])
    def test_order(self, schedule, method, order):
        """The flow of N(0, I) scales the state by its spread: the error falls by 2^order when the steps are doubled."""
        z = torch.ones(1, 1, dtype=torch.float64)
        ends = schedule.log_snr(tensor([1.0, 0.0], dtype=torch.float64))
        spread = torch.hypot(schedule.alpha(ends), schedule.sigma(ends))
        error = []
        for steps in (200, 400):
            *_, last = chain(standard_normal(schedule), z, schedule, method=method, steps=steps)
            error.append(abs(last.z.item() / (spread[1] / spread[0]).item() - 1))
        assert 0.8 * 2**order < error[0] / error[1] < 1.25 * 2**order

    def test_churn_adds_the_noise_that_it_says(self):
        z, eps = torch.zeros(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
        state, _ = step(Heun(churn=0.25, inflate=1.5), EDM(), z, 0.0, 1.0, Given(eps))
        assert state.log_snr.item() == pytest.approx(-2 * math.log(1.25))
        assert state.z.item() == pytest.approx(1.5 * math.sqrt(1.25**2 - 1))
        state, _ = step(Heun(churn=0.25, high=0.5), EDM(), z, 0.0, 1.0, Given(eps))  # s = 1 is above the range
        assert (state.log_snr.item(), state.z.item()) == (0.0, 0.0)


class TestGradient:
    @staticmethod
    def network():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()

    def run(self, method, z, parameters, noise=None, steps=4, network=None):
        schedule, network = VP("cosine", -4, 4), network or self.network()
        names = [name for name, _ in network.named_parameters()]

        def call(y, log_snr):
            given = torch.cat([y, log_snr[:, None] / 4], 1)
            return torch.func.functional_call(network, dict(zip(names, parameters, strict=True)), given)

        source = fresh() if noise is None else Given(*noise)
        denoise = as_denoiser(call, Velocity(), schedule)
        *_, last = chain(denoise, z, schedule, method=method, steps=steps, source=source)
        return last.x

    @methods
    def test_in_parameters_and_start(self, method):
        """Through all steps at fixed noise, against central differences in double, to 1e-6 relative."""
        leaves = [p.detach().requires_grad_() for p in self.network().parameters()]
        z = draw(mixture(2), 3).requires_grad_()
        assert torch.autograd.gradcheck(lambda z, *p: self.run(method, z, p), (z, *leaves), rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("method", [DDPM, DDIM(0.5), Heun(churn=0.3)], ids=["ddpm", "ddim_half", "heun_churn"])
    def test_in_the_noise(self, method):
        parameters = [p.detach() for p in self.network().parameters()]
        noise = [draw(mixture(2), 3, seed).requires_grad_() for seed in range(3)]
        z = draw(mixture(2), 3, 9)
        assert torch.autograd.gradcheck(lambda *eps: self.run(method, z, parameters, eps), noise, rtol=1e-6, atol=1e-8)

    def test_reaches_the_parameters_from_sample(self):
        network = self.network()
        denoise = as_denoiser(lambda y, log_snr: network(torch.cat([y, log_snr[:, None]], 1)), Velocity(), VP())
        x = sample(denoise, (4, 2), VP(), method=DDPM, steps=5, source=fresh(), dtype=torch.float64)
        x.square().sum().backward()
        assert all(p.grad.abs().max() > 0 for p in network.parameters())

    def test_forward_mode_and_vmap(self):
        network = self.network()
        parameters = tuple(p.detach() for p in network.parameters())
        noise = tuple(draw(mixture(2), 3, seed) for seed in range(3))
        z, along = draw(mixture(2), 3, 9), draw(mixture(2), 3, 10)

        def f(z):
            return self.run(DDPM, z, parameters, noise, network=network)

        _, slope = torch.func.jvp(f, (z,), (along,))
        differences = (f(z + 1e-6 * along) - f(z - 1e-6 * along)) / 2e-6
        assert torch.allclose(slope, differences, atol=1e-6)
        many = torch.vmap(f)(torch.stack([z, along]))
        assert torch.allclose(many, torch.stack([f(z), f(along)]))


class TestLaw:
    """With the best denoiser the samples have the law of the data, up to the error of the steps."""

    STEPS = {"ddpm": 200, "ddim_half": 200, "ddim": 200, "heun": 50, "heun_churn": 100}

    @staticmethod
    def verdicts(method, schedule, steps, n):
        law = mixture(2)
        x = sample(bayes(law, schedule), (n, 2), schedule, method=method, steps=steps, source=fresh(7), dtype=torch.float64)
        directions = tensor([[1.0, 0.0], [0.6, -0.8]], dtype=torch.float64)
        return [verdict for d in directions for verdict in law_tests(project(law, x, d), alpha=1e-6)]

    @pytest.mark.parametrize(
        ("name", "schedule"),
        [("ddpm", "cosine"), ("ddim_half", "rho"), ("ddim", "linear"), ("heun", "rho"), ("heun_churn", "cosine")],
    )
    def test_is_that_of_the_data(self, name, schedule):
        """Catches a Kolmogorov distance of 0.11, a shift of 0.22 standard deviations, a variance off by 30 %."""
        method = Heun(churn=0.3) if name == "heun_churn" else EVERY[name]
        for verdict in self.verdicts(method, SCHEDULES[schedule], self.STEPS[name], 2500):
            assert verdict, verdict

    @pytest.mark.slow
    @schedules
    @pytest.mark.parametrize("name", EVERY)
    def test_is_that_of_the_data_by_more_samples(self, name, schedule):
        """Catches a Kolmogorov distance of 0.04, a shift of 0.08 standard deviations, a variance off by 11 %."""
        method = Heun(churn=0.3) if name == "heun_churn" else EVERY[name]
        for verdict in self.verdicts(method, schedule, 2 * self.STEPS[name], 20_000):
            assert verdict, verdict

    def test_a_wrong_denoiser_is_caught(self):
        law, schedule = mixture(2), VP()
        right = bayes(law, schedule)
        x = sample(
            lambda z, log_snr: 0.97 * right(z, log_snr), (2500, 2), schedule, steps=100, source=fresh(7), dtype=torch.float64
        )
        assert not all(law_tests(project(law, x, tensor([1.0, 0.0], dtype=torch.float64)), alpha=1e-6))


class TestSources:
    def test_the_same_source_gives_the_same_samples(self):
        for make in (lambda: rp.Sobol(seed=3), lambda: fresh(3), lambda: rp.Antithetic(fresh(3))):
            a, b = (sample(standard_normal(VP()), (8, 2), VP(), method=DDPM, steps=4, source=make()) for _ in range(2))
            assert torch.equal(a, b)

    @methods
    def test_antithetic_rows_are_mirrored_through_the_chain(self, method):
        x = sample(standard_normal(VP()), (8, 2), VP(), method=method, steps=6, source=rp.Antithetic(fresh()))
        assert torch.allclose(x[:4], -x[4:], atol=1e-5)

    def test_sobol_spreads_the_rows(self):
        """The mean of 256 rows has a tenth of the standard error of independent ones, and more."""
        x = sample(standard_normal(VP()), (256, 2), VP(), steps=20, source=rp.Sobol(seed=0))
        assert x.mean(0).abs().max() < 0.1 / 16


class TestEdges:
    @schedules
    @methods
    def test_one_step_is_the_denoisers_estimate(self, schedule, method):
        denoise = standard_normal(schedule)
        (state,) = chain(denoise, start((5, 2), schedule, source=fresh()), schedule, method=method, steps=1)
        assert torch.equal(state.x, denoise(state.z, state.log_snr.expand(5)))
        assert torch.equal(state.x, sample(denoise, (5, 2), schedule, method=method, steps=1, source=fresh()))

    @schedules
    @methods
    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
    def test_dtypes(self, schedule, method, dtype):
        denoise = as_denoiser(lambda y, _: torch.zeros_like(y), Preconditioned(), schedule)
        states = list(chain(denoise, start((6, 1, 3, 3), schedule, source=fresh(), dtype=dtype), schedule, method=method, steps=5))
        assert len(states) == 5
        assert all(s.z.dtype == s.x.dtype == dtype and s.x.isfinite().all() for s in states)
        levels = torch.stack([s.log_snr for s in states])
        assert (levels.diff() > 0).all()

    @methods
    def test_empty(self, method):
        assert sample(standard_normal(VP()), (0, 2), VP(), method=method, steps=3).shape == (0, 2)

    @methods
    @pytest.mark.parametrize("kind", ["cosine", "linear", "uniform"])
    def test_huge_log_snr(self, method, kind):
        """From exp(-60) to exp(60) in float32; of N(0, 1) the uniform grid, whose steps are even there, keeps the scale."""
        schedule = VP(kind, -60, 60)
        x = sample(standard_normal(schedule), (256, 1), schedule, method=method, steps=200, source=rp.Sobol(seed=0))
        assert x.isfinite().all()
        if kind == "uniform":
            assert abs(x.std() - 1) < 0.12

    def test_start_has_the_spread_of_the_schedule(self):
        for schedule, spread in ((VP(), 1.0), (EDM(sigma_max=80.0), math.sqrt(6401))):
            z = start((512, 3), schedule, source=rp.Sobol(seed=0))
            assert abs(z.std() / spread - 1) < 0.01

    def test_a_step_compiles(self):
        schedule = VP()

        def f(z, eps):
            return DDPM.step(standard_normal(schedule), z, tensor(0.0), tensor(1.0), schedule, rp.Replay(eps))[1]

        z, eps = torch.randn(4, 2), torch.randn(4, 2)
        assert torch.allclose(torch.compile(f, backend="eager", fullgraph=True)(z, eps), f(z, eps), atol=1e-6)

    @methods
    def test_an_estimate_of_another_shape_is_refused(self, method):
        for steps in (1, 3):
            with pytest.raises(ValueError, match=r"returned shape \(4,\) for states of shape \(4, 1\)"):
                sample(lambda z, _: z[:, 0], (4, 1), VP(), method=method, steps=steps)
        with pytest.raises(ValueError, match="the number of data first"):
            start((), VP())

    @pytest.mark.parametrize("steps", [0, -1, 2.0, True])
    def test_steps_refused(self, steps):
        with pytest.raises(ValueError, match="steps is"):
            sample(standard_normal(VP()), (2, 2), VP(), steps=steps)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: DDIM(1.5), "eta is 1.5"),
            (lambda: DDIM(math.nan), "eta"),
            (lambda: Heun(churn=0.5), "churn is 0.5"),
            (lambda: Heun(churn=-1), "churn"),
        ],
    )
    def test_methods_refused(self, make, message):
        with pytest.raises(ValueError, match=message):
            make()
