"""The law of sequences against its enumeration, and the networks that it is made of."""

import itertools

import pytest
import torch
from torch.distributions import Distribution

import reparam as rp
from reparam.errors import BadInputError
from reparam.nn.sequence import RecurrentDecoder, SequenceEncoder, TransformerDecoder
from reparam.nn.token_likelihood import Sequences, TokenLikelihood
from reparam.noise import Replay
from reparam.stats import chi2_test

CODES, LENGTH = 2, 4
DECODERS = {"gru": (RecurrentDecoder, (8, 8)), "transformer": (TransformerDecoder, (8, 8))}


def fresh(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


@pytest.fixture(params=DECODERS)
def law(request):
    """Two laws, in double, that differ much from the uniform one and from each other."""
    kind, hidden = DECODERS[request.param]
    torch.manual_seed(0)
    decoder = kind(CODES, LENGTH, hidden).double()
    with torch.no_grad():
        decoder.head.weight.normal_(std=0.5)
    return Sequences(decoder, 2 * torch.randn(2, decoder.features, dtype=torch.float64))


def every_sequence():
    words = (w for n in range(LENGTH + 1) for w in itertools.product(range(1, CODES + 1), repeat=n))
    return torch.tensor([[*w, *[0] * (LENGTH - len(w))] for w in words])


def test_the_probabilities_of_all_sequences_add_up_to_one(law):
    log_p = law.log_prob(every_sequence()[:, None])
    assert log_p.shape == (31, 2)
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(2, dtype=torch.float64))
    assert (log_p[:, 0] - log_p[:, 1]).abs().max() > 0.1  # the context matters


def test_a_temperature_divides_the_logits(law):
    cold = Sequences(law.decoder, law.context, temperature=0.5)
    log_p = cold.log_prob(every_sequence()[:, None])
    torch.testing.assert_close(log_p.exp().sum(0), torch.ones(2, dtype=torch.float64))
    first = torch.log_softmax(2 * law.decoder.begin(law.context)[0], -1)
    torch.testing.assert_close(log_p[0], first[:, 0])  # the empty sequence: its end comes first


def test_samples_have_the_probabilities_of_the_law(law):
    # Numbers of the sequences in some order, spread over their cells: uniform if the law is right. False alarms: 1e-9; errors of
    # 7 % of the probabilities, in the mean square, are caught.
    every, log_p = every_sequence(), law.log_prob(every_sequence()[:, None])
    base = (CODES + 1) ** torch.arange(LENGTH)
    place = {int(word @ base): i for i, word in enumerate(every)}
    ends = log_p.exp().cumsum(0)
    x = rp.sample(law, (60_000,), source=fresh())
    assert x.shape == (60_000, 2, LENGTH)
    for column in range(2):
        found = torch.tensor([place[int(key)] for key in x[:, column] @ base])
        width = log_p[found, column].exp()
        u = ends[found, column] - width * torch.rand(len(found), dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        verdict = chi2_test(u)
        assert verdict, verdict
        assert verdict.detectable < 0.07


def test_samples_are_a_function_of_their_noise(law):
    eps = torch.rand(5, 2, LENGTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = rp.sample(law, (5,), source=Replay(eps))
    assert torch.equal(x, rp.sample(law, (5,), source=Replay(eps)))
    assert torch.equal(x[3:4], rp.sample(law, (1,), source=Replay(eps[3:4])))
    assert rp.sample(law, (6,), source=rp.Sobol(seed=0)).shape == (6, 2, LENGTH)
    assert law.support.check(x).all()


def test_greedy_decoding_takes_the_most_probable_code_at_each_step(law):
    for context, mode in zip(law.context, law.mode, strict=True):
        one, taken = Sequences(law.decoder, context), []
        for _ in range(LENGTH):
            # The probability of each next code: of all sequences that begin so.
            every = every_sequence()
            begun = every[(every[:, : len(taken)] == torch.tensor(taken, dtype=torch.int64)).all(1)]
            log_p = one.log_prob(begun)
            chances = torch.stack([log_p[begun[:, len(taken)] == code].exp().sum() for code in range(CODES + 1)])
            taken.append(int(chances.argmax()))
            if taken[-1] == 0:
                break
        assert mode.tolist() == taken + [0] * (LENGTH - len(taken))


def test_a_low_temperature_comes_to_the_mode(law):
    cold = Sequences(law.decoder, law.context, temperature=1e-3)
    assert torch.equal(rp.sample(cold, (50,), source=fresh()), law.mode.expand(50, 2, LENGTH))
    torch.testing.assert_close(cold.log_prob(every_sequence()[:, None]).exp().sum(0), torch.ones(2, dtype=torch.float64))


def test_a_hidden_code_does_not_reach_what_follows_it(law):
    x = torch.tensor([[1, 2, 1, 2], [2, 2, 1, 2]])
    seen = law.nll(x[:, None])
    hidden = law.nll((x * torch.tensor([-1, 1, 1, 1]))[:, None])
    torch.testing.assert_close(hidden[:, :, 0], seen[:, :, 0])  # the code itself counts
    assert not torch.isclose(hidden[0, :, 1:], seen[0, :, 1:]).any()
    torch.testing.assert_close(hidden[0, :, 1:], hidden[1, :, 1:])  # whichever it was
    assert not torch.isclose(seen[0, :, 1:], seen[1, :, 1:]).any()


def test_the_density_is_differentiable_in_the_context_and_broadcasts(law):
    context = law.context.clone().requires_grad_()
    p = Sequences(law.decoder, context).expand((3, 2))
    x = every_sequence()[:3, None]
    log_p = p.log_prob(x)
    assert log_p.shape == (3, 2)
    torch.testing.assert_close(log_p, law.log_prob(x))
    (gradient,) = torch.autograd.grad(log_p.sum(), context)
    assert (gradient != 0).all(1).all()
    assert Sequences(law.decoder, context[:0], validate_args=False).log_prob(x[:, :0]).shape == (3, 0)
    assert Sequences(law.decoder, context[:0], validate_args=False).sample((4,)).shape == (4, 0, LENGTH)


@pytest.mark.parametrize("value", [[1, 0, 1, 0], [3, 0, 0, 0], [-1, 0, 0, 0], [0.5, 0, 0, 0]])
def test_what_is_no_sequence_is_refused(law, value):
    with pytest.raises(ValueError, match="support"):
        Sequences(law.decoder, law.context, validate_args=True).log_prob(torch.tensor(value))
    likelihood = TokenLikelihood((LENGTH,), CODES, "gru", (8,))
    with pytest.raises(ValueError, match=r"row 1 of the batch is no sequence of codes 1\.\.2"):
        likelihood.check(torch.tensor([[1.0, 2, 0, 0], value]))


def test_a_temperature_of_zero_is_refused(law):
    with pytest.raises(ValueError, match=r"temperature=0: .* the limit of 0 is `mode`"):
        Sequences(law.decoder, law.context, temperature=0)


@pytest.mark.parametrize("network", DECODERS)
def test_an_encoder_sees_nothing_behind_the_end(network):
    torch.manual_seed(0)
    encoder = SequenceEncoder(network, 5, 8, (32,), 3).eval()
    x = torch.tensor([[1, 2, 3, 0, 0, 0, 0, 0], [4, 5, 0, 0, 0, 0, 0, 0], [0] * 8, [1] * 8])
    together = encoder(x)
    assert together.isfinite().all()
    for row, expected in zip(x, together, strict=True):
        torch.testing.assert_close(encoder(row[None])[0], expected)
    assert encoder(x[:0]).shape == (0, 3)
    changed = x.clone()
    changed[:, 0] = 2
    assert ((encoder(changed) - together).abs().max(1).values[:2] > 1e-4).all()  # of the rest there is less to see


@pytest.mark.parametrize("network", DECODERS)
def test_training_begins_with_the_frequencies_of_the_codes(network):
    torch.manual_seed(0)
    x = torch.tensor([[1, 1, 2, 0], [1, 0, 0, 0], [1, 2, 1, 1]])
    likelihood = TokenLikelihood((LENGTH,), CODES, network, (32,))
    likelihood.fit(x)
    first = likelihood.nll(torch.zeros(1, *likelihood.outputs), x)
    # With half a count added to the 2 ends, 6 ones and 2 twos; the last layer starts small.
    torch.testing.assert_close(first[0, 0], -torch.log(torch.tensor(6.5 / 11.5)), atol=0.15, rtol=0)
    torch.testing.assert_close(first[1, 1], -torch.log(torch.tensor(2.5 / 11.5)), atol=0.15, rtol=0)
    assert (first[1, 2:] == 0).all()


@pytest.mark.parametrize("hidden", [(), (8, 16)])
def test_layers_of_one_width_are_asked_for(hidden):
    for kind in (RecurrentDecoder, TransformerDecoder):
        with pytest.raises(BadInputError, match="one width for each layer, all the same"):
            kind(CODES, LENGTH, hidden)
    with pytest.raises(BadInputError, match="hidden is 71 wide: give a transformer a multiple of 32"):
        TransformerDecoder(CODES, LENGTH, (71,))


def test_it_is_a_distribution_of_torch(law):
    assert isinstance(law, Distribution)
    assert law.sample((3,)).shape == (3, *law.batch_shape, *law.event_shape)
    assert not law.has_rsample
    with pytest.raises(rp.NoPathError, match="Sequences is discrete"):
        rp.rsample(law)
