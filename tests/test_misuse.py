"""What a new user gets wrong, each answered by what came, what was wanted and what to do."""

import re

import pytest
import torch
from torch.distributions import Bernoulli, Categorical, Normal

import reparam as rp
from reparam.errors import BadInputError
from reparam.models.gradient import _HEARD, ESTIMATORS, check

MU = torch.zeros((), requires_grad=True)


class TestNodes:
    @pytest.mark.parametrize("run", [rp.graph, rp.plan])
    @pytest.mark.parametrize(
        ("draw", "came"),
        [
            (lambda s: s(Normal(MU, 1.0), "a"), r"got sample\(Normal, 'a'\)"),
            (lambda s: s(Normal(MU, 1.0)), r"got sample\(Normal\)"),
            (lambda s: s("a"), r"got sample\('a'\)"),
            (lambda s: s("a", MU), r"got sample\('a', Tensor\)"),
            (lambda s: s("a", Normal), r"got sample\('a', the class Normal\)"),
            (lambda s: s(1, Normal(MU, 1.0)), r"got sample\(int, Normal\)"),
        ],
    )
    def test_are_drawn_by_a_name_and_a_law(self, run, draw, came):
        with pytest.raises(TypeError, match=r'graph: a node is drawn by sample\("name", law\).*' + came):
            run(draw, n=4)

    @pytest.mark.parametrize(
        ("law", "estimator", "n", "kind", "message"),
        [
            (Bernoulli(logits=MU), rp.LeaveOneOut(), 1, ValueError, "at least 2 rows"),
            (Bernoulli(logits=MU), rp.DisARM(), 3, ValueError, "draws pairs"),
            (Categorical(logits=MU.expand(3)), rp.GumbelSoftmax(0.5), 2, NotImplementedError, "one-hot|OneHot"),
            (Bernoulli(logits=MU), rp.Pathwise(), 2, rp.NoPathError, "Bernoulli is discrete"),
            (Bernoulli(logits=MU), rp.Score, 2, TypeError, "give an instance"),
        ],
    )
    @pytest.mark.parametrize("run", [rp.graph, rp.plan])
    def test_are_named_by_the_errors_of_their_estimators(self, run, law, estimator, n, kind, message):
        def model(sample):
            return sample("z", Normal(MU, 1.0)) + sample("c", law)

        with pytest.raises(kind, match=rf"^graph: node 'c': .*({message})") as caught:
            run(model, estimators={"c": estimator}, n={"c": n})
        assert caught.type is kind

    def test_are_named_where_their_costs_are_weighed(self):
        with pytest.raises(ValueError, match=r"^graph: node 'z': .*no gradient in the sample"):
            rp.graph(lambda sample: (sample("z", Normal(MU, 1.0)) > 0).float())


class TestCosts:
    q = Normal(MU.expand(5), 1.0)

    @pytest.mark.parametrize(
        ("f", "remedy"),
        [
            (lambda z: z.sum().item(), r"got float: keep the tensor, without \.item\(\)"),
            (lambda z: None, r"got None: does the function lack its return\?"),
            (lambda z: Normal(z, 1.0), r"got Normal, a distribution: the log-density of x is its \.log_prob\(x\)"),
            (lambda z: [z], r"got list$"),
        ],
    )
    def test_are_tensors(self, f, remedy):
        calls = [
            lambda: rp.expect(f, self.q),
            lambda: rp.graph(lambda sample: f(sample("z", self.q)), batch_shape=5),
            lambda: rp.elbo(f, self.q),
            lambda: rp.elbo(f, self.q, prior=Normal(0.0, 1.0)),
            *(lambda bound=bound: bound(f, self.q, prior=Normal(0.0, 1.0), k=4) for bound in (rp.iwae, rp.stl, rp.dreg, rp.vimco)),
            lambda: rp.renyi(f, self.q, prior=Normal(0.0, 1.0), k=4, alpha=0.5),
        ]
        for call in calls:
            with pytest.raises(TypeError, match=r"the cost must be a tensor of shape rows.*" + remedy):
                call()

    @pytest.mark.parametrize("estimator", [rp.ARM(), rp.DisARM()])
    def test_come_in_pairs(self, estimator):
        with pytest.raises(ValueError, match="n=3 must be even, such as n=4"):
            rp.expect(lambda z: z, Bernoulli(logits=MU), estimator=estimator, n=3)


class TestNames:
    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("gumbel_softmax", "GumbelSoftmax"),
            ("leaveoneout", "LeaveOneOut"),
            ("Elbo", "elbo"),
            ("Rebar", "REBAR"),
            ("expectation", "expect"),
            ("rsampel", "rsample"),
            ("Reinforce", "Score, LeaveOneOut, or"),
            ("RLOO", "LeaveOneOut"),
        ],
    )
    def test_of_the_package(self, name, meant):
        with pytest.raises(AttributeError, match=f"^module 'reparam' has no attribute '{name}': did you mean {meant}"):
            getattr(rp, name)

    @pytest.mark.parametrize("name", ["xyzzy", "__wrapped__"])
    def test_of_the_package_that_are_near_nothing(self, name):
        with pytest.raises(AttributeError, match=f"^module 'reparam' has no attribute '{name}'$"):
            getattr(rp, name)

    def test_that_people_know_lead_to_names_of_the_package(self):
        for meant in rp._HEARD.values():
            assert all(word in dir(rp) for word in re.findall(r"[A-Z]\w+", meant))
        for meant in _HEARD.values():
            assert all(word in ESTIMATORS for word in meant.split(" or "))

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("GumbelSoftmax", "gumbel_softmax"),
            ("leave-one-out", "leave_one_out"),
            ("DisARM", "disarm"),
            ("reinforce", "score or leave_one_out"),
            ("REINFORCE", "score or leave_one_out"),
            ("RLOO", "leave_one_out"),
            ("NVIL", "score_learned"),
            ("concrete", "gumbel_softmax"),
            ("ST", "straight_through"),
        ],
    )
    def test_of_estimators_on_the_command_line(self, name, meant):
        with pytest.raises(
            BadInputError, match=rf"^estimator='{name}': did you mean {meant}\? For latent='bernoulli' give one of arm, "
        ):
            check(name, "bernoulli", None)

    def test_of_estimators_for_other_latents(self):
        with pytest.raises(
            BadInputError, match=r"mean gumbel_softmax, for latent='bernoulli' or 'categorical'\? For latent='normal' give"
        ):
            check("GumbelSoftmax", "normal", None)
