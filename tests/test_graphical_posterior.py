"""Queries of graphical models against brute force over small networks, and against closed forms of normal ones."""

import itertools
import math
from dataclasses import replace

import pandas as pd
import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Independent, MultivariateNormal, Normal, Poisson

import reparam as rp
from reparam.data.frame import from_frame
from reparam.errors import BadInputError
from reparam.graphical.posterior import Posterior
from reparam.models.graphical import Config, Graphical, Node, fit, select
from reparam.stats import detectable_mean, mean_test

ALPHA = 1e-6


def source(seed=0):
    return rp.Fresh(torch.Generator().manual_seed(seed))


# Asia (Lauritzen and Spiegelhalter, 1988): P(node = 1 | parents), for each value of the parents in order.
ASIA = {
    "asia": ((), [0.01]),
    "tub": (("asia",), [0.01, 0.05]),
    "smoke": ((), [0.5]),
    "lung": (("smoke",), [0.01, 0.1]),
    "bronc": (("smoke",), [0.3, 0.6]),
    "either": (("lung", "tub"), [0.001, 0.999, 0.999, 0.998]),
    "xray": (("either",), [0.05, 0.98]),
    "dysp": (("bronc", "either"), [0.1, 0.7, 0.8, 0.9]),
}


def coin(table):
    """A law of a coin given coins: a product of indices into its table."""
    p = torch.tensor(table)

    def law(*parents):
        place = torch.zeros(1, dtype=torch.int64)
        for parent in parents:
            place = 2 * place + parent.long()
        return Bernoulli(p[place])

    return law


def network(tables):
    return Graphical([Node(name, coin(p), parents=parents) for name, (parents, p) in tables.items()])


def brute(tables, query, evidence, cut=()):
    """P(query = 1 | evidence), by the sum over all rows of the joint table; nodes that are cut have no factor."""
    names, total, hit = list(tables), 0.0, 0.0
    for row in itertools.product((0, 1), repeat=len(names)):
        value = dict(zip(names, row, strict=True))
        if any(value[name] != known for name, known in evidence.items()):
            continue
        p = 1.0
        for name, (parents, table) in tables.items():
            if name in cut:
                continue
            place = 0
            for parent in parents:
                place = 2 * place + value[parent]
            p *= table[place] if value[name] else 1 - table[place]
        total, hit = total + p, hit + p * value[query]
    return hit / total


class TestDiscrete:
    @pytest.mark.parametrize(
        "evidence",
        [{}, {"dysp": 1}, {"xray": 1, "smoke": 0}, {"dysp": 1, "xray": 1, "asia": 1}, {"tub": 1, "lung": 0}, {"smoke": 1}],
    )
    def test_posterior_of_asia_is_the_sum_over_all_its_rows(self, evidence):
        model = network(ASIA)
        asked = [name for name in ASIA if name not in evidence]
        found = model.posterior(asked, evidence)
        assert bool(found.effective.isinf().all())
        for name in asked:
            assert found.mean(name).item() == pytest.approx(brute(ASIA, name, evidence), abs=1e-5)
            assert found.probs(name)[1].item() == pytest.approx(brute(ASIA, name, evidence), abs=1e-5)

    @pytest.mark.parametrize("cut", [{"smoke": 1}, {"lung": 1}, {"bronc": 0, "tub": 1}])
    @pytest.mark.parametrize("evidence", [{}, {"dysp": 1}, {"xray": 0}])
    def test_do_drops_the_factors_of_what_is_set(self, cut, evidence):
        model = network(ASIA).do(cut)
        for name in ("asia", "either", "dysp", "xray"):
            if name not in evidence:
                exact = brute(ASIA, name, evidence | cut, cut)
                assert model.posterior(name, evidence).mean(name).item() == pytest.approx(exact, abs=1e-5)

    def test_seeing_is_not_doing_and_a_back_door_is_closed_by_adjustment(self):
        """P(y | do x) = Σ_z P(z) P(y | x, z), where z is a cause of both."""
        pz, px, py = 0.3, [0.2, 0.9], [[0.1, 0.5], [0.4, 0.95]]  # py[x][z]
        tables = {"z": ((), [pz]), "x": (("z",), px), "y": (("x", "z"), py[0] + py[1])}
        model = network(tables)
        adjusted = (1 - pz) * py[1][0] + pz * py[1][1]
        assert model.do({"x": 1}).posterior("y", {}).mean("y").item() == pytest.approx(adjusted, abs=1e-6)
        seen = model.posterior("y", {"x": 1}).mean("y").item()
        assert seen == pytest.approx(brute(tables, "y", {"x": 1}), abs=1e-6)
        assert seen > adjusted + 0.1
        # The cause is informed by seeing its effect, and not by setting it.
        assert model.do({"x": 1}).posterior("z", {}).mean("z").item() == pytest.approx(pz, abs=1e-6)

    def test_setting_a_collider_leaves_its_causes_independent(self):
        tables = {"a": ((), [0.3]), "b": ((), [0.6]), "c": (("a", "b"), [0.1, 0.8, 0.7, 0.95])}
        model = network(tables)
        for b in (0, 1):
            assert model.do({"c": 1}).posterior("a", {"b": b}).mean("a").item() == pytest.approx(0.3, abs=1e-6)
        explained = [model.posterior("a", {"b": b, "c": 1}).mean("a").item() for b in (0, 1)]
        assert explained[0] > explained[1] + 0.1

    def test_rows_of_evidence_with_gaps_are_answered_one_by_one(self):
        model = network(ASIA)
        rows = {"dysp": [1, 0, math.nan, None], "xray": [1, None, 0, None]}
        found = model.posterior(["lung", "dysp"], rows)
        assert found.mean("lung").shape == (4,)
        for i in range(4):
            known = {name: values[i] for name, values in rows.items() if values[i] in (0, 1)}
            for name in ("lung", "dysp"):
                exact = known.get(name, brute(ASIA, name, known))
                assert found.mean(name)[i].item() == pytest.approx(exact, abs=1e-5)
                assert model.posterior(name, known).mean(name).item() == pytest.approx(exact, abs=1e-5)

    def test_draws_are_of_the_joint_posterior(self):
        """Chi-squared over the eight values of three nodes, with systematic draws, which vary less than independent ones."""
        model = network(ASIA)
        n = 20_000
        drawn = model.posterior(["lung", "bronc", "smoke"], {"dysp": 1}).joint(n, source=source())
        place = (4 * drawn["lung"] + 2 * drawn["bronc"] + drawn["smoke"]).long()
        for value in range(8):
            lung, bronc, smoke = value >> 2 & 1, value >> 1 & 1, value & 1
            p = _joint(ASIA, {"lung": lung, "bronc": bronc, "smoke": smoke, "dysp": 1}) / _joint(ASIA, {"dysp": 1})
            assert abs((place == value).double().mean().item() - p) <= detectable_mean(n, math.sqrt(p * (1 - p)), ALPHA)

    def test_long_chains_are_summed_node_by_node(self):
        """Sixty coins in a row: 2^60 configurations, tables of four."""
        tables = {"c0": ((), [0.5])} | {f"c{i}": ((f"c{i - 1}",), [0.1, 0.8]) for i in range(1, 60)}
        model = network(tables)
        p = 1.0
        for _ in range(59):
            p = 0.1 + 0.7 * p
        assert model.posterior("c59", {"c0": 1}).mean("c59").item() == pytest.approx(p, abs=1e-5)

    def test_categories_and_vectors_of_coins(self):
        table = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
        model = Graphical([
            Node("a", lambda: Bernoulli(torch.tensor([0.4]))),
            Node("c", lambda a: Categorical(probs=table[a.long()])),
            Node("v", lambda c: Independent(Bernoulli(torch.tensor([[0.9, 0.5], [0.5, 0.5], [0.1, 0.2]])[c]), 1)),
        ])  # fmt: skip
        p = torch.tensor([0.6, 0.4]) @ table
        assert torch.allclose(model.posterior("c", {}).probs("c"), p)
        likely = p * torch.tensor([0.9 * 0.5, 0.25, 0.1 * 0.8])
        found = model.posterior(["c", "a"], {"v": [1, 0]})
        assert torch.allclose(found.probs("c"), likely / likely.sum())
        assert model.posterior("v", {"c": 2}).mean("v").tolist() == pytest.approx([0.1, 0.2])
        assert model.posterior("v", {"c": 2}).probs("v").shape == (4,)


def _joint(tables, evidence):
    total = 0.0
    for row in itertools.product((0, 1), repeat=len(tables)):
        value = dict(zip(tables, row, strict=True))
        if all(value[name] == known for name, known in evidence.items()):
            p = 1.0
            for name, (parents, table) in tables.items():
                place = 0
                for parent in parents:
                    place = 2 * place + value[parent]
                p *= table[place] if value[name] else 1 - table[place]
            total += p
    return total


def chain():
    """x -> y -> z, and w beside: y = 2x + e, z = y - 1 + e, with variances 1, 0.5, 0.8."""
    return Graphical([
        Node("x", lambda: Normal(0.0, 1.0)),
        Node("y", lambda x: Normal(2 * x, math.sqrt(0.5))),
        Node("z", lambda y: Normal(y - 1, math.sqrt(0.8))),
    ])  # fmt: skip


class TestNormal:
    # Of (x, y, z): the mean and covariance of the chain.
    MEAN = torch.tensor([0.0, 0.0, -1.0])
    COV = torch.tensor([[1.0, 2.0, 2.0], [2.0, 4.5, 4.5], [2.0, 4.5, 5.3]])

    def test_posterior_by_weights_is_the_conditional_normal(self):
        """Of 40 000 weighted draws; false alarms 1e-6 for each number, errors above 6 standard errors are caught."""
        n = 40_000
        found = chain().posterior(["x", "y"], {"z": 1.5}, n=n, source=source())
        gain = self.COV[:2, 2] / self.COV[2, 2]
        mean = self.MEAN[:2] + gain * (1.5 - self.MEAN[2])
        sd = (self.COV[:2, :2].diagonal() - gain * self.COV[2, :2]).sqrt()
        effective = found.effective.item()
        assert effective > n / 10
        for i, name in enumerate(("x", "y")):
            assert abs(found.mean(name) - mean[i]) < detectable_mean(int(effective), sd[i].item(), ALPHA)
            assert abs(found.sd(name) / sd[i] - 1) < 7 / math.sqrt(2 * effective)
            low, high = found.quantile(name, [0.1, 0.9])
            assert abs((high - low) / (2 * 1.2816 * sd[i]) - 1) < 0.08

    def test_without_evidence_below_them_all_draws_count_alike(self):
        found = chain().posterior("z", {"x": 0.5}, n=20_000, source=source())
        assert found.effective.item() == pytest.approx(20_000, rel=1e-3)
        value = found.values["z"].flatten()
        assert mean_test(value, 0.0, alpha=ALPHA)
        assert found.sd("z").item() == pytest.approx(math.sqrt(1.3), rel=0.05)

    def test_do_cuts_a_normal_chain(self):
        model = chain().do({"y": 3.0})
        assert mean_test(model.posterior("x", {}, n=10_000, source=source()).values["x"].flatten(), 0.0, alpha=ALPHA)
        assert mean_test(model.posterior("z", {}, n=10_000, source=source()).values["z"].flatten(), 2.0, alpha=ALPHA)

    def test_a_mixture_is_summed_over_classes_and_drawn_within_them(self):
        """P(c | x) is exact; the latent z between class and x has a draw for each class."""
        loc = torch.tensor([-2.0, 0.0, 3.0])
        model = Graphical([
            Node("c", lambda: Categorical(torch.tensor([0.2, 0.5, 0.3]))),
            Node("z", lambda c: Normal(select(loc, c), 1.0)),
            Node("x", lambda z: Normal(z, 0.5)),
        ])  # fmt: skip
        density = torch.tensor([0.2, 0.5, 0.3]) * Normal(loc, math.sqrt(1.25)).log_prob(torch.tensor(1.0)).exp()
        p = density / density.sum()
        found = model.posterior(["c", "z"], {"x": 1.0}, n=50_000, source=source())
        assert torch.allclose(found.probs("c"), p, atol=0.01)
        mean = (p * (loc + (1.0 - loc) / 1.25)).sum()
        assert abs(found.mean("z") - mean) < 0.03
        drawn = found.joint(50_000, source=source(1))
        inside = drawn["z"][drawn["c"] == 2].mean()
        assert abs(inside - (3.0 - 2.0 / 1.25)) < 0.1

    def test_vectors_are_drawn_whole(self):
        cov = torch.tensor([[1.0, 0.8], [0.8, 1.0]])
        model = Graphical([
            Node("v", lambda: MultivariateNormal(torch.zeros(2), cov)),
            Node("y", lambda v: Normal(v[..., 0], 0.5)),
        ])  # fmt: skip
        found = model.posterior("v", {"y": [1.0, -2.0]}, n=40_000, source=source())
        assert found.mean("v").shape == (2, 2)
        for i, y in enumerate((1.0, -2.0)):
            assert torch.allclose(found.mean("v")[i], torch.tensor([0.8, 0.64]) * y, atol=0.05)
        drawn = found.draws("v", 5000, source=source())
        assert drawn.shape == (5000, 2, 2)

    def test_many_rows_come_in_chunks_with_the_same_answers(self, monkeypatch):
        evidence = {"z": torch.linspace(-2.0, 2.0, 7)}
        gain = 2.0 / 5.3
        from reparam.graphical import particles

        for chunk in (2**18, 2500):
            monkeypatch.setattr(particles, "_CHUNK", chunk)
            found = chain().posterior("x", evidence, n=1000, source=source())
            assert found.values["x"].shape == (1000, 7)
            assert torch.allclose(found.mean("x"), gain * (evidence["z"] + 1), atol=0.15)

    def test_counts_are_drawn_and_listed(self):
        model = Graphical([Node("k", lambda: Poisson(torch.tensor([3.0])))])
        found = model.posterior("k", {}, n=20_000, source=source())
        assert found.support("k")[:3].tolist() == [0, 1, 2]
        assert found.probs("k")[0].item() == pytest.approx(math.exp(-3.0), abs=0.01)

    def test_few_effective_draws_are_said(self):
        with pytest.warns(RuntimeWarning, match="effective of 1000 draws"):
            chain().posterior("x", {"z": 14.0}, n=1000, source=source())


def conjugate(y, **config):
    """mu ~ N(0, 1) shared, y ~ N(mu, 1), fitted: the guide starts at the exact posterior."""
    nodes = [Node("mu", lambda: Normal(0.0, 1.0), shared=True), Node("y", lambda mu: Normal(mu, 1.0))]
    return Graphical(nodes, Config(**config), data={"y": y})


class TestShared:
    Y = torch.tensor([0.5, 1.5, 2.5, 1.0])

    def test_posterior_about_data_is_that_of_the_guide(self):
        found = conjugate(self.Y).posterior("mu", n=20_000, source=source())
        assert found.mean("mu").shape == ()
        assert abs(found.mean("mu") - 5.5 / 5) < 0.02
        assert abs(found.sd("mu") * math.sqrt(5) - 1) < 0.05

    def test_evidence_about_a_new_row_informs_about_what_is_shared(self):
        found = conjugate(self.Y).posterior("mu", {"y": 4.0}, n=40_000, source=source())
        assert abs(found.mean("mu") - 9.5 / 6) < 0.03
        assert abs(found.sd("mu") * math.sqrt(6) - 1) < 0.05

    def test_the_posterior_predictive_law_has_the_spread_of_both(self):
        found = conjugate(self.Y).simulate(40_000, source=source())
        assert abs(found["y"].mean() - 1.1) < 0.05
        assert abs(found["y"].std() / math.sqrt(1.2) - 1) < 0.04
        prior = conjugate(self.Y).simulate(40_000, prior=True, source=source())
        assert abs(prior["y"].std() / math.sqrt(2.0) - 1) < 0.04

    def test_log_evidence_is_the_marginal_likelihood(self):
        """log N(y; 0, I + 11'): the guide is the posterior, so that every weight is the same."""
        found = conjugate(self.Y).log_evidence(2000, source=source())
        exact = MultivariateNormal(torch.zeros(4), torch.eye(4) + 1.0).log_prob(self.Y).item()
        assert found.value == pytest.approx(exact, abs=0.01)
        assert found.error < 0.01
        assert found.effective > 1900
        assert found.rows == 4

    def test_log_evidence_of_a_sum_is_exact(self):
        model = Graphical(
            [Node("c", lambda: Bernoulli(torch.tensor([0.3]))), Node("y", lambda c: Normal(4 * c, 1.0))],
            data={"y": torch.tensor([0.0, 3.0])},
        )
        found = model.log_evidence()
        density = 0.7 * Normal(0.0, 1.0).log_prob(torch.tensor([0.0, 3.0])).exp()
        density += 0.3 * Normal(4.0, 1.0).log_prob(torch.tensor([0.0, 3.0])).exp()
        assert found.value == pytest.approx(density.log().sum().item(), abs=1e-5)
        assert found.error == 0.0
        assert "exact" in str(found)


class TestRowLatents:
    """z ~ N(0, 1) for each row, y ~ N(z, 0.5): the posterior of z is N(0.8 y, 0.2)."""

    def test_a_network_of_the_row_proposes_and_the_weights_make_it_exact(self):
        """Whatever a few steps have made of the guide: 20 000 weighted draws, means within 7 standard errors."""
        y = 1.2 * torch.randn(32, generator=torch.Generator().manual_seed(0))
        nodes = [Node("z", lambda: Normal(0.0, 1.0)), Node("y", lambda z: Normal(z, 0.5))]
        model = Graphical(nodes, Config(amortised=True, guide="mean_field", hidden=(4,)), data={"y": y})
        fit(model, {"y": y}, steps=20)
        asked = torch.tensor([1.5, -2.0, torch.nan])
        found = model.posterior("z", {"y": asked}, n=20_000, source=source())
        exact = [(1.2, 0.2), (-1.6, 0.2), (0.0, 1.0)]
        for i, (mean, variance) in enumerate(exact):
            effective = found.effective[i].item()
            assert effective > 500
            assert abs(found.mean("z")[i] - mean) < 7 * math.sqrt(variance / effective)
        about = model.log_evidence(2000, source=source(1))
        assert about.error < 0.3
        assert about.value == pytest.approx(Normal(0.0, math.sqrt(1.25)).log_prob(y).sum().item(), abs=max(0.05, 6 * about.error))

    def test_gaps_on_which_something_depends_come_from_the_guide(self):
        data = {"z": [0.5, None, -1.0, None], "y": [0.4, 1.6, -1.2, -2.0]}
        nodes = [Node("z", lambda: Normal(0.0, 1.0)), Node("y", lambda z: Normal(z, 0.5))]
        model = Graphical(nodes, data=data)
        fit(model, data, steps=150, learning_rate=0.05)
        found = model.posterior("z", n=4000, source=source())
        assert found.mean("z")[[0, 2]].tolist() == [0.5, -1.0]
        assert found.sd("z")[[0, 2]].tolist() == [0.0, 0.0]
        assert torch.allclose(found.mean("z")[[1, 3]], torch.tensor([1.28, -1.6]), atol=0.25)
        exact = (
            Normal(0.0, 1.0).log_prob(torch.tensor([0.5, -1.0])).sum() + Normal(0.0, 0.5).log_prob(torch.tensor([0.1, 0.2])).sum()
        )
        exact += Normal(0.0, math.sqrt(1.25)).log_prob(torch.tensor([1.6, -2.0])).sum()
        about = model.log_evidence(4000, source=source(1))
        assert about.error < 0.1
        assert about.value == pytest.approx(exact.item(), abs=max(0.05, 6 * about.error))


class TestTable:
    FRAME = {
        "kind": ["a", "b", "a", None, "b", "b"],
        "size": [1.0, 3.1, None, 0.8, 2.9, None],
    }

    def model(self):
        return Graphical(
            [
                Node("kind", lambda: Categorical(torch.tensor([0.5, 0.5]))),
                Node("size", lambda kind: Normal(1.0 + 2.0 * kind, 0.5)),
            ],
            data=self.FRAME,
        )

    def test_categories_are_asked_and_given_by_name(self):
        model = self.model()
        found = model.posterior("kind", {"size": 1.0})
        assert found.categories["kind"] == ("a", "b")
        assert found.probs("kind")[0].item() == pytest.approx(1 / (1 + math.exp(-8.0)), abs=1e-5)
        assert model.posterior("size", {"kind": "b"}, n=20_000, source=source()).mean("size").item() == pytest.approx(3.0, abs=0.03)
        assert "exact" in str(found)
        assert found.table()[0]["a"] > 0.99
        with pytest.raises(BadInputError, match="give one of a, b"):
            model.posterior("size", {"kind": "c"})

    def test_evidence_may_be_a_data_frame_with_gaps(self):
        frame = pd.DataFrame({"kind": ["b", None, "a"], "size": pd.array([None, 1.0, 1.2], dtype="Float64")})
        found = self.model().posterior(["kind", "size"], frame, n=20_000, source=source())
        assert found.probs("kind").argmax(-1).tolist() == [1, 0, 0]
        assert found.mean("size").tolist() == pytest.approx([3.0, 1.0, 1.2], abs=0.03)

    def test_a_number_is_the_name_of_a_category_where_these_are_numbers(self):
        data = from_frame({"class": [1, 2, 2, 1, 3], "size": [1.0, 2.1, 1.9, 0.9, 3.2]}, categorical=("class",))
        nodes = [
            Node("class", lambda: Categorical(torch.ones(3))),
            Node("size", lambda c: Normal(1.0 + c, 0.1), parents=("class",)),
        ]
        model = Graphical(nodes, data=data)
        assert model.posterior("size", {"class": 1}, source=source()).mean("size").item() == pytest.approx(1.0, abs=0.05)
        assert model.posterior("class", {"size": 3.0}).table()[0] == pytest.approx({"node": "class", "1": 0, "2": 0, "3": 1})
        with pytest.raises(BadInputError, match="give one of 1, 2, 3"):
            model.posterior("size", {"class": 0})

    def test_the_gaps_of_the_data_are_answered_row_by_row(self):
        found = self.model().posterior(["kind"])
        assert found.probs("kind").shape == (6, 2)
        assert found.probs("kind")[0].tolist() == [1.0, 0.0]
        odds = math.exp(-((0.8 - 1) ** 2 - (0.8 - 3) ** 2) / (2 * 0.25))
        assert found.probs("kind")[3, 0].item() == pytest.approx(odds / (1 + odds), abs=1e-5)

    def test_impute_fills_gaps_and_leaves_the_rest(self):
        model = self.model()
        x, _ = model.rows
        many = x.repeat(2000, 1)
        known = ~many.isnan()
        filled = model.impute(many, known, source())
        assert torch.equal(filled[known], many[known])
        assert not filled.isnan().any()
        gaps = filled.reshape(2000, 6, 2)
        assert mean_test(gaps[:, 2, 1], 1.0, alpha=ALPHA)
        assert mean_test(gaps[:, 5, 1], 3.0, alpha=ALPHA)
        assert (gaps[:, 3, 0] == 0).double().mean() > 0.99

    def test_a_column_that_is_not_there_at_all_is_filled(self):
        x = torch.tensor([[0.0, torch.nan], [1.0, torch.nan]])
        filled = self.model().impute(x, ~x.isnan(), source())
        assert not filled.isnan().any()
        assert torch.equal(filled[:, 0], x[:, 0])


class TestAsking:
    def test_bad_questions_say_what_is_wrong(self):
        model = conjugate(torch.tensor([0.0, 1.0]))
        with pytest.raises(BadInputError, match="did you mean 'mu'"):
            model.posterior("mus", {"y": 1.0})
        with pytest.raises(BadInputError, match="shared by all rows"):
            model.posterior("y", {"mu": 1.0})
        with pytest.raises(BadInputError, match="give a number"):
            model.posterior("mu", {"y": "high"})
        with pytest.raises(BadInputError, match="1 to 10000000"):
            model.posterior("mu", n=0)
        with pytest.raises(BadInputError, match="1 to 10000000"):
            model.simulate(10**9)
        with pytest.raises(BadInputError, match="give one value"):
            model.do({"y": [1.0, 2.0]})
        with pytest.raises(BadInputError, match="new rows"):
            model.do({"mu": 1.0}).log_evidence()
        with pytest.raises(BadInputError, match="only a part"):
            Graphical([Node("v", lambda: MultivariateNormal(torch.zeros(2), torch.eye(2)))]).posterior("v", {"v": [1.0, math.nan]})
        with pytest.raises(BadInputError, match="values by node"):
            model.posterior("mu", ["y"])
        with pytest.raises(BadInputError, match="both set"):
            model.do({"y": 1.0}).posterior("mu", {"y": 1.0})
        with pytest.raises(BadInputError, match="a function of its parents"):
            Graphical([Node("x", lambda: Normal(0.0, 1.0)), Node("t", lambda x: 2 * x)]).posterior("x", {"t": 1.0})
        logits = torch.tensor([0.0, -torch.inf])
        sure = Graphical([Node("a", lambda: Categorical(logits=logits)), Node("b", lambda a: Normal(1.0 * a, 1.0))])
        with pytest.raises(BadInputError, match="its probability is 0"):
            sure.posterior("b", {"a": 1})
        with pytest.raises(BadInputError, match="its values are"):
            network(ASIA).posterior("lung", {"dysp": 2})

    def test_answers_refuse_what_they_cannot_say(self):
        found = chain().posterior("x", {"y": 1.0}, source=source())
        with pytest.raises(ValueError, match="not asked for"):
            found.mean("z")
        with pytest.raises(ValueError, match="continuous"):
            found.probs("x")
        with pytest.raises(ValueError, match="from 0 to 1"):
            found.quantile("x", 1.5)

    def test_nodes_without_law_are_given(self):
        model = Graphical([Node("s"), Node("x", lambda s: Normal(0.0, s))])
        assert model.posterior("x", {"s": 3.0}, n=20_000, source=source()).sd("x").item() == pytest.approx(3.0, rel=0.05)
        with pytest.raises(BadInputError, match="'s' has no law"):
            model.posterior("x", {})
        with pytest.raises(BadInputError, match="s has no law"):
            model.simulate(3)
        found = model.simulate(3, given={"s": [1.0, 2.0, 3.0]})
        assert found["x"].shape == (3,)
        assert found["s"].tolist() == [1.0, 2.0, 3.0]

    def test_what_is_given_in_data_is_given_in_samples(self):
        model = Graphical(
            [Node("s"), Node("x", lambda s: Normal(100 * s, 1.0))], data={"s": [1.0, 2.0, 3.0], "x": [99.0, 201.0, 300.0]}
        )
        rows = model.sample(5, source())
        assert rows[:, 0].tolist() == [1.0, 2.0, 3.0, 1.0, 2.0]
        assert torch.allclose(rows[:, 1], 100 * rows[:, 0], atol=7.0)
        assert model.posterior("x", {"s": 2.0}, source=source()).mean("x").item() == pytest.approx(200.0, abs=0.3)

    def test_answers_about_data_come_in_the_order_of_their_rows(self):
        data = from_frame({"c": [0.0, None, None, 1.0], "y": [0.0, 0.1, 3.9, 4.0]})
        part = replace(data, x=data.x[[2, 0, 1]], rows=torch.tensor([2, 0, 1]))
        model = Graphical([Node("c", lambda: Bernoulli(torch.tensor([0.5]))), Node("y", lambda c: Normal(4 * c, 1.0))], data=part)
        found = model.posterior("c")
        assert found.mean("c").round().tolist() == [0.0, 0.0, 1.0]
        assert [line["row"] for line in found.table()] == [1, 2]  # in which it is not known
        assert len(str(found).splitlines()) == 4

    def test_a_query_leaves_the_global_generator_where_no_noise_is_asked_of_it(self):
        state = torch.get_rng_state()
        network(ASIA).posterior("lung", {"dysp": 1})
        chain().posterior("x", {"y": 1.0}, source=source())
        assert torch.equal(state, torch.get_rng_state())


class TestPosterior:
    def test_quantiles_of_weighted_values(self):
        value = torch.tensor([3.0, 1.0, 2.0]).reshape(3, 1)
        found = Posterior({"x": value}, torch.tensor([0.2, 0.5, 0.3]).reshape(3, 1))
        assert [found.quantile("x", p).item() for p in (0.0, 0.4, 0.49, 0.6, 0.79, 0.9, 1.0)] == [1, 1, 1, 2, 2, 3, 3]

    def test_equal_weights_are_drawn_once_each(self):
        value = torch.arange(50.0).reshape(50, 1)
        found = Posterior({"x": value}, torch.full((50, 1), 0.02))
        assert torch.equal(found.draws("x", 50), value[:, 0])

    def test_printing_is_short_and_names_all(self):
        found = network(ASIA).posterior(["lung", "smoke"], {"dysp": 1})
        shown = str(found)
        assert shown.splitlines()[0] == "lung, smoke given dysp = 1 (exact)"
        assert len(shown.splitlines()) == 4
        many = chain().posterior(None, {"z": torch.zeros(40)}, n=2000, source=source())
        assert len(str(many).splitlines()) < 40
        assert many.table()[0].keys() == {"node", "row", "mean", "sd", "5%", "50%", "95%"}
