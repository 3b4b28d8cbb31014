"""Tables of dice: what they are, that shared noise changes no sibling's distribution, and that own
dice are plain rollouts."""

import pytest
import torch

from dllm_rl_lite.estimators import all_steps, text_distribution
from dllm_rl_lite.models import count_passes
from dllm_rl_lite.sampler import (
    Decoding,
    Dice,
    Gate,
    RunningConfidence,
    Schedule,
    branch_dice,
    chain_dice,
    dice_of_groups,
    exit_dice,
    fill_canvas,
    own_dice,
    tree_dice,
    window_dice,
)

FIELDS = ("tokens", "unmask_step", "logprob", "entropy", "n_forwards")
LENGTH, GROUP = 8, 4


def rolled_out(lm, rule, dice=None, prompts=("1+2", "6-4+7-1"), seed=0, **settings):
    rows = [prompt for prompt in prompts for _ in range(GROUP)]
    generator = torch.Generator().manual_seed(seed)
    decoding = Decoding(rule=rule, length=LENGTH, temperature=1.0, **settings)
    table = None if dice is None else dice_of_groups([dice] * len(prompts))
    return fill_canvas(lm, rows, decoding, generator=generator, dice=table)


def test_tables_are_what_they_say(rng):
    """Each as it would be written by hand; groups do not share dice with each other."""
    assert own_dice(2, 3).whose.tolist() == [[0, 1, 2]] * 2
    tree = tree_dice(4, 4).whose.tolist()
    assert tree == [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 2, 2], [0, 1, 2, 3]]
    assert tree_dice(8, 6).whose[[0, 3, 7]].tolist() == [
        [0] * 6,
        [0, 0, 0, 3, 3, 3],
        [0, 1, 2, 3, 4, 5],
    ]
    assert tree_dice(9, 4, "4 2").whose.tolist() == [[0, 0, 0, 0], [0, 0, 2, 2]]
    chain = chain_dice(4, 5, 2).whose.tolist()
    assert chain == [[0, 1, 2, 0, 0]] * 2 + [[0, 1, 2, 3, 4]] * 2
    window = window_dice(4, 2, rng(), first=1, width=2).whose.tolist()
    assert window == [[-1, -1], [0, 1], [0, 1], [-1, -1]]
    branch = branch_dice(3, 2, rng(), step=1).whose.tolist()
    assert branch == [[0, 0], [0, 1], [-1, -1]]
    both = dice_of_groups([branch_dice(2, 2, rng(), 1), branch_dice(2, 2, rng(), 0)])
    assert both.whose.tolist() == [[0, 0, 2, 3], [0, 1, -1, -1]] and both.finish is None


def test_drawn_tables_cover_their_steps(rng):
    """Windows fit, every step may branch, exits are different steps before the last in order."""
    generator = rng()
    firsts, branches, exits = set(), set(), set()
    for _ in range(100):
        inside = (window_dice(6, 2, generator, width=4).whose >= 0)[:, 0]
        assert int(inside.sum()) == 4
        firsts.add(int(inside.long().argmax()))
        whose = branch_dice(6, 2, generator).whose
        branches.add(int((whose[:, 0] != whose[:, 1]).long().argmax()))
        table = exit_dice(6, 4, generator)
        left = table.finish.long().argmax(0).tolist()[:-1]
        assert left == sorted(set(left)) and not table.finish[:, -1].any()
        assert torch.equal(table.finish[:, :-1].sum(0), torch.ones(3, dtype=torch.long))
        exits.update(left)
    assert (firsts, branches, exits) == ({0, 1, 2}, set(range(6)), set(range(5)))
    assert int(exit_dice(3, 8, generator).finish.sum()) == 7


RULES = {
    "confidence": Schedule(4),
    "random": Schedule(4, "random"),
    "gate": Gate(0.3, 0.5),
    "remasking": RunningConfidence(4),
}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("settings", [{}, {"eos": "stop", "top_k": 5}, {"confidence": "sampled"}])
def test_own_dice_are_plain_to_the_bit(policy, rng, name, settings):
    """Nobody shares: a tree of single siblings, a window of all steps."""
    plain = rolled_out(policy, RULES[name], **settings)
    for dice in (
        own_dice(4, GROUP),
        tree_dice(4, GROUP, "1"),
        window_dice(4, GROUP, rng(), 0, LENGTH),
    ):
        found = rolled_out(policy, RULES[name], dice, **settings)
        for field in FIELDS:
            assert torch.equal(getattr(found, field), getattr(plain, field)), field
        assert found.rolled.all() and plain.rolled.all()


@pytest.mark.parametrize("name", RULES)
def test_siblings_with_equal_dice_are_equal_until_they_part(policy, rng, name):
    """And part then, where they may: two groups on a tree, a chain and one branch."""
    parted = 0
    for dice in (tree_dice(4, GROUP), chain_dice(4, GROUP, 3), branch_dice(4, GROUP, rng(), 2)):
        rollout = rolled_out(policy, RULES[name], dice)
        together = torch.ones(2, GROUP, GROUP, dtype=torch.bool)
        for step in range(int(rollout.n_forwards.max())):
            canvas = rollout.canvas_at(step).view(2, GROUP, -1)
            same = (canvas[:, :, None] == canvas[:, None]).all(-1)
            assert same[together].all()
            whose = dice.whose[min(step, 3)]
            together &= whose[:, None] == whose[None]
        parted += int((~same).sum())
    assert parted > 0


def test_a_tree_computes_its_different_canvases(policy):
    """One row for both steps of the trunk, at most two for the next step."""
    with count_passes(policy.lm) as spent:
        rolled_out(policy, Schedule(4), tree_dice(4, GROUP), prompts=("1+2",))
    assert spent.asked == 4 * GROUP and spent.computed <= 1 + 1 + 1 + 2


TABLES = {
    "tree": tree_dice(3, 4),
    "sizes": tree_dice(3, 4, "4 2 1"),
    "chain": chain_dice(3, 4, 3),
    "path": Dice(torch.zeros(3, 4, dtype=torch.long)),
}


@pytest.mark.parametrize("order", ["confidence", "random"])
@pytest.mark.parametrize("name", TABLES)
def test_each_leaf_has_the_plain_distribution(table_lm, name, order):
    """Each sibling's frequencies of the 27 texts, within five standard errors of their exact
    chances; each pair of siblings that share all dice is equal."""
    lm = table_lm(3)
    rule = Schedule(3, order)
    choices = [torch.arange(3)] * 3
    exact = text_distribution(lm, torch.zeros(1, dtype=torch.long), choices, rule)
    assert float(exact.prob.sum()) == pytest.approx(1)
    groups = 4000
    rollout = fill_canvas(
        lm,
        lm.prompts(4 * groups),
        Decoding(rule=rule, length=3, temperature=1.0),
        generator=torch.Generator().manual_seed(3),
        dice=dice_of_groups([TABLES[name]] * groups),
    )
    text = (rollout.tokens * torch.tensor([9, 3, 1])).sum(1).view(groups, 4)
    error = (exact.prob * (1 - exact.prob) / groups).sqrt()
    for sibling in range(4):
        share = text[:, sibling].bincount(minlength=27) / groups
        assert ((share - exact.prob).abs() <= 5 * error).all(), sibling
    if name == "path":
        assert (text == text[:, :1]).all()
    else:
        assert (text[:, 0] != text[:, -1]).any()


def test_without_dice_the_likeliest_tokens_are_written(policy, rng):
    """Before and after a window siblings are equal as long as they may be, no view of a step scores
    such tokens, and a view of none takes no pass."""
    greedy = rolled_out(policy, Schedule(4), window_dice(4, GROUP, rng(), 3, 1))
    generator = torch.Generator().manual_seed(0)
    coldest = Decoding(rule=Schedule(4), length=LENGTH)
    wanted = fill_canvas(policy, ["1+2", "6-4+7-1"], coldest, generator=generator)
    before = greedy.unmask_step < 3
    expected = wanted.tokens.repeat_interleave(GROUP, 0)
    assert torch.equal(greedy.tokens[before], expected[before])
    assert torch.equal(greedy.rolled, ~before)
    views = all_steps(greedy)
    assert [bool(view.scored.any()) for view in views] == [False, False, False, True]
    assert torch.equal(views[3].scored, greedy.rolled)
    part = greedy.select(torch.tensor([1, 5]))
    assert torch.equal(part.rolled, greedy.rolled[[1, 5]])
    for rule in (Schedule(4, "random"), Gate(0.3, 0.5)):
        never = Dice(torch.full((4, GROUP), -1))
        cold = rolled_out(policy, rule, never)
        assert (cold.tokens.view(2, GROUP, -1) == cold.tokens.view(2, GROUP, -1)[:, :1]).all()
        assert not cold.rolled.any()


def test_an_exit_fills_all_blanks_on_the_paths_canvas(policy):
    """In blocks too; the pass is the path's own, and the text is as drawn as any other."""
    dice = exit_dice(4, GROUP, torch.Generator().manual_seed(1))
    leaves = dice.finish.long().argmax(0)[:-1].tolist()
    for block_length in (0, 4):
        with count_passes(policy.lm) as spent:
            rollout = rolled_out(
                policy, Schedule(4), dice, prompts=("1+2",), block_length=block_length
            )
        assert rollout.n_forwards.tolist() == [step + 1 for step in leaves] + [4]
        assert not (rollout.tokens == policy.mask_id).any() and rollout.rolled.all()
        for row, step in enumerate(leaves):
            seen = rollout.canvas_at(step)
            assert torch.equal(seen[row], seen[-1])
            filled = seen[row] == policy.mask_id
            assert (rollout.unmask_step[row][filled] == step).all()
        assert spent.computed == 4


def test_a_table_that_cannot_be_is_named(policy, rng):
    plain = Dice(torch.zeros(2, 3, dtype=torch.long))
    decoding = Decoding(rule=Schedule(4), length=LENGTH, temperature=1.0)
    with pytest.raises(ValueError, match=r"table of \(steps, 1 rows\), got shape \(2, 3\)"):
        fill_canvas(policy, ["1+2"], decoding, generator=rng(), dice=plain)
    for rule, settings in ((RunningConfidence(4), {}), (Schedule(4), {"cache": "prefix"})):
        with pytest.raises(ValueError, match="a row cannot fill all its blanks at once"):
            rolled_out(policy, rule, exit_dice(4, GROUP, rng()), **settings)
    for call, said in (
        (lambda: tree_dice(4, 4, "4 3"), r"each of which divides .*group, 4.*got '4 3'"),
        (lambda: tree_dice(4, 4, "4 x"), "dice.sizes must be empty, or whole numbers"),
        (lambda: tree_dice(4, 4, " "), "each of which divides .* got ' '"),
        (lambda: chain_dice(4, 4, 5), r"dice.checkpoints must be 1..4 \(steps\), got 5"),
        (lambda: window_dice(4, 4, rng(), 4, 1), r"dice.first in -1..3, got width 1, first 4"),
        (lambda: window_dice(4, 4, rng(), 0, 0), "dice.width of at least 1"),
        (lambda: branch_dice(4, 4, rng(), 4), r"dice.step must be in -1..3, got 4"),
    ):
        with pytest.raises(ValueError, match=said):
            call()
