"""Credit along the path: its exact strength by enumeration, its limits, and what it may not do."""

import itertools
from dataclasses import replace

import pytest
import torch

from dllm_rl_lite.advantages import (
    depth_score,
    group_mean,
    leave_one_out,
    path_leave_one_out,
    same_canvas,
    segment_difference,
    serial_decay,
    subgroup_mean,
    temporal_difference,
    z_score,
)
from dllm_rl_lite.sampler import Rollout

MASK = 9
# A world of two binary decisions, and the reward of each of its four texts.
FIRST = torch.tensor(0.4, dtype=torch.float64)  # chance of 1
SECOND = torch.tensor([0.7, 0.25], dtype=torch.float64)  # the same, after 0 and after 1
REWARD = torch.tensor([[0.1, 0.9], [0.75, 0.2]], dtype=torch.float64)
TREE = torch.tensor([[0, 0, 2, 2], [0, 1, 2, 3]])  # dice of a 2 x 2 tree


def rollout_of(tokens, unmask_step=None, dice=None, logprob=-1.0):
    """The rollout of texts (N, L) that were written from left to right, or in the order given."""
    n, length = tokens.shape
    if unmask_step is None:
        unmask_step = torch.arange(length).expand(n, length)
    if dice is not None:
        groups = n // dice.shape[1]
        dice = torch.cat([dice + i * dice.shape[1] for i in range(groups)], 1)
    return Rollout(
        prompt=torch.zeros(n, 1, dtype=torch.long),
        prompt_mask=torch.ones(n, 1, dtype=torch.bool),
        tokens=tokens,
        unmask_step=unmask_step,
        logprob=torch.full((n, length), logprob),
        entropy=torch.zeros(n, length),
        n_forwards=unmask_step.max(1).values + 1,
        mask_id=MASK,
        eos_id=MASK + 1,
        dice=dice,
    )


def chances(tokens):
    """(..., 2) of each decision of the texts (..., 2)."""
    first = torch.where(tokens[..., 0] == 1, FIRST, 1 - FIRST)
    second = SECOND[tokens[..., 0]]
    second = torch.where(tokens[..., 1] == 1, second, 1 - second)
    return torch.stack([first, second], -1)


def groups_of(size):
    """All groups of independent siblings: texts (B, G, 2), their chances (B,)."""
    texts = torch.tensor(list(itertools.product([0, 1], repeat=2)))
    chosen = torch.tensor(list(itertools.product(range(4), repeat=size)))
    tokens = texts[chosen]
    return tokens, chances(tokens).prod(-1).prod(-1)


def trees():
    """All 2 x 2 trees: siblings 0 and 1 share the first decision, and so do 2 and 3."""
    found = []
    for a, b, *ends in itertools.product([0, 1], repeat=6):
        found.append([[a, ends[0]], [a, ends[1]], [b, ends[2]], [b, ends[3]]])
    tokens = torch.tensor(found)
    chance = chances(tokens)
    return tokens, chance[:, [0, 2], 0].prod(1) * chance[..., 1].prod(1)


def gradients(tokens, credit):
    """(B, 3): the estimate of each group, by the three logits: root, second after 0, after 1."""
    credit = credit.expand(*tokens.shape)
    root = credit[..., 0] * (tokens[..., 0] - FIRST)
    second = credit[..., 1] * (tokens[..., 1] - SECOND[tokens[..., 0]])
    found = [root]
    for node in (0, 1):
        found.append(second * (tokens[..., 0] == node))
    return torch.stack(found, -1).mean(1)


def truth():
    """(3,), of the expected reward."""
    tokens, chance = groups_of(1)
    return (chance[:, None] * gradients(tokens, rewards_of(tokens)[..., None])).sum(0)


def rewards_of(tokens):
    return REWARD[tokens[..., 0], tokens[..., 1]]


def strength(credit, tokens, chance, dice=None):
    """(3,): the expected gradient over the true one, by enumeration of groups; and the variance."""
    rollout = rollout_of(tokens.flatten(0, 1), dice=dice)
    found = credit(rewards_of(tokens), rollout)
    if found.ndim == 2:
        found = found[..., None]
    estimates = gradients(tokens, found)
    expected = (chance[:, None] * estimates).sum(0)
    variance = (chance[:, None] * (estimates - expected) ** 2).sum()
    return expected / truth(), float(variance)


def alone(function, **numbers):
    """A credit of the rewards only."""
    return lambda rewards, rollout: function(rewards, **numbers)


def with_numbers(function, **numbers):
    return lambda rewards, rollout: function(rewards, rollout, **numbers)


PLAIN_TEMPO = with_numbers(temporal_difference, scaled=False)
PLAIN_SPO = with_numbers(segment_difference, most=1.0)
PLAIN_DEPTH = with_numbers(depth_score, scaled=False)


def others_at(node, size):
    """E[(n - 1) / n] at a node of the second decision: n - 1 of the others are there too."""
    here = float(FIRST if node else 1 - FIRST)
    expected = 0.0
    for others in itertools.product([0, 1], repeat=size - 1):
        n = 1 + sum(others)
        chance = here ** sum(others) * (1 - here) ** (size - n)
        expected += chance * (n - 1) / n
    return expected


@pytest.mark.parametrize("size", [2, 3, 4])
def test_strengths_of_independent_siblings(size):
    """The mean of the group has (G - 1) / G everywhere, TEMPO E[(n - 1) / n] more; leave-one-out is
    unbiased, along the path too."""
    world = groups_of(size)
    assert float(world[1].sum()) == pytest.approx(1)
    share = (size - 1) / size
    mean, _ = strength(alone(group_mean), *world)
    torch.testing.assert_close(mean, torch.full_like(mean, share), rtol=0, atol=1e-9)
    tempo, _ = strength(PLAIN_TEMPO, *world)
    wanted = [2 * share, share + others_at(0, size), share + others_at(1, size)]
    assert tempo.tolist() == pytest.approx(wanted, abs=1e-9)
    for function in (alone(leave_one_out), path_leave_one_out):
        found, _ = strength(function, *world)
        torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-9)


def test_leave_one_out_along_the_path_may_vary_less_or_more(monkeypatch):
    """Than leave-one-out of texts: less where the first decision earns most of the reward, more
    where it earns little, for there the fewer siblings of a late node are only a noisier baseline.
    With two siblings it is the same estimate."""
    for size in (2, 3, 4):
        world = groups_of(size)
        found = []
        for reward in ([[0.0, 0.1], [0.8, 1.0]], [[0.0, 1.0], [1.0, 0.0]]):
            monkeypatch.setattr("test_paths.REWARD", torch.tensor(reward, dtype=torch.float64))
            _, path = strength(path_leave_one_out, *world)
            _, texts = strength(alone(leave_one_out), *world)
            found.append(path / texts)
        if size == 2:
            assert found == pytest.approx([1, 1], rel=1e-9)
        else:
            assert found[0] < 0.9 and found[1] > 1.1


TREE_STRENGTHS = {
    "group mean": (alone(group_mean), 1 / 2),
    "treepo plain": (with_numbers(subgroup_mean, weight="plain", whiten=False), 1 / 4),
    "treepo size": (with_numbers(subgroup_mean, weight="size", whiten=False), 1 / 3),
    "spo": (PLAIN_SPO, 1 / 2),
    "branch": (PLAIN_DEPTH, 1 / 2),
    "tempo": (PLAIN_TEMPO, 1),
    "path_loo": (path_leave_one_out, 1),
}


@pytest.mark.parametrize("name", TREE_STRENGTHS)
def test_strengths_at_the_root_of_a_tree(name):
    """Branches are what is compared there, and there are two of them."""
    function, wanted = TREE_STRENGTHS[name]
    found, _ = strength(function, *trees(), dice=TREE)
    assert float(found[0]) == pytest.approx(wanted, abs=1e-9)


def test_leave_one_out_along_the_path_is_unbiased_on_a_tree():
    """A sibling with the same dice does not count as another; taken as independent, it would."""
    found, _ = strength(path_leave_one_out, *trees(), dice=TREE)
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-9)
    naive, _ = strength(path_leave_one_out, *trees())
    assert float(naive[0]) < 0.9


def test_paths_may_meet_again():
    """Three tokens in any order: siblings stand on one canvas after different first steps. The
    expected gradient by all 51 logits is that of leave-one-out, the true one."""
    generator = torch.Generator().manual_seed(0)
    chance_of_one = torch.rand(3, 3, 3, 3, generator=generator, dtype=torch.float64)
    reward = torch.rand(2, 2, 2, generator=generator, dtype=torch.float64)
    tokens, orders, chances_of_paths, scores = [], [], [], []
    for order in itertools.permutations(range(3)):
        for text in itertools.product([0, 1], repeat=3):
            canvas = [2, 2, 2]
            chance = 1 / 6
            score = torch.zeros(3, 3, 3, 3, 3, dtype=torch.float64)  # step, then the logit
            for step, position in enumerate(order):
                logit = (*canvas, position)
                p = chance_of_one[logit]
                chance = chance * (p if text[position] else 1 - p)
                score[(step, *logit)] = text[position] - p
                canvas[position] = text[position]
            tokens.append(text)
            orders.append([order.index(position) for position in range(3)])
            chances_of_paths.append(chance)
            scores.append(score.flatten(1))
    tokens, orders = torch.tensor(tokens), torch.tensor(orders)
    chances_of_paths, scores = torch.stack(chances_of_paths), torch.stack(scores)
    assert float(chances_of_paths.sum()) == pytest.approx(1)
    pairs = torch.cartesian_prod(torch.arange(48), torch.arange(48))
    rollout = rollout_of(tokens[pairs.flatten()], orders[pairs.flatten()])
    same = same_canvas(rollout, 2)[:, :, 0, 1]
    assert (same[2] & ~same[1]).any(), "they must meet"
    rewards = reward[tuple(tokens[pairs].unbind(-1))]
    by_step = path_leave_one_out(rewards, rollout).gather(2, orders[pairs].argsort(-1))
    chance = chances_of_paths[pairs].prod(1)
    expected = torch.einsum("b,bgt,bgtk->k", chance, by_step, scores[pairs]) / 2
    own = reward[tuple(tokens.unbind(-1))]
    true = torch.einsum("n,n,ntk->k", chances_of_paths, own, scores)
    assert int((true != 0).sum()) > 20
    torch.testing.assert_close(expected, true, rtol=0, atol=1e-9)


def some_groups(seed, groups=5, size=4, length=3, dice=None):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(2, (groups * size, length), generator=generator)
    rewards = torch.randint(2, (groups, size), generator=generator).float()
    rewards[0] = rewards[0, 0]
    # One text has one reward.
    equal = (tokens.view(groups, size, 1, length) == tokens.view(groups, 1, size, length)).all(-1)
    rewards = rewards.gather(1, equal.long().argmax(-1))
    return rewards, rollout_of(tokens, dice=dice)


@pytest.mark.parametrize("seed", range(4))
def test_differences_add_up_along_the_path(seed):
    """TEMPO's and SPO's add up to reward minus mean; a row alone on its path has the z-score."""
    rewards, rollout = some_groups(seed)
    mean = group_mean(rewards)
    difference = temporal_difference(rewards, rollout, scaled=False) - mean[..., None]
    torch.testing.assert_close(difference.sum(-1), mean)
    same = same_canvas(rollout, 4)
    lonely = same[:-1].sum(-1).permute(1, 2, 0) == 1
    scaled = temporal_difference(rewards, rollout)
    wanted = z_score(rewards, 1e-6)[..., None].expand_as(scaled)
    torch.testing.assert_close(scaled[lonely], wanted[lonely])
    assert lonely.any() and not lonely.all()


def test_a_segment_goes_on_until_siblings_may_part():
    """A path of four steps with checkpoints at 0 and 2: both of a segment's tokens have its credit,
    and sure tokens none."""
    tokens = torch.tensor([[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1]])
    dice = torch.tensor([[0, 1, 0], [0, 1, 0], [0, 1, 2], [0, 1, 2]])
    rollout = rollout_of(tokens, dice=dice)
    rewards = torch.tensor([[1.0, 0.0, 0.5]])
    found = segment_difference(rewards, rollout, most=1.0)[0]
    start, middle = 0.5, 0.75
    wanted = [
        [middle - start, middle - start, 1 - middle, 1 - middle],
        [0 - start] * 4,
        [middle - start, middle - start, 0.5 - middle, 0.5 - middle],
    ]
    torch.testing.assert_close(found, torch.tensor(wanted))
    likely = replace(rollout, logprob=torch.tensor([[-2.0, -0.01, -2.0, -2.0]] * 3))
    kept = segment_difference(rewards, likely, most=0.9)[0]
    assert (kept[:, 1] == 0).all() and torch.equal(kept[:, [0, 2, 3]], found[:, [0, 2, 3]])


def test_subgroups_of_the_card():
    """2 x 2, only the first text right: its neighbour is blamed most."""
    tokens = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    rollout = rollout_of(tokens, dice=TREE)
    rewards = torch.tensor([[1.0, 0, 0, 0]])
    found = subgroup_mean(rewards, rollout, whiten=False)
    torch.testing.assert_close(found, torch.tensor([[2 / 3, -1 / 3, -1 / 6, -1 / 6]]))
    whitened = subgroup_mean(rewards, rollout)
    assert float(whitened.mean()) == pytest.approx(0, abs=1e-6)
    assert float(whitened.std()) == pytest.approx(1, rel=1e-5)


def test_a_node_counts_once_at_its_depth():
    """Three siblings on one node and one on another: two nodes."""
    tokens = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 1]])
    rewards = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    found = depth_score(rewards, rollout_of(tokens), scaled=False)[0]
    first = torch.tensor([1 / 3, 1 / 3, 1 / 3, -1 / 3])
    second = torch.tensor([2 / 3, 2 / 3, -1 / 3, -1 / 3])
    torch.testing.assert_close(found, torch.stack([first, second], 1))
    scaled = depth_score(rewards, rollout_of(tokens))[0, :, 0]
    torch.testing.assert_close(scaled, first / first[[0, 3]].std(), rtol=1e-4, atol=0)


def test_leave_one_out_along_the_path_has_leave_one_out_as_its_limit():
    """Where siblings share the empty canvas only."""
    tokens = torch.tensor([[0, 0], [1, 0], [2, 0]])
    rewards = torch.tensor([[1.0, 0.0, 0.5]])
    found = path_leave_one_out(rewards, rollout_of(tokens))
    torch.testing.assert_close(found, leave_one_out(rewards)[..., None].expand_as(found))
    shared = rollout_of(torch.zeros_like(tokens), dice=torch.zeros(2, 3, dtype=torch.long))
    assert (path_leave_one_out(torch.ones(1, 3), shared) == 0).all(), "nobody to compare with"


def test_later_right_exits_earn_less():
    """The card's example; whatever the order of the rows, and the first segment sums to zero."""
    right = torch.tensor([[0.0, 1.0, 1.0, 0.0, 1.0]])
    exits = torch.tensor([1, 2, 4, 5, 8])
    order = torch.tensor([3, 1, 4, 0, 2])
    rollout = replace(rollout_of(torch.zeros(5, 8, dtype=torch.long)), n_forwards=exits)
    wanted = torch.tensor([[0, 1, 0.5, 0, 0.25]])
    assert torch.equal(serial_decay(right, rollout), wanted)
    shuffled = serial_decay(right[:, order], rollout.select(order))
    assert torch.equal(shuffled, wanted[:, order])
    assert torch.equal(serial_decay(right, rollout, factor=1.0), right)
    credit = group_mean(wanted)[0]
    # Of each segment: the sum over the exits that contain it.
    left = credit.flip(0).cumsum(0).flip(0)
    torch.testing.assert_close(left, torch.tensor([0, 0.35, -0.3, -0.45, -0.1]), atol=1e-6, rtol=0)


EVERY = {
    "temporal_difference": temporal_difference,
    "segment_difference": segment_difference,
    "subgroup_mean": subgroup_mean,
    "depth_score": depth_score,
    "path_leave_one_out": path_leave_one_out,
}


@pytest.mark.parametrize("name", EVERY)
def test_a_dead_group_has_exactly_no_credit(name):
    """Where the mean of equal numbers misses them by round-off, too; groups of one are refused."""
    _, rollout = some_groups(0)
    for reward in (0.0, 0.1, 1.0):
        assert (EVERY[name](torch.full((5, 4), reward), rollout) == 0).all()
    with pytest.raises(ValueError, match="a group of 1 has no siblings"):
        EVERY[name](torch.zeros(20, 1), rollout)
    with pytest.raises(ValueError, match="15 rewards need as many texts, got 20"):
        EVERY[name](torch.zeros(5, 3), rollout)


@pytest.mark.parametrize(
    "call, said",
    [
        (with_numbers(temporal_difference, eps=0.0), "eps must be above 0"),
        (with_numbers(segment_difference, most=1.5), r"most must be in 0..1, got 1.5"),
        (with_numbers(subgroup_mean, weight="leaf"), "weight one of .*got 'leaf'"),
        (with_numbers(depth_score, eps=-1.0), "eps must be above 0"),
        (with_numbers(serial_decay, factor=2.0), r"factor must be in 0..1, got 2.0"),
    ],
)
def test_wrong_numbers_are_named(call, said):
    with pytest.raises(ValueError, match=said):
        call(*some_groups(0))
