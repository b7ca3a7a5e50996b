"""Moments of gradients: against the same draws by hand, against closed forms, and on a model."""

import pytest
import torch
from torch.distributions import Normal

import reparam as rp
from reparam.diagnostics import gradient_moments
from reparam.models.vae import VAE, Config


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


def test_moments_are_those_of_the_draws():
    torch.manual_seed(0)
    layer, unused = torch.nn.Linear(3, 2).double(), torch.zeros(4, requires_grad=True)

    def loss(source):
        return lambda: layer(rp.Noise(rp.noise.NORMAL, torch.Size([3]), torch.float64).draw(source=source)).square().sum()

    moments = gradient_moments(loss(fresh()), [*layer.parameters(), unused], n=7)
    source = fresh()
    draws = [torch.autograd.grad(loss(source)(), list(layer.parameters())) for _ in range(7)]
    for i in range(2):
        stacked = torch.stack([draw[i] for draw in draws])
        torch.testing.assert_close(moments.mean[i], stacked.mean(0))
        torch.testing.assert_close(moments.variance[i], stacked.var(0))
    assert not moments.mean[2].any()
    assert moments.total_variance == pytest.approx(sum(v.sum().item() for v in moments.variance))
    norm = sum(m.square().sum().item() for m in moments.mean)
    assert moments.squared_norm == pytest.approx(norm - moments.total_variance / 7)
    assert all(p.grad is None for p in layer.parameters())


@pytest.mark.parametrize(
    ("estimator", "variance"),
    [(rp.Pathwise(), 4 * 0.5**2), (rp.Score(), 0.7**4 / 0.5**2 + 14 * 0.7**2 + 15 * 0.5**2)],
)
def test_variance_and_snr_have_their_closed_forms(estimator, variance):
    """f(x) = (x - k)^2, x ~ N(mu, 0.5^2), mu - k = 0.7: the gradient in mu is 1.4.

    n = 4000 single draws. The sample variance has a relative standard error of sqrt((kurtosis - 1) / n): 0.022 for the pathwise
    gradient, which is normal, and 0.1 for the score's; wrong by 6.1 of them once in 1e9.
    """
    mu, source = torch.tensor(0.7, dtype=torch.float64, requires_grad=True), fresh()
    q, n = Normal(mu, 0.5), 4000
    moments = gradient_moments(lambda: rp.expect(torch.square, q, estimator=estimator, source=source), [mu], n)
    relative = 6.1 * (0.022 if isinstance(estimator, rp.Pathwise) else 0.1)
    assert moments.total_variance == pytest.approx(variance, rel=relative)
    assert moments.mean[0].item() == pytest.approx(1.4, abs=6.1 * (variance / n) ** 0.5)
    assert moments.snr == pytest.approx(1.4 / variance**0.5, rel=relative + 6.1 * (variance / n) ** 0.5 / 1.4)
    torch.testing.assert_close(moments.snr_by_parameter[0], moments.mean[0].abs() / moments.variance[0].sqrt())


def test_gradients_without_noise_have_an_infinite_snr():
    p = torch.ones(3, requires_grad=True)
    moments = gradient_moments(lambda: p.square().sum(), [p], n=3)
    assert moments.total_variance == 0
    assert moments.snr == float("inf")


def test_pathwise_gradient_of_an_encoder_is_less_noisy_than_the_score_function():
    torch.manual_seed(0)
    x = torch.rand(16, 6, generator=torch.Generator().manual_seed(0)).round()
    vae = VAE(Config(latent_dim=3, hidden=(8,), likelihood="bernoulli"), (6,))
    source = fresh()
    noise = {}
    for estimator in (rp.Pathwise(), rp.LeaveOneOut(), rp.Score()):
        moments = gradient_moments(
            lambda estimator=estimator: -vae.elbo(x, estimator=estimator, n=2, source=source).mean(),
            vae.encoder.parameters(),
            n=100,
        )
        noise[type(estimator).__name__] = moments.total_variance
    assert 10 * noise["Pathwise"] < noise["LeaveOneOut"] < noise["Score"] / 10


def test_misuse():
    p = torch.ones(3, requires_grad=True)
    with pytest.raises(ValueError, match="at least 2 draws, got n=1"):
        gradient_moments(lambda: p.sum(), [p], n=1)
    with pytest.raises(ValueError, match="require a gradient"):
        gradient_moments(lambda: p.sum(), [p, torch.ones(2)], n=2)
    with pytest.raises(ValueError, match="at least one parameter"):
        gradient_moments(lambda: p.sum(), [], n=2)
