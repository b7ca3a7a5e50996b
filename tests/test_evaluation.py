"""Evaluation: means over data, however they are split into batches."""

import math
from types import SimpleNamespace

import pytest
import torch

from reparam.models.evaluation import evaluate
from reparam.noise import Fresh
from reparam.training import Loss


class Known:
    """A model whose every term is a known function of the datum."""

    config = SimpleNamespace(latent_dim=3)

    def __init__(self):
        self.sources = []

    def loss(self, batch, source=None):
        self.sources.append(source)
        x = batch.mean(-1)
        parts = {"elbo": -x, "reconstruction": 2 * x, "kl": 3 * x}
        return Loss(x.mean(), {name: part.mean() for name, part in parts.items()})

    def log_likelihood(self, batch, k, source=None):
        self.sources.append(source)
        return -k * batch.mean(-1)

    def active_units(self, x):
        return torch.tensor([True, False, len(x) > 5])


@pytest.mark.parametrize("batch_size", [1, 4, 7, 10, 100])
def test_batches_do_not_matter(batch_size):
    x, model, source = torch.arange(20.0).reshape(10, 2), Known(), Fresh()
    found = evaluate(model, x, k=2, source=source, batch_size=batch_size)
    means = x.mean(-1).double()
    assert (found.rows, found.importance_samples, found.latent_dim, found.active_units) == (10, 2, 3, 2)
    assert (found.elbo, found.reconstruction, found.kl) == pytest.approx((-9.5, 19.0, 28.5))
    assert found.nll == pytest.approx(19.0)
    assert found.nll_error == pytest.approx(2 * math.sqrt(((means - 9.5) ** 2).sum() / 9 / 10))
    assert all(given is source for given in model.sources)


def test_one_datum_has_no_spread():
    found = evaluate(Known(), torch.ones(1, 2), k=1)
    assert (found.nll, found.nll_error, found.active_units) == (1.0, None, None)
