"""The networks of diffusion models: any size, every parameter in use, and no row that looks at another."""

import pytest
import torch
from torch import nn

from reparam.errors import BadInputError
from reparam.nn.denoiser import Condition, ConditionalNetwork, UNet

# A kind, the shape of a datum, widths: odd sizes, lengths of one, many channels, one scale, widths that no group divides.
NETWORKS = [
    ("mlp", (1,), (8,)),
    ("mlp", (5,), (16, 24, 7)),
    ("mlp", (2, 3, 4), (16,)),
    ("unet", (1, 8, 8), (8, 12)),
    ("unet", (3, 9, 7), (8, 16, 16)),
    ("unet", (1, 1, 5), (8, 8, 8, 8)),
    ("unet", (2, 13), (8, 8)),
    ("unet", (4, 6, 5), (5,)),
    ("signal", (11,), (8, 8)),
    ("signal", (1, 5, 12), (16, 16)),
]


def randomised(network):
    """Networks start at zero: to see what reaches what, every parameter gets a value."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(std=0.3)
    return network.double()


@pytest.mark.parametrize(("kind", "shape", "widths"), NETWORKS)
def test_shapes_parameters_and_rows(kind, shape, widths):
    network = randomised(ConditionalNetwork(kind, shape, widths, classes=3))
    z = torch.randn(4, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    log_snr, label = torch.tensor([-9.0, 0.0, 2.0, 12.0], dtype=torch.float64), torch.tensor([0, 1, 2, 3])
    out = network(z, log_snr, label)
    assert out.shape == z.shape
    # Each value of a datum depends on all of it, and on no other datum.
    weights = torch.randn(z.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (slope,) = torch.autograd.grad((out * weights)[1].sum(), z, retain_graph=True)
    assert slope[1].all()
    assert not slope[[0, 2, 3]].any()
    torch.testing.assert_close(network(z[2:3], log_snr[2:3], label[2:3]), out[2:3])
    out.square().sum().backward()
    assert all(parameter.grad.any() for parameter in network.parameters())
    # It is told the noise and the label, and the label it does not know is the last one.
    assert not torch.allclose(network(z, log_snr + 1, label), out)
    assert not torch.allclose(network(z, log_snr, label.flip(0)), out)
    torch.testing.assert_close(network(z, log_snr), network(z, log_snr, torch.full((4,), 3)))


@pytest.mark.parametrize(("kind", "shape", "widths"), NETWORKS)
def test_starts_at_zero(kind, shape, widths):
    network = ConditionalNetwork(kind, shape, widths)
    assert not network(torch.randn(2, *shape), torch.zeros(2)).any()


def test_dropout_acts_in_training_alone():
    network = randomised(ConditionalNetwork("unet", (1, 4, 4), (8,), dropout=0.5))
    z = torch.ones(2, 1, 4, 4, dtype=torch.float64)
    assert not torch.equal(network(z, z[:, 0, 0, 0]), network(z, z[:, 0, 0, 0]))
    network.eval()
    assert torch.equal(network(z, z[:, 0, 0, 0]), network(z, z[:, 0, 0, 0]))
    assert any(isinstance(module, nn.Dropout) for module in network.modules())


def test_what_is_told_tells_log_snrs_apart():
    """Neighbours 0.1 apart differ, the two ends differ most: cosine similarity below 0.9."""
    waves = Condition(8).frequencies
    log_snr = torch.arange(-20, 20, 0.1)
    features = torch.cat([(log_snr[:, None] * waves).sin(), (log_snr[:, None] * waves).cos()], -1)
    distances = torch.cdist(features, features)
    distances.fill_diagonal_(torch.inf)
    assert distances.min() > 0.05
    assert torch.nn.functional.cosine_similarity(features[0], features[-1], dim=0) < 0.9


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((5,), (8,), r"signals \(C, L\) or images \(C, H, W\), and the data have shape \(5,\): use mlp or signal"),
        ((1, 2, 3, 4), (8,), r"have shape \(1, 2, 3, 4\): use mlp, or reshape them"),
        ((1, 8, 8), (8, 8, 8, 8, 8), r"has 5 scales, and data of shape \(1, 8, 8\) allow 1 to 4"),
        ((1, 1, 1), (8, 8), "allow 1 to 1"),
    ],
)
def test_shapes_that_do_not_fit(shape, channels, message):
    with pytest.raises(BadInputError, match=message):
        UNet(shape, channels, 8)
