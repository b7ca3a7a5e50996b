"""The matrix normal law is the normal law of the stacked rows, with the Kronecker product of the covariances."""

import pytest
import torch
import torch.distributions as td

from reparam.distributions.matrix_normal import MatrixNormal


@pytest.fixture
def parameters():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    def factor(n):
        return random(5, n, n).tril(-1) + torch.diag_embed(random(5, n).exp())

    return random(5, 3, 2), factor(3), factor(2)


def stacked(d):
    covariance = torch.stack([torch.kron(a, b) for a, b in zip(d.row_covariance, d.column_covariance, strict=True)])
    return td.MultivariateNormal(d.loc.flatten(-2), covariance)


def test_density_entropy_and_moments(parameters):
    d = MatrixNormal(*parameters)
    flat = stacked(d)
    x = d.sample((7,))
    assert torch.allclose(d.log_prob(x), flat.log_prob(x.flatten(-2)), rtol=1e-10)
    assert torch.allclose(d.entropy(), flat.entropy(), rtol=1e-12)
    assert torch.equal(d.mean.flatten(-2), flat.mean)
    assert torch.allclose(d.variance.flatten(-2), flat.variance, rtol=1e-12)


def test_divergence(parameters):
    loc, rows, columns = parameters
    p, q = MatrixNormal(loc, rows, columns), MatrixNormal(loc.flip(0), 2 * rows.flip(0), columns.flip(0))
    assert torch.allclose(td.kl_divergence(p, q), td.kl_divergence(stacked(p), stacked(q)), rtol=1e-10)
    assert torch.allclose(td.kl_divergence(p, p), torch.zeros(5, dtype=torch.float64), atol=1e-12)
    with pytest.raises(ValueError, match="different shapes"):
        td.kl_divergence(p, MatrixNormal(loc.mT, columns, rows))


def test_covariances_are_factored(parameters):
    loc, rows, columns = parameters
    d = MatrixNormal(loc, row_covariance=rows @ rows.mT, column_covariance=columns @ columns.mT)
    assert torch.allclose(d.row_scale_tril, rows)
    assert torch.allclose(d.column_scale_tril, columns)


def test_shapes(parameters):
    loc, rows, columns = parameters
    d = MatrixNormal(loc[0], rows, columns[:1])
    assert (d.batch_shape, d.event_shape) == ((5,), (3, 2))
    assert d.rsample((4,)).shape == (4, 5, 3, 2)
    wide = d.expand((6, 5))
    assert wide.log_prob(wide.sample()).shape == wide.entropy().shape == (6, 5)
    assert wide.variance.shape == (6, 5, 3, 2)
    # Torch cannot check the factors of an empty batch.
    empty = MatrixNormal(torch.zeros(0, 2, 2), torch.eye(2), torch.eye(2), validate_args=False)
    assert empty.sample((3,)).shape == (3, 0, 2, 2)


def test_bad_parameters_are_refused(parameters):
    loc, rows, columns = parameters
    with pytest.raises(ValueError, match="one of row_scale_tril and row_covariance"):
        MatrixNormal(loc, None, columns)
    with pytest.raises(ValueError, match="one of column_scale_tril and column_covariance"):
        MatrixNormal(loc, rows, columns, column_covariance=columns)
    with pytest.raises(ValueError, match=r"column_scale_tril has shape \(5, 3, 3\); for this loc it must end in \(2, 2\)"):
        MatrixNormal(loc, rows, rows)
    with pytest.raises(ValueError, match="row_covariance is not symmetric and positive definite"):
        MatrixNormal(loc, row_covariance=-rows @ rows.mT, column_scale_tril=columns)
    with pytest.raises(ValueError, match="must be a matrix"):
        MatrixNormal(loc[0, 0], rows, columns)
