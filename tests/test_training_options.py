"""Settings of training that change what is trained: moving averages, the learning rate, the source of noise, what is best."""

import json
import math

import pytest
import torch

from reparam.errors import BadInputError
from reparam.noise import NORMAL, Antithetic, Fresh, Noise, Sobol
from reparam.training import Loss, Monitor, Run, fit
from reparam.training import checkpoint as checkpoints
from reparam.training.progress import flags
from reparam.training.randomness import source_of
from test_training import assert_same_run, does, sends
from toy import Toy, data, record, settings, toy, train


class Watched(Toy):
    """The toy, which notes its weights and its source at each step, and in validation."""

    def __init__(self, **sizes):
        super().__init__(**sizes)
        self.seen = {True: [], False: []}
        self.sources = []

    def forward(self, batch, source=None):
        self.seen[self.training].append(self.encode.weight.detach().clone())
        self.sources.append(source)
        return super().forward(batch, source)


def watched():
    torch.manual_seed(11)
    return Watched()


def test_the_average_is_the_recursion_and_what_is_validated_and_kept(tmp_path):
    model, _ = train(tmp_path, settings(ema=0.7), watched())
    weights = [*model.seen[True][1:], model.encode.weight.detach()]
    average, kept = model.seen[True][0], []
    for step, after in enumerate(weights, 1):
        decay = min(0.7, (1 + step) / (10 + step))
        average = decay * average + (1 - decay) * after
        kept.append(average)
    for epoch in range(4):  # four steps an epoch, two batches of validation after each
        for seen in model.seen[False][2 * epoch : 2 * epoch + 2]:
            torch.testing.assert_close(seen, kept[4 * epoch + 3])
    loaded = toy()
    Run.open(tmp_path).load_weights(loaded, "last")
    torch.testing.assert_close(loaded.encode.weight.detach(), average)
    assert not torch.allclose(loaded.encode.weight, model.encode.weight)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9},
        {"learning_rate_schedule": "cosine", "warm_up": 5},
        {"noise": "antithetic"},
        {"noise": "sobol"},
        {"ema": 0.9, "learning_rate_schedule": "cosine", "noise": "sobol"},
    ],
)
def test_resumed_bit_for_bit(tmp_path, changes):
    train(tmp_path / "straight", settings(**changes))
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "stopped", settings(**changes), does(6, sends(2)))
    train(tmp_path / "stopped", settings(**changes), Toy())
    assert_same_run(tmp_path / "straight", tmp_path / "stopped")


def test_an_average_taken_up_late_starts_at_the_weights(tmp_path):
    train(tmp_path, settings(epochs=1))
    with Run.create(tmp_path, record(settings(epochs=1, ema=0.5)), force=True) as run:
        model = toy()
        fit(model, data(), data(32, seed=4), settings(epochs=1, ema=0.5), run, progress=False)
    loaded = toy()
    Run.open(tmp_path).load_weights(loaded)
    torch.testing.assert_close(loaded.encode.weight, model.encode.weight)


def test_the_learning_rate_rises_and_falls(tmp_path, monkeypatch):
    rates = []
    step = torch.optim.AdamW.step
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self, *a: (rates.append(self.param_groups[0]["lr"]), step(self, *a))[1])
    train(tmp_path, settings(learning_rate_schedule="cosine", warm_up=4))
    assert rates == pytest.approx([0.01 * min(1, (t + 1) / 4) * 0.5 * (1 + math.cos(math.pi * t / 16)) for t in range(16)])


def test_more_epochs_are_another_schedule(tmp_path):
    train(tmp_path, settings(learning_rate_schedule="cosine"))
    with pytest.raises(BadInputError, match=r"training\.epochs was 4, now 5 \(the learning rate falls to 0"):
        train(tmp_path, settings(learning_rate_schedule="cosine", epochs=5))
    train(tmp_path / "constant", settings())
    train(tmp_path / "constant", settings(epochs=5))


def test_sources_of_noise(tmp_path):
    kinds = {"fresh": Fresh, "antithetic": Antithetic, "sobol": Sobol}
    noise = Noise(NORMAL, torch.Size([3]), torch.float32, torch.device("cpu"))
    for name, kind in kinds.items():
        model, _ = train(tmp_path / name, settings(noise=name), watched())
        assert {type(source) for source in model.sources} == {kind}
        draws = [noise.draw(4, source=source_of(name, seed)) for seed in (1, 1, 2)]
        assert torch.equal(draws[0], draws[1])
        assert not torch.equal(draws[0], draws[2])


class Priced(Toy):
    """The toy, whose validation cost is given; less is better."""

    monitor = Monitor("cost", "cost", higher=False)

    def __init__(self, costs):
        super().__init__()
        self.costs = iter(costs)

    def forward(self, batch, source=None):
        loss = super().forward(batch, source)
        cost = loss.total.detach() if self.training else torch.tensor(next(self.costs))
        return Loss(loss.total, {"cost": cost})


def test_a_monitor_of_which_less_is_better(tmp_path, capsys):
    model = Priced([3.0, 3.0, 1.0, 1.0, 2.0, 2.0, float("nan"), 0.5])
    with pytest.warns(RuntimeWarning, match="the validation cost is nan"):
        _, result = train(tmp_path, settings(), model, progress=True)
    assert result.best == 1.0
    assert Run.open(tmp_path).read("last").state["best"] == {"step": 8, "epoch": 2, "value": 1.0}
    assert "validation cost 2.00" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("higher", "scores", "said"),
    [
        (True, [-5.0, -3.0, -40.0], "the validation cost fell from -3 to -40"),
        (True, [-40.0, -30.0, -3.0], None),
        (False, [5.0, 3.0, 40.0], "the validation cost rose from 3 to 40"),
        (False, [40.0, 30.0, 3.0], None),
    ],
)
def test_a_score_that_explodes_is_said_whichever_is_better(higher, scores, said):
    history = [{"epoch": i, "validation/cost": score} for i, score in enumerate(scores, 1)]
    found = flags(history, Monitor("cost", "cost", higher=higher))
    assert [line.partition(":")[0] for line in found] == ([] if said is None else [said])


def test_batches_of_several_tensors(tmp_path):
    class Labelled(Toy):
        def forward(self, batch, source=None):
            x, y = batch
            assert torch.equal(y, x[:, 0])  # rows stay together
            return super().forward(x, source)

    x, v, config = data(), data(32, seed=4), settings()
    torch.manual_seed(11)
    with Run.create(tmp_path, record(config)) as run:
        result = fit(Labelled(), (x, x[:, 0]), (v, v[:, 0]), config, run, progress=False)
    _, alone = train(tmp_path / "alone")
    assert result.best == alone.best
    with pytest.raises(BadInputError, match="have 64, 63 rows: equally many"), Run.create(tmp_path / "b", record(config)) as run:
        fit(Labelled(), (x, x[:63, 0]), (v, v[:, 0]), config, run, progress=False)


def test_checkpoints_that_monitored_nothing_but_the_elbo_are_taken_up(tmp_path):
    train(tmp_path, settings(epochs=2))
    train(tmp_path / "straight", settings(epochs=4))
    for folder in Run.open(tmp_path).checkpoints():
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["state"]["best"]["elbo"] = manifest["state"]["best"].pop("value")
        del manifest["sha256"]
        sealed = {"sha256": checkpoints._sha(json.dumps(manifest, sort_keys=True).encode()), **manifest}
        (folder / "manifest.json").write_text(json.dumps(sealed))
    _, result = train(tmp_path, settings(epochs=4))
    assert result.best == Run.open(tmp_path / "straight").read("last").state["best"]["value"]


def test_the_average_of_tied_weights(tmp_path):
    class Tied(Toy):
        def __init__(self):
            super().__init__(dropout=0.0)
            self.also = torch.nn.Linear(6, 2)
            self.also.weight = self.encode.weight

    torch.manual_seed(11)
    train(tmp_path, settings(ema=0.9), Tied())
    loaded, alone = Tied(), toy()
    Run.open(tmp_path).load_weights(loaded, "last")
    assert loaded.also.weight is loaded.encode.weight
    torch.manual_seed(11)
    train(tmp_path / "alone", settings(ema=0.9), toy(dropout=0.0))
    Run.open(tmp_path / "alone").load_weights(alone, "last")
    torch.testing.assert_close(loaded.encode.weight, alone.encode.weight)
