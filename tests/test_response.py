"""Laws of responses: their parameters against the formulas of the docstring, and their densities against those of torch."""

import math

import pytest
import torch
from torch.distributions import Normal, StudentT

from reparam.nn.response import ClassResponse, RealResponse

# Responses of shift 10, -2 and scale 4, 0.5.
Y = torch.tensor([[6.0, -2.5], [14.0, -1.5]])


def made(kind):
    response = RealResponse(kind, ("a", "b"))
    response.fit(Y)
    with torch.no_grad():
        response.log_noise.copy_(torch.tensor([0.5, 0.1]).log())
        if response.log_df is not None:
            response.log_df.copy_(torch.tensor([0.0, 3.0]))
    return response


def sized(sigma):
    """What noise of a share sigma of the standard deviation comes to: never below a thousandth of it."""
    return torch.tensor([4.0, 0.5]) * (torch.tensor(sigma).square() + 1e-6).sqrt()


def test_normal():
    law = made("normal")(torch.tensor([[[1.0, -1.0]], [[0.0, 2.0]]]))
    assert law.batch_shape == (2, 1, 2)
    torch.testing.assert_close(law.mean, torch.tensor([[[14.0, -2.5]], [[10.0, -1.0]]]))
    torch.testing.assert_close(law.stddev, sized([0.5, 0.1]).expand(2, 1, 2))


def test_heteroscedastic():
    """The first half of the outputs are means, the second ones of noise, which is that of the response at zero."""
    response = made("heteroscedastic")
    assert response.outputs == 4
    law = response(torch.tensor([[1.0, -1.0, 0.0, 3.0]]))
    torch.testing.assert_close(law.mean, torch.tensor([[14.0, -2.5]]))
    grown = torch.tensor([1.0, math.log1p(math.exp(3.0)) / math.log(2.0)]) + 1e-3
    torch.testing.assert_close(law.stddev[0], sized([0.5, 0.1]) * grown)


def test_student_t():
    """Of 2 + exp(log_df) degrees of freedom, so that there is a variance."""
    law = made("student_t")(torch.tensor([[1.0, -1.0]]))
    torch.testing.assert_close(law.df, torch.tensor([[3.0, 2.0 + math.exp(3.0)]]))
    torch.testing.assert_close(law.scale[0], sized([0.5, 0.1]))
    torch.testing.assert_close(law.variance, law.scale**2 * law.df / (law.df - 2))


@pytest.mark.parametrize("kind", ["normal", "heteroscedastic", "student_t"])
def test_the_noise_has_a_floor(kind):
    response = made(kind)
    with torch.no_grad():
        response.log_noise.fill_(-50.0)
    torch.testing.assert_close(response.noise, sized([0.0, 0.0]))


@pytest.mark.parametrize(
    ("kind", "law"), [("normal", Normal), ("student_t", lambda m, s: StudentT(torch.tensor([3.0, 22.0855]), m, s))]
)
def test_densities_are_of_all_responses_of_a_datum(kind, law):
    h, y = torch.tensor([[0.3, -1.0], [0.0, 1.0]]), torch.tensor([[12.0, -2.0], [9.0, -1.0]])
    wanted = law(torch.tensor([10.0, -2.0]) + torch.tensor([4.0, 0.5]) * h, sized([0.5, 0.1])).log_prob(y).sum(-1)
    torch.testing.assert_close(made(kind).log_prob(h, y), wanted)


def test_densities_of_classes():
    response = ClassResponse(("a", "b", "c"))
    h = torch.tensor([[0.0, 1.0, 2.0]])
    torch.testing.assert_close(response.log_prob(h, torch.tensor([2])), 2 - h.logsumexp(-1))
    assert response.outputs == 3
