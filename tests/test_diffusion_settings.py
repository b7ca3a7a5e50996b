"""What a diffusion model does with what it is given: units of each channel, labels of gaps, states on the way, known values."""

import math

import pytest
import torch
from torch import nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

import reparam as rp
from reparam.models.diffusion import Config, Diffusion
from reparam.nn.bayes import bayes
from reparam.nn.noising import VP
from reparam.nn.repaint import repaint
from reparam.noise import Fresh


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("network", "shape"), [("mlp", (5,)), ("unet", (2, 3)), ("unet", (2, 2, 3)), ("signal", (2, 2, 3))])
def test_densities_are_in_the_units_of_each_channel(network, shape):
    """An untrained network says v = 0, which is the best denoiser of standard normal data: the density is that of normals."""
    model = Diffusion(Config(network=network, hidden=(4,), channels=(4,)), shape).double().eval()
    grain = (shape[0], *(1 for _ in shape[1:]))
    loc, scale = torch.arange(shape[0]).double().reshape(grain), torch.arange(1, shape[0] + 1).double().reshape(grain) ** 2
    model.units.shift.copy_(loc)
    model.units.scale.copy_(scale)
    x = loc + scale * torch.randn(6, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    truth = Normal(loc, scale).log_prob(x).flatten(1).sum(1)
    torch.testing.assert_close(model.log_prob(x, probes=0), truth, atol=1e-2, rtol=0)
    torch.testing.assert_close(-model.bound(x, source=fresh()).total, truth, atol=1e-3, rtol=0)


class Named(nn.Module):
    """Says the place of the label, 9 of an unknown one, as the datum."""

    def forward(self, z, log_snr, label=None):
        said = torch.full((len(z),), 9.0) if label is None else label.to(z.dtype)
        return said.reshape(-1, *[1] * (z.dim() - 1)).expand_as(z)


def test_gaps_are_filled_for_the_label_that_is_given():
    model = Diffusion(Config(hidden=(4,), prediction="x0"), (2,), classes=("a", "b", "c"))
    model.network = Named()
    x, mask = torch.zeros(3, 2), torch.tensor([[True, False]]).expand(3, 2)
    for label, said in (("b", [1, 1, 1]), (["c", "a", "b"], [2, 0, 1]), (torch.tensor([2, 2, 0]), [2, 2, 0]), (None, [9, 9, 9])):
        filled = model.impute(x, mask, fresh(), label=label, steps=3)
        torch.testing.assert_close(filled, torch.tensor([[0.0, value] for value in said]))


def test_integers_of_reals_are_filled_in_with_reals():
    model = Diffusion(Config(hidden=(4,)), (2,))
    x = torch.tensor([[3, 0], [0, -2]])
    filled = model.impute(x, x != 0, fresh(), steps=3)
    assert filled.dtype == torch.float32
    assert torch.equal(filled[x != 0], torch.tensor([3.0, -2.0]))
    assert (filled[x == 0] != filled[x == 0].round()).all()
    counts = Diffusion(Config(hidden=(4,)), (2,), "counts", 5)
    assert counts.impute(x.abs(), x != 0, fresh(), steps=3).dtype == x.dtype


@pytest.mark.parametrize("schedule", ["cosine", "edm"])
def test_what_is_shown_on_the_way_has_the_scale_of_data(schedule):
    model = Diffusion(Config(hidden=(4,), schedule=schedule), (3,))
    frames = model.trajectory(512, rp.Sobol(seed=0), frames=4, sampler="heun", steps=40)
    assert (frames.std((1, 2)) - 1).abs().max() < 0.1  # of standard normal data, for which an untrained network is right


# Filling in, with the best denoiser of two modes.

TWO = MixtureSameFamily(
    Categorical(torch.ones(2, dtype=torch.float64)),
    Independent(Normal(torch.tensor([[-1.0, -1.0], [1.0, 1.0]], dtype=torch.float64), 0.5), 1),
)


def test_known_values_have_the_noise_of_the_state():
    """512 rows: a standard deviation that is off by 20 % is six standard errors and more."""
    schedule, seen = VP(), []

    def denoise(z, log_snr):
        seen.append((z[:, 0], log_snr[0]))
        return bayes(TWO, schedule)(z, log_snr)

    known = torch.tensor([[0.25, math.nan]], dtype=torch.float64).expand(512, 2)
    repaint(denoise, known, ~known.isnan(), schedule, steps=6, repeats=2, source=fresh())
    for z, log_snr in seen[2:]:  # the first step is from noise alone, and its repeat from what was put in there
        assert abs(z.mean() - 0.25 * schedule.alpha(log_snr)) < 6.1 * schedule.sigma(log_snr) / 512**0.5
        assert abs(z.std() / schedule.sigma(log_snr) - 1) < 0.2


def test_the_mode_that_goes_with_what_is_known_needs_repeats():
    """P(x_1 > 0 | x_0 = 0.25) is 0.863; each within 6.1 standard errors, 0.05, of what the docstring says."""
    known = torch.tensor([[0.25, math.nan]], dtype=torch.float64).expand(2000, 2)
    for repeats, said in ((1, 0.62), (10, 0.79), (40, 0.87)):
        x = repaint(bayes(TWO, VP()), known, ~known.isnan(), VP(), steps=50, repeats=repeats, source=fresh())
        assert abs((x[:, 1] > 0).double().mean() - said) < 0.05
