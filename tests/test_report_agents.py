"""Reports of runs in an environment and of world models: whole, and true to the episodes, the history and the model."""

import base64
import html
import io
import math
import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from reparam import report
from reparam.environments.episodes import Episode, Returns, play
from reparam.environments.interaction import Interaction
from reparam.environments.options import EnvironmentOptions
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from reparam.models import MODELS
from reparam.models.trained import model_of, record_in_environment
from reparam.noise import NORMAL, Fresh, Noise
from reparam.report import chart, dreams
from reparam.report.agent import Agent, _Shared
from reparam.report.learning import learning
from reparam.report.planes import plane_of
from reparam.report.policy import policy
from reparam.report.recorded import _even, _joined
from reparam.report.rollout import gif
from reparam.training import Run, Training, fit
from reparam.training.randomness import stream_seed
from test_report import check

TINY = {
    "sac": {"hidden": (8,), "random_steps": 20, "updates": 0.1},
    "reinforce": {"hidden": (8,), "rollout": 32},
    "world": {"deterministic": 8, "hidden": (8,), "latent_dim": 3, "actor_hidden": (8,), "random_steps": 30, "updates": 0.05}
    | {"sequence_length": 6, "horizon": 4},
}


@pytest.fixture(scope="module", autouse=True)
def loose():
    """Charts whose labels are not fitted: half of the time of a page is that, and nothing here looks at where a label is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chart._STYLE, "figure.constrained_layout.use", False)
        yield


def trained(directory, name, environment, epochs=2, settings=None, **options):
    options = EnvironmentOptions(environment=environment, **{"evaluation_episodes": 1, "test_episodes": 4, **options})
    kind, config = MODELS[name].load()
    training = Training(epochs=epochs, batch_size=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        agent = kind.for_environment(config(**TINY[name], **(settings or {})), options.spaces())
    made = Run.create(directory, record_in_environment(name, agent, training, options))
    with made as run, Interaction(agent, options, training) as stream:
        fit(agent, stream, None, training, run, progress=False)
    return Run.open(directory)


def page_of(run, **named):
    return report.write(run, **named).read_text(encoding="utf-8")


def labels(page):
    return [html.unescape(label) for label in re.findall(r'aria-label="([^"]*)"', page)]


def label(page, start):
    return next(each for each in labels(page) if each.startswith(start))


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory):
    """Epochs of 150 steps, and episodes of 200: in the first epoch none ends."""
    run = trained(tmp_path_factory.mktemp("runs") / "sac", "sac", "Pendulum-v1", epoch_steps=150)
    return run, page_of(run)


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    run = trained(tmp_path_factory.mktemp("runs") / "it's", "reinforce", "CartPole-v1", epoch_steps=128, copies=2, test_episodes=6)
    return run, page_of(run)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    run = trained(tmp_path_factory.mktemp("runs") / "world", "world", "Pendulum-v1", epoch_steps=100, copies=2, test_episodes=3)
    return run, page_of(run)


def test_pages_are_whole(pendulum, cartpole, world):
    agent = ["The idea", "Learning curve", "An episode", "The policy", "Returns"]
    dreams = ["Dreams and what came", "Foresight", "Surprise", "Imagined", "Latents"]
    for (_, page), title, more in (
        (pendulum, "SAC in Pendulum-v1", ["What the trick buys"]),
        (cartpole, "REINFORCE in CartPole-v1", []),
        (world, "World model in Pendulum-v1", dreams),
    ):
        assert check(page) == [*agent, *more, "How this was made"]
        assert f"<h1>{title}</h1>" in page
        assert not re.search(r"\b(nan|inf|None)\b", re.sub(r"base64,[^\"]*", "", page))
        assert len(page) < 1.5e6


def test_the_curve_is_that_of_the_history(pendulum):
    run, page = pendulum
    first, last = run.history()
    assert math.isnan(first["train/return"])
    best = max((first, last), key=lambda row: row["validation/return"])
    told = label(page, "Return by steps")
    earned = "none ended" if math.isnan(best["train/return"]) else f"{best['train/return']:.4g}"
    assert f"epoch {best['epoch']}, after {best['train/steps']:.0f} steps: training {earned}" in told
    assert f"validation {best['validation/return']:.4g}" in told
    assert label(page, "Entropy by steps") == f"Entropy by steps; in the last epoch {last['train/entropy']:.4g}"
    only = [{**first, "epoch": 1}]
    section = learning(only, 1, Returns(1, -3.0, None, -3.0, -3.0, 200.0, 0.0))
    assert "training none ended" in section.figures[0].pictures[0]


def test_returns_are_those_of_the_test_episodes(pendulum):
    run, page = pendulum
    seed = stream_seed(run.record["training"]["seed"], "test episodes", 0)
    episodes = play(model_of(run), "Pendulum-v1", episodes=4, seed=seed)
    found = Returns.of(episodes)
    assert f"Returns of 4 episodes: mean {found.mean:.4g}," in label(page, "Returns of")
    first = episodes[0]
    assert f"returned {float(first.reward.sum()):.4g}".replace("-", "−") in page
    reward = first.reward
    assert (
        label(page, "Reward by step") == f"Reward by step, from {reward.min():.3g} to {reward.max():.3g}, {reward.sum():.4g} in all"
    )
    velocity = first.observation[:, 2]
    assert label(page, "angular velocity by step") == f"angular velocity by step, from {velocity.min():.3g} to {velocity.max():.3g}"
    tile = re.search(r'<dt>return</dt><dd class="value">([^<]*)', page)[1]
    assert tile == found.tiles()[0][1]


def test_the_trick_buys_less_noise(pendulum):
    _, page = pendulum
    told = label(page, "total variance of the policy's gradient")
    value = r"([\d.,]+(?: × 10[⁰-⁹¹²³]+)?)"
    found = re.search(rf"\(the trick\) {value}, measure-valued {value}, .*leave-one-out {value}, score function {value}$", told)
    pathwise, _, best, plain = (float(number.replace(",", "")) for number in found.groups())
    ratio = float(re.search(r"score function is ([\d.,]+) times", page)[1].replace(",", ""))
    assert ratio == pytest.approx(plain / pathwise, rel=0.07)  # 2 digits of it, of 3 of each
    assert max(pathwise, best) < plain


def test_an_episode_moves(pendulum, cartpole):
    for (_, page), ratio in ((pendulum, 1.0), (cartpole, 1.5)):
        data = re.search(r'class="moving" alt="[^"]*" src="data:image/gif;base64,([^"]*)"', page)[1]
        picture = Image.open(io.BytesIO(base64.b64decode(data)))
        assert picture.width == 240
        assert picture.width / picture.height == pytest.approx(ratio, abs=0.01)
        steps = int(re.search(r"after (\d+) steps? and returned", page)[1])
        shown = 0
        for frame in range(picture.n_frames):  # pictures that are alike are one that stays longer
            picture.seek(frame)
            shown += picture.info["duration"]
        assert shown == 70 * math.ceil((min(steps, 300) + 1) / 2)
        stills = re.search(r'class="pixels strip" alt="[^"]*steps 0, [^"]*, (\d+)"', page)[1]
        assert int(stills) == min(steps, 300)


def test_pictures_stay_what_they_are():
    # A square that wanders: each picture has its own, and colours that 48 can hold.
    frames = [np.full((60, 90, 3), (250, 240, 200), np.uint8) for _ in range(31)]
    for i, frame in enumerate(frames):
        frame[20:40, 2 * i : 2 * i + 20] = (200, 30, 40)
    picture = Image.open(io.BytesIO(gif(frames)))
    assert (picture.n_frames, picture.info["duration"], picture.info["loop"]) == (16, 70, 0)
    for i in range(16):
        picture.seek(i)
        shown = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(shown - frames[2 * i]).max() <= 8  # a picture of another time is off by more than 100 at its edges
    assert Image.open(io.BytesIO(gif(frames, rate=15.0))).n_frames == 31
    assert Image.open(io.BytesIO(gif([np.zeros((600, 1200, 3), np.uint8)] * 2))).size == (240, 120)
    for wrong in ([], [np.zeros((3, 4, 5), np.uint8)], [np.zeros((4, 4, 3))]):
        with pytest.raises(BadInputError):
            gif(wrong)


def test_maps_are_those_of_the_model(cartpole):
    run, page = cartpole
    model = model_of(run)
    told = label(page, "Expected return over pole's angle")
    assert "pole's velocity up" in told
    # Lines of the map are at the middles of 41 cells, symmetric around 0, so that the middle one is the observation 0.
    least, most = map(float, re.search(r"from (\S+) to (\S+)$", told).groups())
    with torch.no_grad():
        middle = float(model.values(torch.zeros(1, 4)))
        law = model.law(torch.zeros(1, 4))
    assert least <= middle * (1 + 1e-2)
    assert most >= middle * (1 - 1e-2)
    least, most = map(float, re.search(r"from (\S+) to (\S+)$", label(page, "Probability of “push right” over")).groups())
    assert 0 <= least <= float(law.probs[0, 1]) + 5e-3
    assert float(law.probs[0, 1]) - 5e-3 <= most <= 1


def test_the_command_of_the_page_goes_on_with_the_run(cartpole, cli, monkeypatch):
    _, page = cartpole
    words = shlex.split(html.unescape(re.sub("</?span>", "", re.search(r"<pre>(.*?)</pre>", page)[1])))
    assert words[:3] == ["reparam", "train", "reinforce"]
    assert "--environment" not in words  # it is the model's own
    monkeypatch.setattr("reparam.report.write", lambda made, **_: made.path)
    code, out, error = cli(*words[1:])
    assert code == 0, error
    assert "is finished already, after 2 epochs" in out
    assert "observations of 4" in page


def test_same_run_gives_the_same_page(world):
    run, page = world
    torch.rand(7)  # the caller's generator has no part in it
    assert page_of(run) == page


@pytest.mark.parametrize(
    ("name", "environment", "settings", "there"),
    [
        ("sac", "Point", {}, ["moving", "x up"]),
        ("reinforce", "Bandit", {}, ["Probability of each choice by observation 1"]),
        (
            "world",
            "Pictures",
            {"latent": "categorical", "categories": 4},
            ["Choices by step", "categories of 3 latents", "true, imagined"],
        ),
    ],
)
def test_environments_of_ones_own(tmp_path, name, environment, settings, there):
    """Numbers without names, one number, choices of several kinds, pictures; with drawings and without."""
    own = f"toy_environments:{environment}"
    run = trained(tmp_path, name, own, epochs=1, settings=settings, epoch_steps=80, copies=2, episode_limit=20)
    with pytest.raises(BadInputError, match="name it again, --environment toy_environments"):
        report.write(run)
    page = page_of(run, environment=own)
    check(page)
    assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", page))
    assert f"--environment {own}" in re.sub("</?span>", "", page)
    assert ('class="moving"' in page) == (environment == "Point")
    told = " ".join([*labels(page), *re.findall(r'alt="([^"]*)"', page), page])
    for words in there[1:] if environment == "Point" else there:
        assert words.replace("x up", "observation 2 up") in told


def test_policies_of_other_shapes_are_shown(cartpole):
    """What has no law to ask is drawn: the shares of 2000 draws are within 4.5 standard errors of the probabilities.

    The false-alarm rate of 50 binomials is below 4e-4; a share that is off by 0.06 is caught.
    """
    run, _ = cartpole
    model = model_of(run)
    seed = stream_seed(0, "test episodes", 0)
    episodes = play(model, "CartPole-v1", episodes=2, seed=seed)

    class Lawless:
        spaces, config = model.spaces, model.config

        def act(self, *given):
            return model.act(*given)

    agent = Agent(Lawless(), "CartPole-v1", episodes, episodes[0])
    seen = torch.randn(50, 4, generator=torch.Generator().manual_seed(1))
    shares = agent.probabilities(seen, agent.drawn(seen, 2000))[:, 1]
    with torch.no_grad():
        p = model.law(seen).probs[:, 1].double().numpy()
    assert (np.abs(shares - p) < 4.5 * np.sqrt(p * (1 - p) / 2000) + 1e-9).all()
    assert agent.values(seen) is None
    assert agent.names.observation[2] == "pole's angle"


def test_the_plane_is_of_the_numbers_that_matter():
    """A policy of five numbers that looks at the second and the last."""

    class Looking:
        spaces = Spaces((5,), "real", None, "continuous", (2,), low=(-1.0, 0.0), high=(1.0, 4.0))

        def act(self, observation, carry, first, source):
            return torch.stack([observation[:, 1], -observation[:, 4]], -1).tanh(), None

    x = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))
    episode = Episode(x, torch.zeros(199, 2), torch.zeros(199), terminated=False)
    agent = Agent(Looking(), "own", [episode], episode)
    plane = plane_of(agent)
    assert plane.axes == ("observation 2", "observation 5")
    made = plane.observation(np.array([[7.0, 8.0]]))
    assert made[0, [1, 4]].tolist() == [7.0, 8.0]
    assert torch.allclose(made[0, [0, 2, 3]], x.mean(0)[[0, 2, 3]])
    assert plane.point(made).tolist() == [[7.0, 8.0]]
    section = policy(agent)
    told = " ".join(section.figures[0].pictures)
    assert "Action 1 over observation 2 across and observation 5 up" in told
    low, high = map(float, re.search(r"Action 2 over[^\"]*from (\S+) to ([^\"]+)\"", told).groups())  # in the environment's units
    assert 0 <= low < 0.3
    assert 3.7 < high <= 4


def test_draws_are_shared_by_all_rows():
    shared = _Shared(5, Fresh(torch.Generator().manual_seed(0)))
    drawn = Noise(NORMAL, torch.Size([5 * 3, 2])).draw(source=shared).unflatten(0, (5, 3))
    assert (drawn == drawn[:, :1]).all()
    assert drawn[:, 0].unique().numel() == 10
    assert Noise(NORMAL, torch.Size([7, 2])).draw(source=shared).unique().numel() == 14  # of other rows: each its own


def test_returns_to_come_are_discounted():
    model = type("Model", (), {"config": type("Config", (), {"discount": 0.5})()})()
    rewards = torch.tensor([1.0, 2.0, 4.0])
    episode = Episode(torch.zeros(4, 1), torch.zeros(3, 1), rewards, terminated=True)
    assert Agent(model, "own", [episode], episode).to_go(episode).tolist() == [3.0, 4.0, 4.0]


def test_episodes_become_sequences_whose_actions_led_there(world):
    run, _ = world
    model = model_of(run)
    one, other = play(model, "Pendulum-v1", episodes=2, seed=1)
    cut = Episode(other.observation[:8], other.action[:7], other.reward[:7], terminated=True)
    batch = _joined([one, cut], model.spaces)
    assert batch.mask.sum(1).tolist() == [201, 8]
    assert batch.terminated.nonzero().tolist() == [[1, 7]]
    assert batch.first.nonzero().tolist() == [[0, 0], [1, 0]]
    # The pendulum itself: the velocity after an action is that of the angle and the torque before it.
    x, torque = batch.observation[0], 2 * batch.action[0, 1:, 0]
    after = x[:-1, 2] + (15 * x[:-1, 1] + 3 * torque) * 0.05
    assert torch.allclose(x[1:, 2], after.clamp(-8, 8), atol=1e-4)
    even = _even(batch)
    assert even.mask.all()
    assert even.mask.shape == (2, 8)


def test_foresight_and_dreams_are_the_models(world):
    run, page = world
    told = label(page, "cos θ, true and imagined")
    assert "after 16 of 64 steps" in told
    model, seed = model_of(run), stream_seed(0, "test episodes", 0)
    episodes = play(model, "Pendulum-v1", episodes=3, seed=seed)
    batch = _even(_joined(episodes, model.spaces), 64)
    one = tuple(part[:1] for part in batch)
    found = model.open_loop(one, 16, samples=64, source=Fresh(torch.Generator().manual_seed(0)))
    off = (found.imagined[:, 0, :, 0].mean(0) - one[0][0, 16:, 0]).square().mean().sqrt()
    assert float(re.search(r"error (\S+)$", told)[1]) == pytest.approx(float(off), rel=1e-2)
    surprise = model.surprise(batch, Fresh(torch.Generator().manual_seed(0)))[0]
    assert f"most at step {int(surprise.argmax())} with {float(surprise.max()):.3g}" in label(page, "Divergence")
    # What came in the next steps lies between the least and the most that so many steps can earn.
    assert "from 36 states of test episodes" in page


def test_dreams_are_beside_the_rewards_that_came_next(world, monkeypatch):
    model = model_of(world[0])
    episodes = play(model, "Pendulum-v1", episodes=2, seed=1)
    drawn = []
    monkeypatch.setattr(dreams, "against", lambda *given: drawn.append(given[2]) or ("", "alike"))
    dreams.dreams(Agent(model, "Pendulum-v1", episodes, episodes[0]))
    reward, horizon = episodes[1].reward.double().numpy(), model.config.horizon
    weights = model.config.discount ** np.arange(horizon)
    assert drawn[0][12] == pytest.approx(weights @ reward[:horizon])
    assert drawn[0][-1] == pytest.approx(weights @ reward[-horizon - 1 : -1])


def test_recorded_sequences_get_a_page(tmp_path, cli):
    """Vectors with rewards, of unequal length; and moving pictures of 0 and 1."""
    rng = np.random.default_rng(0)
    x = np.cumsum(rng.normal(size=(30, 12, 2)), 1)
    length = np.full(30, 12)
    length[:9] = 7
    np.savez(tmp_path / "walks.npz", observation=x, reward=x[..., 0], length=length)
    squares = np.zeros((30, 10, 1, 8, 8), np.uint8)
    for row, start in enumerate(rng.integers(0, 8, 30)):
        for t in range(10):
            squares[row, t, 0, 2:5, (start + t) % 8] = 1
    np.savez(tmp_path / "squares.npz", x=squares)
    tiny = shlex.split("--epochs 1 --deterministic 8 --hidden 8 --latent_dim 3 --importance_samples 2 --layout sequence")
    pages = {}
    for name, more in {"walks": [], "squares": ["--latent", "categorical", "--categories", 4]}.items():
        code, _, error = cli("train", "world", "--data", tmp_path / f"{name}.npz", "--out", tmp_path / name, *tiny, *more)
        assert code == 0, error
        pages[name] = (tmp_path / name / "report.html").read_text(encoding="utf-8")
        assert check(pages[name]) == ["The idea", "Training", "Foresight", "Surprise", "Imagined", "Latents", "How this was made"]
        assert not re.search(r"\b(nan|inf)\b", re.sub(r"base64,[^\"]*", "", pages[name]))
        assert "3 test sequences" in pages[name]
        assert "actor" not in pages[name]  # there is none, nor settings of one
    context, steps = map(int, re.search(r"column 2, true and imagined after (\d+) of (\d+) steps", pages["walks"]).groups())
    assert (context, steps) == (steps // 2, 12 if steps > 7 else 7)
    assert "came in all" in pages["walks"]
    assert "Pictures at steps 2, 3, 4, 5, 6, 7, 8, 9: true, imagined" in pages["squares"]
    film = re.search(r'alt="Pictures at steps [^"]*" src="data:image/png;base64,([^"]*)"', pages["squares"])[1]
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(film))))
    # The first row is the truth: three pictures, a gap, five; in each a column of three lit pixels of eight by eight.
    cell = (image.shape[1] + 4) // 9
    for column, there in enumerate([1, 1, 1, 0, 1, 1, 1, 1, 1]):
        picture = image[: cell - 4, column * cell : (column + 1) * cell - 4]
        lit = (picture[..., 0] > 200) & (picture[..., 3] > 0)
        assert lit.mean() == pytest.approx(there * 3 / 64, abs=0.005)
