"""The memory of what was lived through: what is drawn from it, how evenly, and how it resumes."""

import resource

import pytest
import torch
from scipy import stats

from reparam.environments.copies import Arrival, Copies
from reparam.environments.memory import Memory
from reparam.environments.spaces import Spaces
from reparam.errors import BadInputError
from toy_environments import Pictures, Point

BINARY = Spaces((1,), "binary", None, "discrete", (), (2,))
COUNTED = Spaces((1,), "real", None, "discrete", (), (2,))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def filled(times, capacity, count=2, lengths=(3, 1)):
    """A memory of arrivals that tell which they are: observation and reward are time * count + copy; copy e's episodes have
    lengths[e] steps each."""
    memory = Memory(capacity, count, COUNTED)
    for time in range(times):
        name = torch.arange(time * count, (time + 1) * count).float()
        at = torch.tensor([time % (lengths[e] + 1) for e in range(count)])
        ends = at == torch.tensor(lengths)
        memory.add(Arrival(name[:, None], at % 2, name, at == 0, ends, torch.zeros(count, dtype=torch.bool)))
    return memory


def whole(times, held, lengths=(3, 1)):
    """The steps that a memory of the last `held` times holds with their beginnings, by the numbers of their ends."""
    return sorted(t * 2 + e for e in range(2) for t in range(times - held + 1, times) if t % (lengths[e] + 1))


@pytest.mark.parametrize(("times", "capacity"), [(9, 100), (20, 40), (53, 40), (53, 41), (54, 26)])
def test_each_step_that_is_held_is_drawn_as_often_as_any_other(times, capacity):
    """False alarms 1e-6 a case, by chi-square. With n = 400 draws a step, a step drawn half as often as the others has a
    noncentrality of 400 / 4 = 100 and is found with probability above 0.99 for the 7 to 29 steps that there are here."""
    memory = filled(times, capacity)
    expected = whole(times, min(times, capacity // 2))
    observation, action, reward, following, terminated = memory.transitions(400 * len(expected), generator(1))
    drawn, often = reward.long().unique(return_counts=True)
    assert drawn.tolist() == expected  # all of them, and nothing that leads across an end or the edge of the ring
    assert stats.chisquare(often.numpy()).pvalue > 1e-6
    assert torch.equal(following[:, 0], reward)
    assert torch.equal(observation[:, 0], reward - 2)
    time, copy = reward.long() // 2, reward.long() % 2
    length = torch.tensor([3, 1])[copy]
    assert torch.equal(action, time % (length + 1) % 2)
    assert torch.equal(terminated, time % (length + 1) == length)
    assert memory.steps == sum(t % (n + 1) > 0 for n in (3, 1) for t in range(times))


@pytest.mark.parametrize(("times", "capacity"), [(9, 100), (53, 41)])
def test_each_start_of_a_sequence_is_drawn_as_often_as_any_other(times, capacity):
    """False alarms and power as above: n = 400 draws a start."""
    memory, length = filled(times, capacity), 5
    starts = [t * 2 + e for t in range(times - min(times, capacity // 2), times - length + 1) for e in range(2)]
    observation, action, reward, first, terminated, mask = memory.sequences(400 * len(starts), length, generator(2))
    assert observation.shape == (400 * len(starts), 5, 1)
    drawn, often = reward[:, 0].long().unique(return_counts=True)
    assert drawn.tolist() == starts
    assert stats.chisquare(often.numpy()).pvalue > 1e-6
    assert torch.equal(reward - reward[:, :1], torch.arange(0, 10, 2).float().expand_as(reward))  # one copy, time after time
    time, ends = reward.long() // 2, torch.tensor([3, 1])[reward.long() % 2]
    assert torch.equal(first, time % (ends + 1) == 0)
    assert torch.equal(terminated, time % (ends + 1) == ends)
    assert torch.equal(action, time % (ends + 1) % 2)
    assert mask.all()
    assert torch.equal(observation[..., 0], reward)


@pytest.mark.parametrize(("times", "capacity"), [(9, 100), (53, 41)])
def test_the_last_ones_are_a_rollout(times, capacity):
    memory = filled(times, capacity)
    rollout = memory.last(4)
    assert rollout.reward.tolist() == [[2.0 * t, 2.0 * t + 1] for t in range(times - 4, times)]
    assert rollout.observation.shape == (4, 2, 1)
    assert rollout.first.tolist() == [[t % 4 == 0, t % 2 == 0] for t in range(times - 4, times)]


@pytest.mark.parametrize("name", [Point, Pictures])
@pytest.mark.parametrize("times", [0, 12, 30, 47])
def test_what_is_restored_goes_on_bit_for_bit(name, times):
    run = Copies(name, 2, seed=0)
    arrivals = [run.start(), *(run.step(run.spaces.random(2, draws)) for draws in [generator(3)] for _ in range(71))]
    memory, again = Memory(40, 2, run.spaces), Memory(40, 2, run.spaces)
    for arrival in arrivals[:times]:
        memory.add(arrival)
    facts, tensors = memory.state()
    again.restore(facts, {name: tensor.clone() for name, tensor in tensors.items()})
    for arrival in arrivals[times : times + 25]:
        memory.add(arrival)
        again.add(arrival)
    assert memory.steps == again.steps
    for a, b in (
        (memory.transitions(64, generator(5)), again.transitions(64, generator(5))),
        (memory.sequences(8, 6, generator(5)), again.sequences(8, 6, generator(5))),
        (memory.last(20), again.last(20)),
    ):
        assert all(torch.equal(x, y) and x.dtype == y.dtype for x, y in zip(a, b, strict=True))
    assert torch.equal(again.last(20).observation, torch.stack([a.observation for a in arrivals[times + 5 : times + 25]]))


def test_the_state_holds_only_what_is_filled():
    memory = filled(9, 1000)
    assert {tensor.shape[0] for tensor in memory.state()[1].values()} == {9}


def test_pictures_are_kept_as_bytes_and_come_back_as_numbers():
    run = Copies(Pictures, 1, seed=0)
    memory, arrival = Memory(100, 1, run.spaces), run.start()
    memory.add(arrival)
    assert memory.state()[1]["observation"].dtype == torch.uint8
    assert torch.equal(memory.last(1).observation[0], arrival.observation)
    assert memory.last(1).observation.dtype == torch.float32


def test_room_is_taken_when_it_is_filled():
    """A memory of 1e7 steps of 3 numbers is 270 MB; the process grows by less than a tenth of that until they come."""
    spaces = Spaces((3,), "real", None, "continuous", (1,), low=(-2.0,), high=(2.0,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    memory = Memory(10_000_000, 1, spaces)
    zero = torch.zeros(1)
    memory.add(Arrival(torch.zeros(1, 3), torch.zeros(1, 1), zero, zero == 0, zero == 1, zero == 1))
    memory.add(Arrival(torch.zeros(1, 3), torch.zeros(1, 1), zero, zero == 1, zero == 1, zero == 1))
    memory.transitions(256, generator())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 27_000  # kilobytes on Linux


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (lambda: Memory(10**13, 1, COUNTED), "a memory of 10,000,000,000,000 steps of 19 bytes, .* needs .* GiB"),
        (lambda: Memory(3, 2, COUNTED), "a memory of 3 for 2 copies .* the least, 4"),
        (lambda: Memory(-1, 1, COUNTED), "a memory of -1"),
        (lambda: Memory(9, 2, COUNTED).transitions(4), "a step was asked for, and the memory holds 0 arrivals"),
        (lambda: filled(1, 9).transitions(4), "holds 1 arrivals of each copy, of at most 4: remember more"),
        (lambda: filled(4, 100).sequences(4, 5), "a sequence of 5 arrivals .* holds 4 arrivals .* remember more"),
        (lambda: filled(30, 8).sequences(4, 5), "holds 4 arrivals of each copy, of at most 4: give it more room"),
        (lambda: filled(4, 100).last(5), "a rollout of 5 arrivals"),
        (lambda: filled(5, 4, lengths=(1, 1)).transitions(4), "restarts of episodes and no step"),
        (lambda: filled(5, 9).restore(*filled(5, 11).state()), "a memory of 5 times 2 arrivals, and this has room for 4 times 2"),
        (
            lambda: Memory(8, 2, Spaces((2,), "real", None, "discrete", (), (2,))).restore(*filled(5, 8).state()),
            "another environment",
        ),
        (lambda: Memory(8, 2, BINARY).restore(*filled(5, 8).state()), "observation is torch.float32 .* holds torch.uint8"),
        (lambda: filled(5, 9).add(Arrival(*(torch.zeros(2, 2) for _ in range(6)))), r"arrival's observation has shape \(2, 2\)"),
    ],
)
def test_what_cannot_be_is_refused(asked, said):
    with pytest.raises(BadInputError, match=said):
        asked()
