"""The flow as a model: densities with known truths, counts, conditioning, data and densities to fit, and what it refuses."""

import itertools
import math

import pytest
import torch
from torch.distributions import Normal

import reparam as rp
from reparam.data import DataWarning, from_tensor, load
from reparam.errors import BadInputError
from reparam.models.flow import Config, Flow
from reparam.models.targets import TARGETS, given, target
from reparam.noise import Fresh
from reparam.stats import chi2_test, mean_test

SMALL = {"transforms": 2, "bins": 4, "hidden": (8,)}


def fresh(seed=0):
    return Fresh(torch.Generator().manual_seed(seed))


def normal(n, *shape, seed=0):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def counts(n, shape, levels, seed=0):
    return torch.randint(levels + 1, (n, *shape), generator=torch.Generator().manual_seed(seed)).float()


def shaken(flow, spread=1.0):
    """The same flow with random weights."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(0, 0.5 * spread)
            else:
                parameter.mul_(3 * spread)
    return flow.eval()


def trained(flow, batches, rate=1e-2):
    """The losses of steps on batches."""
    optimizer, losses, source = torch.optim.Adam(flow.parameters(), rate), [], fresh()
    for batch in batches:
        optimizer.zero_grad()
        loss = flow.loss(batch, source)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimizer.step()
        losses.append(loss.total.item())
    return losses


# Densities.


def test_at_the_start_it_is_the_normal_of_the_data():
    x = 100 + 5 * normal(200, 3)
    flow = Flow(Config(**SMALL), (3,))
    with torch.no_grad():
        for part in list(flow.bijection.parts)[1:]:
            part.net[-1].weight.zero_()
    flow.start_at(x)
    truth = Normal(x.mean(0), x.std(0, correction=0)).log_prob(x).sum(-1)
    torch.testing.assert_close(flow.log_prob(x), truth, rtol=1e-4, atol=1e-4)


def test_probabilities_of_counts_add_up_to_one():
    """All 16 pairs of 0..3: 2000-fold importance-weighted bounds against the integrals of the density over their cells, to 5 %."""
    flow = Flow(Config(**SMALL), (2,), levels=3)
    flow.start_at(counts(100, (2,), 3))
    shaken(flow, 0.5)
    x = torch.cartesian_prod(*[torch.arange(4.0)] * 2)
    log_p = flow.log_prob(x, k=2000, source=rp.Sobol(seed=0))
    t = (torch.arange(400) + 0.5) / 100
    cells = flow.law().log_prob(torch.cartesian_prod(t, t)).exp().reshape(4, 100, 4, 100).mean((1, 3)).flatten()
    assert abs(cells.sum().item() - 1) < 1e-2
    torch.testing.assert_close(log_p.exp(), cells, rtol=5e-2, atol=2e-3)
    one = torch.stack([flow.log_prob(x, source=fresh(i)) for i in range(50)]).mean(0)
    assert (one < log_p).all()
    drawn = flow.sample(4000, fresh())
    place, up = (4 * drawn[:, 0] + drawn[:, 1]).long(), (cells / cells.sum()).double().cumsum(0)
    share = torch.rand(4000, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    verdict = chi2_test(up[place] - share * torch.diff(up, prepend=torch.zeros(1))[place])
    assert verdict, verdict


@pytest.mark.parametrize(("values", "condition"), [*itertools.product(("real", "binary", "counts"), (False, True))])
def test_every_cell_trains_samples_and_evaluates(values, condition):
    x = {"real": 3 * normal(64, 2, 2, 2), "binary": counts(64, (2, 2, 2), 1), "counts": counts(64, (2, 2, 2), 7)}[values]
    data = from_tensor(x, torch.arange(64) % 3 + 5, name="made")
    flow = Flow.for_data(Config(coupling=True, conditional=condition, **SMALL), data)
    inputs = flow.inputs(data)
    loss = flow(inputs, fresh())
    loss.total.backward()
    assert set(loss.parts) == {flow.monitor.part} == {"log_likelihood"}
    assert not loss.parts["log_likelihood"].requires_grad
    flow.eval()
    found = flow.evaluate(inputs, k=3, source=fresh(), batch_size=50)
    assert found.rows == 64
    assert (found.bits_per_dim is None) == (values == "real")
    assert found.lines()
    assert found.tiles()
    if values != "real":
        assert found.bits_per_dim == pytest.approx(-found.log_likelihood / 8 / math.log(2))
    drawn = flow.sample(10, fresh(), label="6" if condition else None)
    assert drawn.shape == (10, 2, 2, 2)
    assert torch.equal(drawn, flow.sample(10, fresh(), label="6" if condition else None))
    if values != "real":
        assert ((drawn == drawn.round()) & (drawn >= 0) & (drawn <= data.levels if data.levels else drawn <= 1)).all()
    record = {"shape": list(data.shape), "values": data.values, "levels": data.levels, "classes": data.classes}
    again = Flow.from_record(flow.config, record).eval()
    again.load_state_dict(flow.state_dict())
    torch.testing.assert_close(again.sample(10, fresh()), flow.sample(10, fresh()))
    context = data.places[:10] if condition else None
    z = flow.pull(x[:10], context)
    torch.testing.assert_close(flow.push(z, context), x[:10] + (values != "real") * 0.5, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_precision_is_that_of_the_model(dtype):
    flow = shaken(Flow(Config(**SMALL), (3,)).to(dtype))
    x = normal(5, 3).to(dtype)
    assert flow.log_prob(x).dtype == flow.sample(4).dtype == flow.rsample(4).dtype == dtype
    torch.testing.assert_close(flow.push(flow.pull(x)), x, rtol=0, atol=1e-9 if dtype == torch.float64 else 1e-3)


def test_reals_of_an_interval_stay_there():
    """Of fourth powers of uniforms, whose mean log-density is 6 - 4 log 2 = 3.23 nats."""
    x = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)) ** 4
    flow = Flow(Config(interval=(0.0, 1.0), **SMALL), (2,))
    flow.start_at(x)
    losses = trained(flow, x.split(100) * 4)
    assert sum(losses[-5:]) / 5 == pytest.approx(-3.23, abs=0.5)
    drawn = flow.eval().sample(1000, fresh())
    assert (drawn > -1e-5).all()
    assert (drawn < 1 + 1e-5).all()
    assert flow.law().log_prob(torch.tensor([[0.5, 1.5]])).item() == -math.inf
    assert flow.log_prob(torch.tensor([[0.0, 1.0]])).isfinite().all()
    with pytest.raises(ValueError, match="of reals in"):
        flow.log_prob(torch.tensor([[0.5, 1.5]]))


# Learning.


def test_two_moons_by_label():
    """Of 100 steps; the entropy of a half circle of noise 0.08 is near -0.3 nats: below it the moons are told apart."""
    data = load("moons")
    torch.manual_seed(0)
    flow = Flow.for_data(Config(conditional=True, transforms=2, hidden=(32,)), data)
    order = torch.randint(len(data), (100, 128), generator=torch.Generator().manual_seed(0))
    losses = trained(flow, [(data.x[rows], data.places[rows]) for rows in order])
    assert losses[0] > 1.5
    assert sum(losses[-20:]) / 20 < 0.5
    flow.eval()
    for label, (centre, side) in {"0": ((0.0, 0.0), 1), "1": ((1.0, 0.5), -1)}.items():
        drawn = flow.sample(500, fresh(), label=label) - torch.tensor(centre)
        near = ((drawn.norm(dim=-1) - 1).abs() < 0.3) & (side * drawn[:, 1] > -0.3)
        assert near.float().mean() > 0.9
    assert flow.sample(2000, fresh()).mean(0).sub(data.x.mean(0)).abs().max() < 0.1


def test_context_of_reals():
    """x | c ~ N(2 c, 0.5^2): the mean of samples within 0.15 of the truth, for contexts within the data."""
    c = 10 + 3 * normal(2000, 1, seed=1)
    x = 2 * c + 0.5 * normal(2000, 1)
    torch.manual_seed(0)
    config = Config(family="maf", transforms=1, hidden=(16,), context=1)
    flow = Flow(config, (1,))
    flow.start_at(x, c)
    trained(flow, [(x[rows], c[rows]) for rows in torch.randint(2000, (250, 128), generator=torch.Generator().manual_seed(0))])
    flow.eval()
    where = torch.tensor([[8.0], [12.0]])
    drawn = rp.sample(flow.law(where), (2000,), source=fresh())
    assert (drawn.mean(0) - 2 * where).abs().max() < 0.4
    assert (drawn.std(0) - 0.5).abs().max() < 0.15
    again = Flow.from_record(config, {"shape": [1], "values": "real", "levels": None, "classes": None}).eval()
    again.load_state_dict(flow.state_dict())
    torch.testing.assert_close(again.log_prob(x[:5], c[:5]), flow.log_prob(x[:5].double(), c[:5].double()))
    with pytest.raises(BadInputError, match=r"draw from flow.law\(context\)"):
        flow.sample(3)
    with pytest.raises(ValueError, match=r"... x 1"):
        flow.law(torch.zeros(2, 3))


# Densities to fit.


@pytest.mark.parametrize("name", ["banana", "ring", "mixture"])
def test_normalisers_are_the_integrals(name):
    found = TARGETS[name]
    t = torch.linspace(-20, 40, 401, dtype=torch.float64)
    value = found.log_density(torch.cartesian_prod(t, t)).exp().sum() * (t[1] - t[0]) ** 2
    assert value.log().item() == pytest.approx(found.log_normaliser, abs=1e-4)


def test_funnel_is_a_product_of_normals():
    z = normal(20, 10).double()
    x = torch.cat([3 * z[:, :1], z[:, 1:] * (1.5 * z[:, :1]).exp()], 1)
    truth = Normal(0.0, 3.0).log_prob(x[:, 0]) + Normal(0.0, (x[:, :1] / 2).exp()).log_prob(x[:, 1:]).sum(-1)
    torch.testing.assert_close(TARGETS["funnel"].log_density(x), truth)
    far = torch.tensor([[-1e3, *[1.0] * 9], [1e3, *[1.0] * 9]], requires_grad=True)
    TARGETS["funnel"].log_density(far).sum().backward()
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("estimator", ["pathwise", "leave_one_out", "score"])
def test_reverse_divergence_reaches_the_normaliser(estimator, tmp_path, monkeypatch):
    """A correlated normal times e^3, 2 columns: the bound rises from below 0 to 3, which it must not pass."""
    (tmp_path / f"mine_{estimator}.py").write_text(
        "import torch\nP = torch.tensor([[2.0, 1.2], [1.2, 1.0]])\n"
        "def f():\n"
        "    z = 3 - torch.logdet(2 * torch.pi * P.inverse()).item() / 2\n"
        "    return (lambda x: z - 0.5 * ((x - 2) @ P * (x - 2)).sum(-1)), 2, 3.0\n"
    )
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    config = Config(family="maf", transforms=2, hidden=(8,), target=f"mine_{estimator}:f", estimator=estimator)
    flow = Flow.for_data(config, from_tensor(normal(4, 1), name="none"))
    assert flow.shape == (2,)
    assert flow.monitor.part == "elbo"
    rows = torch.zeros(128, 1)
    losses = trained(flow, [rows] * (120 if estimator == "pathwise" else 300), rate=3e-2)
    assert losses[0] > 0
    found = flow.eval().evaluate(torch.zeros(4000, 1), source=fresh(), batch_size=1000)
    assert found.rows == 4000
    assert found.elbo < 3 + 7 * found.elbo_error
    assert found.elbo > 2.9
    assert abs(found.log_normaliser - 3) < 0.05
    assert found.effective_share > 0.8
    assert found.true_log_normaliser == 3
    assert len(found.lines()) == len(found.tiles()) == 3
    parts = flow.loss(rows, fresh()).parts
    torch.testing.assert_close(parts["elbo"], parts["log_density"] + parts["entropy"])
    # Loaded from a record, the name alone imports nothing.
    monkeypatch.setattr("reparam.models.targets._OWN", {})
    again = Flow.from_record(config, {"shape": [2], "values": "real", "levels": None, "classes": None})
    again.load_state_dict(flow.state_dict())
    assert again.sample(3).shape == (3, 2)
    with pytest.raises(BadInputError, match="files import nothing"):
        again.evaluate(torch.zeros(5, 1))


@pytest.mark.parametrize("source", [rp.Sobol, lambda seed: rp.Antithetic(fresh(seed))])
def test_reverse_divergence_takes_other_noise(source):
    flow = Flow(Config(target="ring", **SMALL), (2,))
    mine, other = (torch.stack([flow.loss(torch.zeros(64, 1), s).total.detach() for _ in range(30)]) for s in (source(0), fresh(1)))
    assert mean_test(mine - other, 0.0)
    if source is rp.Sobol:  # mirrored pairs do not help an even cost
        assert mine.std() < 0.8 * other.std()


def test_targets_of_users_that_are_none(tmp_path, monkeypatch):
    (tmp_path / "theirs.py").write_text(
        "import torch\n"
        "def number(): return 3\n"
        "def raises(): raise RuntimeError('no')\n"
        "def shape(): return (lambda x: x), 2\n"
        "def fails(): return (lambda x: x @ torch.eye(5)), 2\n"
        "one = 1\n"
    )
    monkeypatch.chdir(tmp_path)
    cases = {
        "funel": "did you mean funnel",
        "theirs:number": r"returned int: it must return \(log_density, dim\)",
        "theirs:raises": "fails with RuntimeError: no",
        "theirs:shape": r"shape \(2, 2\): give a number a row",
        "theirs:fails": "log_density fails with RuntimeError",
        "theirs:one": "has no function one",
        "nowhere:f": "no module nowhere",
    }
    for name, words in cases.items():
        with pytest.raises(BadInputError, match=words):
            target(name)
        assert given(name) is None


# What it refuses.


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"family": "naf"}, "family='naf': give one of nsf, maf"),
        ({"transforms": 0}, "at least one transform"),
        ({"hidden": (0,)}, "positive widths"),
        ({"bins": 1}, "at least 2"),
        ({"dropout": 1.0}, "from 0 to below 1"),
        ({"interval": (1.0, 0.0)}, "the lower one first"),
        ({"interval": (0.0, 1.0), "logit": False}, "leave one out"),
        ({"target": "ring", "conditional": True}, "conditional is for data"),
        ({"target": "ring", "dropout": 0.1}, "dropout is for data"),
        ({"context": 2, "conditional": True}, "or neither"),
        ({"estimator": "score"}, "is for a target"),
    ],
)
def test_settings_that_make_no_flow(settings, words):
    with pytest.raises(BadInputError, match=words):
        Config(**settings)


def test_data_that_make_no_flow():
    with pytest.raises(BadInputError, match="the data have no labels"):
        Flow.for_data(Config(conditional=True), from_tensor(normal(9, 2), name="bare"))
    with pytest.raises(BadInputError, match="give interval"):
        Flow(Config(logit=True), (2,))
    with pytest.raises(BadInputError, match="is for reals"):
        Flow(Config(interval=(0.0, 1.0)), (2,), levels=3)
    with pytest.raises(BadInputError, match="column 1 of the training data is constant, 7"):
        Flow.for_data(Config(), from_tensor(torch.stack([normal(20), torch.full((20,), 7.0)], 1), name="flat"))
    few = torch.stack([normal(200), (torch.arange(200) % 3) + 0.5], 1)
    with pytest.warns(DataWarning, match="column 1 of the training data has at most 10 different values"):
        Flow.for_data(Config(**SMALL), from_tensor(few, name="few"))


def test_batches_that_do_not_fit():
    flow = Flow(Config(**SMALL), (2,), levels=3).eval()
    with pytest.raises(ValueError, match=r"has shape \(4, 3\): this model takes N x 2"):
        flow.loss(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"counts 0\.\.3"):
        flow.log_prob(torch.full((4, 2), 4.0))
    with pytest.raises(ValueError, match="NaN or infinite"):
        flow.log_prob(torch.full((4, 2), math.nan))
    with pytest.raises(ValueError, match="give at least 1"):
        flow.log_prob(torch.zeros(4, 2), k=0)
    with pytest.raises(ValueError, match="not conditional"):
        flow.law(torch.zeros(4))
    with pytest.raises(BadInputError, match="trained without labels"):
        flow.sample(3, label="a")
    conditional = Flow(Config(conditional=True, **SMALL), (2,), classes=("a", "b"))
    with pytest.raises(BadInputError, match="label 'c' is none that this model knows: give one of a, b"):
        conditional.sample(3, label="c")
    with pytest.raises(ValueError, match="its context is None: give a tensor of places of labels"):
        conditional.log_prob(torch.zeros(4, 2))
    for wrong in (torch.zeros(4), torch.tensor([0, 2]), torch.tensor([True])):
        with pytest.raises(ValueError, match=r"whole numbers 0\.\.1"):
            conditional.law(wrong)
    with pytest.raises(ValueError, match=r"of \(3,\) data, the batch of 4"):
        conditional.log_prob(torch.zeros(4, 2), torch.tensor([0, 1, 1]))
    other = from_tensor(normal(4, 2), torch.tensor([7, 7, 8, 8]), name="other")
    with pytest.raises(BadInputError, match="label '7' is none that this model knows"):
        conditional.inputs(other)
    with pytest.raises(BadInputError, match="has no labels"):
        conditional.inputs(from_tensor(normal(4, 2), name="bare"))


def test_labels_are_known_by_their_names():
    """Of data that hold fewer of the classes, places are other numbers."""
    flow = Flow(Config(conditional=True, **SMALL), (2,), classes=("5", "6", "7"))
    _, places = flow.inputs(from_tensor(normal(3, 2), torch.tensor([7, 7, 6]), name="other"))
    assert places.tolist() == [2, 2, 1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.uint8, torch.int64])
def test_batches_of_any_dtype(dtype):
    flow = shaken(Flow(Config(**SMALL), (2,), levels=3))
    x = counts(5, (2,), 3)
    torch.testing.assert_close(flow.log_prob(x.to(dtype), source=fresh()), flow.log_prob(x, source=fresh()))
    torch.testing.assert_close(flow.pull(x.to(dtype)), flow.pull(x))
    assert flow.loss(x.to(dtype), fresh()).total.dtype == torch.float32


def test_samples_that_depend_on_each_other_are_not_compared():
    flow = Flow(Config(target="ring", estimator="leave_one_out", **SMALL), (2,))
    with pytest.raises(BadInputError, match=r"depend on each other.*or fresh noise"):
        flow.loss(torch.zeros(8, 1), rp.Sobol(0))
    assert flow.eval().loss(torch.zeros(1, 1), rp.Sobol(0)).total.isfinite()
