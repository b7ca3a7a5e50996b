"""Sequences: what led where, whatever the file; windows, lengths, ends of episodes; and what is refused."""

import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from reparam.data import Data, DataWarning, from_dataset, from_frame, from_tensor, load, split
from reparam.data.dataset import Part
from reparam.errors import BadInputError

# A world whose rules are known: x' = 3 x + a (mod 64) in each of two numbers, with the reward x_0 + 10 a, all exact in float32.
LENGTHS = (5, 9, 6, 7)


def step(x, a):
    return (3 * x + a) % 64


def episodes(lengths=LENGTHS, *, choices=3):
    """(observations T + 1 x 2, actions T, rewards T) for each T."""
    rng = np.random.default_rng(0)
    made = []
    for length in lengths:
        x, actions, rewards = [rng.integers(0, 64, 2).astype(np.float32)], rng.integers(0, choices, length), []
        for a in actions:
            rewards.append(x[-1][0] + 10 * a)
            x.append(step(x[-1], a))
        made.append((np.array(x), actions, np.array(rewards, np.float32)))
    return made


def follows(data, *, ends=None):
    """The rules hold at every step that does not begin an episode; `ends`: how many come to their end."""
    x, action, reward, first = data.x, *(data.beside[name] for name in ("action", "reward", "first"))
    action = action[..., 0] if action.dim() == 3 else action
    there = data.beside.get("mask", torch.ones_like(first)) & ~first
    inside = there[:, 1:]
    assert int(inside.sum()) > 10
    assert torch.equal(x[:, 1:][inside], step(x[:, :-1], action[:, 1:, None])[inside])
    assert torch.equal(reward[:, 1:][inside], (x[:, :-1, 0] + 10 * action[:, 1:])[inside])
    assert not action[first].any()
    assert not reward[first].any()
    if "mask" in data.beside:
        for tensor in (x, action, reward, first):
            assert not tensor[~data.beside["mask"]].any()
    if ends is not None:
        terminated = data.beside["terminated"]
        assert int(terminated.sum()) == ends
        assert not (terminated[:, :-1] & inside).any()  # the episode does not go on
    return data


def rectangle(length=6, n=8):
    x, actions, rewards = map(np.stack, zip(*episodes([length] * n), strict=True))
    return x, actions, rewards


def npz(path, **arrays):
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def sequences(path, **options):
    return load(path, layout="sequence", **options)


def refused(path, message, **options):
    with pytest.raises(BadInputError, match=message) as caught:
        load(path, **{"layout": "sequence", **options})
    assert "\n" not in str(caught.value)


def test_an_observation_more_than_actions(tmp_path):
    x, actions, rewards = rectangle()
    ends = np.zeros_like(rewards)
    ends[:3, -1] = 1
    data = follows(sequences(npz(tmp_path, observations=x, actions=actions, rewards=rewards, terminations=ends)), ends=3)
    assert (data.shape, len(data), data.choices, data.sequence) == ((7, 2), 8, (3,), True)
    assert data.beside["terminated"][:3, -1].all()
    assert data.beside["first"].equal(torch.arange(7).expand(8, 7) == 0)
    assert "mask" not in data.beside
    assert torch.equal(data.x, torch.from_numpy(x))
    assert data.scaling.endswith("; 8 sequences of 7 steps with actions (choices of 3), rewards and ends")


def test_actions_are_taken_at_observations_unless_it_is_said_that_they_led_there(tmp_path):
    x, actions, rewards = rectangle()
    path = npz(tmp_path, observation=x[:, :-1], action=actions, reward=rewards)
    data = follows(sequences(path))
    assert data.shape == (6, 2)
    before = {"action": np.pad(actions, ((0, 0), (1, 0))), "reward": np.pad(rewards, ((0, 0), (1, 0)), constant_values=99)}
    led = follows(sequences(npz(tmp_path, x=x, **before), actions="led"))
    assert led.beside["action"][:, :6].equal(data.beside["action"])
    with pytest.raises(AssertionError):
        follows(sequences(npz(tmp_path, x=x, **before)))
    # One observation more than actions leaves no choice.
    assert follows(sequences(npz(tmp_path, x=x, action=actions, reward=rewards), actions="led")).shape == (7, 2)


def test_a_row_may_begin_within_an_episode(tmp_path):
    x, actions, rewards = rectangle()
    rows = {"x": x[:, 3:], "action": actions[:, 2:], "reward": rewards[:, 2:]}
    data = follows(sequences(npz(tmp_path, **rows, first=np.zeros((8, 4))), actions="led"))
    assert data.beside["action"][:, 0].tolist() == actions[:, 2].tolist()
    assert not data.beside["first"].any()
    # What led to the first observation is not there when actions are those taken: it is no action 0, and no reward of 0.
    for shorter in (0, 1):
        rows = {"x": x[:, 3 : None if shorter else -1], "action": actions[:, 3:], "reward": rewards[:, 3:]}
        data = follows(sequences(npz(tmp_path, **rows, first=np.zeros(rows["x"].shape[:2]))))
        assert data.beside["first"].sum(1).tolist() == [1] * 8
        assert data.beside["first"][:, 0].all()


def test_what_came_to_its_end_is_told_from_what_was_cut_short(tmp_path):
    x, actions, rewards = rectangle()
    over, ends = np.zeros_like(rewards), np.zeros_like(rewards)
    over[:2, 5] = ends[:4, 5] = 1
    rows = {"x": x, "action": actions, "reward": rewards}
    data = follows(sequences(npz(tmp_path, **rows, done=ends, terminated=over)), ends=2)
    assert follows(sequences(npz(tmp_path, **rows, done=ends)), ends=4)
    assert follows(sequences(npz(tmp_path, **rows, truncated=ends, terminated=over)), ends=2).digest == data.digest


def test_one_flat_recording_is_cut_at_the_ends_of_its_episodes(tmp_path):
    """As D4RL has it: of the last observation of an episode only `next_observations` knows."""
    made = episodes()
    flat = {
        "observations": np.concatenate([x[:-1] for x, _, _ in made]),
        "actions": np.concatenate([a for _, a, _ in made])[:, None].astype(np.float64),
        "rewards": np.concatenate([r for _, _, r in made]),
    }
    last = np.cumsum(LENGTHS) - 1
    terminals, timeouts = np.zeros(sum(LENGTHS), bool), np.zeros(sum(LENGTHS), bool)
    terminals[last[[0, 2]]] = timeouts[last[1]] = True  # the last one is not over
    remarks = {"infos/qpos": np.zeros((sum(LENGTHS), 3)), "metadata/seed": np.array(1)}
    with pytest.warns(DataWarning, match="nothing can be learned of their ends: give next_observations"):
        data = follows(sequences(npz(tmp_path, **flat, terminals=terminals, timeouts=timeouts, **remarks)), ends=0)
    assert data.beside["mask"].sum(1).tolist() == list(LENGTHS)
    following = np.concatenate([x[1:] for x, _, _ in made])
    whole = {**flat, "terminals": terminals, "timeouts": timeouts, "next_observations": following}
    data = follows(sequences(npz(tmp_path, **whole)), ends=2)
    assert data.beside["mask"].sum(1).tolist() == [length + 1 for length in LENGTHS]
    assert data.beside["terminated"].nonzero().tolist() == [[0, 5], [2, 6]]
    assert data.beside["action"].shape == (4, 10, 1)
    assert (data.beside["action"].dtype, data.choices) == (torch.float32, None)
    # By the numbers of the episodes instead.
    numbers = np.repeat(np.arange(4), LENGTHS)
    begins = np.isin(np.arange(sum(LENGTHS)), [0, *(last + 1)])
    for name, found in {"episode": numbers, "is_first": begins}.items():
        again = sequences(npz(tmp_path, **flat, next_observations=following, **{name: found}))
        assert torch.equal(again.x, data.x)


def test_one_episode_with_an_observation_more(tmp_path):
    (x, actions, rewards), *_ = episodes([30])
    flat = {"x": x, "action": actions, "reward": rewards}
    data = follows(sequences(npz(tmp_path, **flat, done=np.eye(30)[29])), ends=1)
    assert (len(data), data.shape) == (1, (31, 2))
    refused(npz(tmp_path, **flat, done=np.eye(30)[4]), r"array 'done' .* at index \(4,\) says that the episode ends")


def test_sequences_of_unequal_length(tmp_path):
    x, actions, rewards = rectangle(9, 4)
    lengths = np.array([10, 4, 7, 2])
    x = x.copy()
    for row, length in enumerate(lengths):
        x[row, length:], rewards[row, length - 1 :] = np.nan, np.nan
    found = follows(sequences(npz(tmp_path, x=x, action=actions, reward=rewards, length=lengths)))
    assert found.beside["mask"].sum(1).tolist() == lengths.tolist()
    mask = np.arange(10) < lengths[:, None]
    again = follows(sequences(npz(tmp_path, x=x, action=actions, reward=rewards, mask=mask)))
    assert again.digest == found.digest


@pytest.mark.parametrize("window", [2, 4, 7, 50])
def test_windows_go_on_where_the_one_before_ended(tmp_path, window):
    x, actions, rewards = rectangle()
    data = follows(sequences(npz(tmp_path, x=x, action=actions, reward=rewards), window=window))
    sizes = {2: [1, 2, 2, 2], 4: [3, 4], 7: [7], 50: [7]}[window]  # as few as can be, as equal as can be
    assert (len(data), data.shape[0]) == (8 * len(sizes), max(sizes))
    lengths = data.beside["mask"].sum(1).tolist() if len(set(sizes)) > 1 else [sizes[0]] * len(data)
    assert lengths == 8 * sizes
    # Also across windows: the action of a first step led there from the last step of the window before.
    joined = torch.cat([row[:size] for row, size in zip(data.x, lengths, strict=True)])
    assert torch.equal(joined, torch.from_numpy(x).flatten(0, 1))
    for i in range(1, len(data)):
        if not data.beside["first"][i, 0]:
            assert torch.equal(step(data.x[i - 1, lengths[i - 1] - 1], data.beside["action"][i, 0]), data.x[i, 0])
    assert int(data.beside["first"].sum()) == 8


def test_another_episode_may_begin_within_a_row(tmp_path):
    x, actions, rewards = rectangle(6, 8)
    rows = {"x": x.reshape(4, 14, 2), "action": np.pad(actions, ((0, 0), (0, 1))).reshape(4, 14)}
    rows["reward"] = np.pad(rewards, ((0, 0), (0, 1)), constant_values=-5).reshape(4, 14)
    first = np.zeros((4, 14))
    first[:, [0, 7]] = 1
    done = np.zeros((4, 14))
    done[:, 5] = 1  # it leads to an end, after which another episode begins
    data = follows(sequences(npz(tmp_path, **rows, first=first, done=done)), ends=4)
    assert data.beside["terminated"].nonzero()[:, 1].tolist() == [6] * 4
    refused(npz(tmp_path, **rows, done=done), r"array 'done' .* at index \(0, 5\) says that the episode ends.*`first`")


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_the_rows_of_a_table_are_times(tmp_path, suffix):
    (x, actions, rewards), *_ = episodes([30])
    frame = pd.DataFrame({"a": x[:-1, 0], "action": actions, "b": x[:-1, 1], "Reward": rewards, "done": np.eye(30)[11]})
    path = tmp_path / f"log{suffix}"
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    with pytest.warns(DataWarning, match="ends"):
        data = follows(sequences(path, window=5))
    assert (data.columns, data.choices, data.shape) == (("a", "b"), (3,), (5, 2))
    assert data.beside["mask"].sum(1).tolist() == [4, 4, 4, 4, 5, 4, 5]
    assert data.beside["action"].shape == (7, 5)
    frame = frame[["a", "b"]].assign(action_0=actions - 0.5, action_1=actions)
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    data = sequences(path)
    assert (len(data), data.shape, data.beside["action"].shape, data.choices) == (1, (30, 2), (1, 30, 2), None)
    frame = frame.assign(action_0=actions - 1)  # no choices: -1 is none
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    assert sequences(path).beside["action"].dtype == torch.float32
    frame = frame.assign(done=0, dones=0)
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    refused(path, "'done' and 'dones', which mean the same")
    frame = frame.filter(["action_0", "action_1"])
    frame.to_csv(path, index=False) if suffix == ".csv" else frame.to_parquet(path)
    refused(path, "no column of observations beside action_0, action_1")


def test_one_recording_is_not_split():
    data = from_tensor(X[0], layout="sequence")
    with pytest.raises(BadInputError, match=r"1 sequence, .* cut it into windows \(window=..., --window\)"):
        split(data)


def test_the_array_of_observations_by_name(tmp_path):
    path = npz(tmp_path, pixels=X, x=2 * X, action=A)
    assert torch.equal(sequences(path, array="pixels").x, torch.from_numpy(X))
    refused(path, "has 'pixels', which has no meaning")


def test_arrays_without_names(tmp_path):
    x = rectangle()[0]
    np.save(tmp_path / "set.npy", x)
    assert torch.equal(sequences(tmp_path / "set.npy").x, torch.from_numpy(x))
    np.savez(tmp_path / "one.npz", x)
    assert torch.equal(sequences(tmp_path / "one.npz").x, torch.from_numpy(x))
    np.save(tmp_path / "set.npy", x[0])
    assert sequences(tmp_path / "set.npy", window=3).beside["mask"].sum(1).tolist() == [2, 2, 3]


@pytest.mark.parametrize(
    ("shape", "wanted"),
    [((4, 6, 9, 7), (6, 1, 9, 7)), ((4, 6, 3, 9, 7), (6, 3, 9, 7)), ((4, 6, 9, 7, 3), (6, 3, 9, 7)), ((4, 6, 5), (6, 5))],
)
@pytest.mark.parametrize("kind", ["binary", "counts", "real"])
def test_pictures_and_values(tmp_path, shape, wanted, kind):
    rng = np.random.default_rng(1)
    made = {
        "binary": rng.integers(0, 2, shape),
        "counts": rng.integers(0, 200, shape).astype(np.uint8),
        "real": rng.normal(size=shape),
    }
    path = npz(tmp_path, images=made[kind])
    data = sequences(path)
    assert (data.shape, data.values, data.levels) == (wanted, kind, 255 if kind == "counts" else None)
    x = torch.from_numpy(made[kind]).float()
    placed = x[:, :, None] if len(shape) == 4 else x.permute(0, 1, 4, 2, 3) if shape[-1] == 3 else x
    assert torch.equal(data.x, placed)
    assert data.scaling.startswith("values" if len(shape) == 3 else "pixels")
    # A long recording of pictures: what is one number a step says that there are no rows.
    flat = (
        sequences(npz(tmp_path, images=made[kind].reshape(-1, *shape[2:]), reward=np.zeros(24)), window=6)
        if len(shape) > 3
        else data
    )
    assert torch.equal(flat.x, data.x)


def test_padding_is_no_value(tmp_path):
    x = np.full((2, 4, 3), 7.5)
    x[0, 0] = 9.5
    data = sequences(npz(tmp_path, x=x, length=np.array([4, 2])))
    assert "reals from 7.5 to 9.5" in data.scaling


def test_several_choices_are_counted_in_all_rows(tmp_path):
    x = rectangle()[0]
    action = np.zeros((8, 6, 2), dtype=np.uint8)
    action[5, 3] = 4, 1
    data = sequences(npz(tmp_path, x=x, action=action))
    assert (data.choices, data.beside["action"].dtype) == ((5, 2), torch.int64)
    parts = split(data, seed=0, validation=0.25, test=0.25)
    assert all(part.choices == (5, 2) and part.sequence for part in (parts.train, parts.validation, parts.test))


def test_parts_have_what_belongs_to_their_rows(tmp_path):
    x, actions, rewards = rectangle()
    data = sequences(npz(tmp_path, x=x, action=actions, reward=rewards, y=np.arange(8)))
    parts = split(data, seed=0, validation=0.25, test=0.25)
    for part in (parts.train, parts.validation, parts.test):
        follows(part)
        for name, tensor in data.beside.items():
            assert torch.equal(part.beside[name], tensor[part.rows])
        assert torch.equal(part.y, part.rows)


def test_labels_are_those_of_the_sequences(tmp_path):
    x = rectangle()[0]
    kinds = np.array(["oak", "pine"] * 4)
    data = sequences(npz(tmp_path, x=x, label=kinds), window=4)
    assert data.classes == ("oak", "pine")
    assert data.y.tolist() == [0, 0, 1, 1] * 4
    refused(npz(tmp_path, x=x, label=kinds[:3]), "labels .* have shape .*: one a row is wanted, 8 in all")


def test_digests_of_other_data_never_change():
    """Pinned before there were sequences: runs record them, and go on only with the same data."""
    x = torch.arange(12.0).reshape(4, 3) / 8
    data = from_tensor(x, torch.tensor([0, 2, 1, 0]), response=torch.tensor([0.5, 1, -2, 0]), name="t")
    assert data.digest == "0bc5e4492629b405d45312ba7949a9d76a034303f5ed80bfcc2f00b10e5bdd9d"
    table = from_frame({"length": [1.5, None, 2.0], "kind": ["dog", "cat", None]})
    assert table.digest == "a4d168eae3ed568f76477ec3f8b2a0594acbd7ad7570f0a0c6030a357a71ceab"
    pictures = from_tensor(torch.arange(48).reshape(2, 2, 3, 4) % 7)
    assert pictures.digest == "a7305f9f46e0483f4a2995d85d7635e4c38d71de15dc98473b59bb451f17d52b"
    assert load("iris").digest == "9502bf5ebc0da42478db8785ef7885680dd28e42f7571ae9865bd4aa1868c33e"


def test_the_digest_is_that_of_everything():
    x, actions, rewards = rectangle()
    beside = {"action": actions, "reward": rewards}
    data = from_tensor(x, beside=beside, layout="sequence")
    assert from_tensor(x, beside=beside, layout="sequence", name="other").digest == data.digest
    other = actions.copy()
    other[3, 2] += 1
    found = {data.digest}
    for changed in ({**beside, "action": other}, {"action": actions}, {**beside, "action": actions * 1.0}, {"reward": rewards}, {}):
        found.add(from_tensor(x, beside=changed, layout="sequence").digest)
    assert len(found) == 6
    flags = torch.ones(8, 7, dtype=torch.bool)
    named = [replace(data, beside={"first": flags, name: flags}).digest for name in ("mask", "terminated")]
    assert named[0] != named[1]


def test_from_tensors_and_data_sets():
    made = episodes()
    items = [{"observation": x, "action": torch.from_numpy(a), "reward": r} for x, a, r in made]
    data = follows(from_dataset(items, name="walks", layout="sequence"))
    assert data.beside["mask"].sum(1).tolist() == [length + 1 for length in LENGTHS]
    assert data.source == "walks"
    cut = follows(from_dataset([(item, i) for i, item in enumerate(items)], name="walks", layout="sequence", window=5))
    assert cut.y.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert from_dataset([x.astype(">f4") for x, _, _ in made], name="walks", layout="sequence").x.equal(data.x)
    film = from_dataset([torch.rand(5, 8, 9), torch.rand(3, 8, 9)], name="films", layout="sequence")
    assert (film.shape, film.beside["mask"].sum(1).tolist()) == ((5, 1, 8, 9), [5, 3])
    x, actions, rewards = rectangle()
    kinds = torch.arange(8)
    found = follows(from_tensor(torch.from_numpy(x), kinds, beside={"actions": actions, "rewards": rewards}, layout="sequence"))
    assert (found.name, found.y.tolist(), found.values) == ("data", list(range(8)), "counts")
    x[0, 3, 1] = np.nan
    with pytest.raises(BadInputError, match=r"'observation' of walks holds nan at index \(2, 3, 1\)"):
        from_dataset([{"observation": row} for row in x[[1, 2, 0]]], name="walks", layout="sequence")


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [{"observation": np.zeros((3, 2))}, {"observation": np.ones((3, 3))}],
            "sequence 1 has observation .3 float32., the first",
        ),
        ([{"observation": np.eye(3), "action": [1, 1]}], "'action' of item 0 of t is of list"),
        ([{"observation": np.eye(3), "action": np.ones(3)}, np.eye(3)], "sequence 1 has .*: all alike are wanted"),
        ([{"action": np.ones(3)}], "no observations"),
        ([(np.eye(3), 1), np.eye(3)], "1 of the 2 items of t have labels"),
        ([(np.eye(3), 1, 2)], "has 3 parts"),
        ([{"observation": np.eye(3), "label": np.ones(3)}], "has a label among its arrays: give a pair"),
        ([{"observation": np.eye(3)[:1], "action": np.ones((0, 1))}], "sequences of one step"),
        ([np.ones(3)], r"shape \(3,\)"),
    ],
)
def test_data_sets_of_torch_that_cannot_be_used(items, message):
    with pytest.raises(BadInputError, match=message):
        from_dataset(items, name="t", layout="sequence")


X, A, R = rectangle()


def put(array, index, value):
    changed = array.astype(float) if array.dtype.kind == "f" else array.copy()
    changed[index] = value
    return changed


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": put(X, (2, 3, 1), np.nan)}, r"array 'x' of .* holds nan at index \(2, 3, 1\)"),
        ({"x": put(X, (2, 3, 1), 1e300)}, r"array 'x' of .* holds 1e\+300 at index \(2, 3, 1\)"),
        ({"x": X, "reward": put(R, (7, 5), -np.inf)}, r"array 'reward' of .* holds -inf at index \(7, 5\)"),
        ({"x": X, "action": put(1.0 * A, (1, 2), np.nan)}, r"array 'action' of .* holds nan at index \(1, 2\)"),
        ({"x": X, "action": put(A, (1, 2), -1)}, r"array 'action' of .* holds -1 at index \(1, 2\): choices are counted from 0"),
        ({"x": X, "action": put(A, (1, 2), 99999)}, r"holds 99999 at index \(1, 2\)"),
        ({"x": X, "done": put(R, ..., 0.5)}, r"array 'done' of .* holds 0.5 at index \(0, 0\): 0 and 1"),
        (
            {"x": X, "action": A[:, :4]},
            r"array 'action' of .* has shape \(8, 4\): 8 x 7 or 8 x 6, or with one more axis, is wanted",
        ),
        ({"x": X, "action": A[:5]}, r"array 'action' of .* has shape \(5, 6\)"),
        ({"x": X, "action": np.zeros((8, 6, 2, 2))}, "array 'action' of"),
        ({"x": X, "reward": np.zeros((8, 6, 2))}, "array 'reward' of .*8 x 7 or 8 x 6 is wanted"),
        ({"x": X, "action": A, "reward": np.zeros((8, 7))}, r"has shape \(8, 6\) and .* \(8, 7\): of T \+ 1 observations"),
        ({"x": X, "length": np.arange(8)}, r"array 'length' of .* holds 0 at index \(0,\): how many of the 7"),
        ({"x": X, "length": np.full(8, 8)}, r"holds 8 at index \(0,\)"),
        ({"x": X, "length": np.full(8, 2.5)}, r"holds 2.5 at index \(0,\)"),
        ({"x": X, "length": np.full(5, 7)}, r"array 'length' of .* has shape \(5,\): 8 is wanted"),
        ({"x": X, "mask": np.tile([1, 0, 1, 1, 1, 1, 1], (8, 1))}, "array 'mask' of .* in row 0 .*ones, then zeros"),
        ({"x": X, "mask": np.zeros((8, 7))}, "array 'mask' of .* in row 0"),
        ({"x": X, "mask": np.ones((8, 7)), "length": np.full(8, 6)}, "in row 0 .*as many ones as its length"),
        ({"x": X[0], "mask": np.ones(7)}, "array 'mask' of .*no such array is wanted"),
        ({"x": X, "next_observation": X}, None),
        ({"x": X, "action": A, "done": np.ones(8)}, r"array 'done' of .* has shape \(8,\) beside .*one number a step is N x T"),
        ({"x": X, "next_observation": X, "action": A}, "next_observation.* has a meaning only where an action was taken"),
        ({"x": X, "next_observation": X[:, 1:]}, r"array 'next_observation' of .* has shape \(8, 6, 2\): 8 x 7 x 2 is wanted"),
        ({"x": X, "acton": A}, "has 'acton', which has no meaning for sequences: did you mean 'action'"),
        ({"x": X, "weather": A}, "has 'weather'.*name it as one of observation, action"),
        ({"x": X, "observations": X}, "has 'x' and 'observations', which mean the same: name the one to use"),
        ({"x": X, "action": A, "actions": A}, "mean the same: keep one"),
        ({"action": A, "reward": R}, "no observations: call their array 'observation'"),
        ({"x": np.zeros((8, 7))[0]}, r"has shape \(7,\)"),
        ({"x": np.zeros((8, 0, 2))}, r"has shape \(8, 0, 2\)"),
        ({"x": np.zeros((2, 2, 2, 2, 2, 2))}, "N x T x D"),
        ({"x": X[:, :1]}, "sequences of one step"),
        ({"x": X.astype(complex)}, "dtype complex128"),
        ({"x": np.array([["a"] * 3] * 8)}, "dtype <U1"),
        ({"x": X, "terminated": put(0 * R, (4, 2), 1)}, r"array 'terminated' of .* at index \(4, 2\) says that the episode ends"),
        ({"x": X, "truncated": put(0 * R, (4, 5), 1)}, None),
    ],
)
def test_faults_name_the_array_and_the_index(tmp_path, arrays, message):
    path = npz(tmp_path, **arrays)
    if message is None:
        assert sequences(path).sequence
    else:
        refused(path, message)


def test_options_that_fit_nothing_are_refused(tmp_path):
    path = npz(tmp_path, x=X)
    refused(path, "layout is 'rows'", layout="rows")
    refused(path, "actions is 'before'", actions="before")
    for window in (1, 0, -3, True):
        refused(path, "at least 2 steps", window=window)
    refused(path, r"window=3 is of sequences: give layout='sequence'", window=3, layout="auto")
    refused(path, r"actions='led' is of sequences", actions="led", layout="auto")
    both = npz(tmp_path, x=X, next_observation=X, action=np.zeros((8, 7)))
    refused(both, "next_observation.* has a meaning only where an action was taken", actions="led")
    path = npz(tmp_path, x=X)
    refused(path, "response=.* has no meaning for", response=("x",))
    refused(path, "gaps='keep' has no meaning for", gaps="keep")
    refused(path, "rate=1 has no meaning for", sound={"rate": 1})
    refused(path, "no array 'b'; it has x", array="b")
    refused("digits", "'digits' has no sequences of observations")
    refused(tmp_path, "has no sequences of observations")
    with pytest.raises(BadInputError, match="have no response"):
        from_tensor(X, response=R, layout="sequence")
    with pytest.raises(BadInputError, match="beside is of sequences"):
        from_tensor(X, beside={"action": A})


def test_objects_and_huge_headers_are_refused(tmp_path, monkeypatch):
    refused(npz(tmp_path, x=np.array([[{}]], dtype=object)), "Python objects")
    monkeypatch.setattr("reparam.data.check.memory", lambda: 1000)
    refused(npz(tmp_path, x=np.zeros((20, 10, 4))), "GiB of memory")


@pytest.mark.parametrize("model", ["vae", "flow", "diffusion", "bnn", "graphical"])
def test_models_of_rows_refuse_sequences(tmp_path, refused, model):
    path = npz(tmp_path, observation=X, action=A)
    words = ("train", model, "--data", path, "--layout", "sequence", "--out", tmp_path / "run", "--epochs", "1")
    refused(2, "sequences|a graphical model takes a table", *words)


def test_rows_of_a_data_set_stay_rows(tmp_path):
    """What is read without a layout is what it always was."""
    path = npz(tmp_path, x=X, action=1.0 * A)
    data = load(path)
    assert (data.sequence, data.beside, data.shape) == (False, {}, (1, 7, 2))
    assert isinstance(data, Data)
    assert re.fullmatch("[0-9a-f]{64}", data.digest)
    assert Part(X, None, "t").columns is None


def test_a_run_reads_sequences_as_it_did(tmp_path, cli, refused):
    """Commands on a run read other sequences with the run's options, of any length, and write sequences as arrays."""
    run = tmp_path / "run"
    path = npz(tmp_path, observations=X / 64, actions=A, rewards=R / 64)
    small = ("--deterministic", 4, "--hidden", 4, "--latent_dim", 2, "--importance_samples", 2, "--threads", 1)
    assert cli("train", "world", "--data", path, "--window", 4, "--out", run, *small, "--epochs", 1)[0] == 0
    code, out, _ = cli("evaluate", run, "--part", "train", "--importance_samples", 2, "--json")  # the data are the same
    assert (code, json.loads(out)["rows"]) == (0, 12)
    other = pd.DataFrame({"a": X[0, :6, 0] / 64, "b": X[0, :6, 1] / 64, "action": [0, 1, 2, 0, 1, 2], "reward": R[0] / 64})
    other.to_csv(tmp_path / "other.csv", index=False)
    code, out, _ = cli("evaluate", run, "--data", tmp_path / "other.csv", "--importance_samples", 2, "--json")
    assert (code, json.loads(out)["rows"]) == (0, 2)
    assert cli("sample", run, "--n", 3, "--output", tmp_path / "made.npz")[0] == 0
    with np.load(tmp_path / "made.npz") as made:
        assert made["x"].shape[::2] == (3, 2)
    refused(2, r"sequences are N x T numbers or more.*give an \.npz", "sample", run, "--output", tmp_path / "made.csv")
    np.savez(tmp_path / "wide.npz", observation=np.arange(60.0).reshape(3, 4, 5) / 64)
    refused(2, "a step of wide is 5, and this model takes 2", "evaluate", run, "--data", tmp_path / "wide.npz")
