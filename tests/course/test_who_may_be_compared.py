"""The checks of *Who may be compared with whom*: right answers, each named mistake; and the texts
that its enumerations are made of."""

import pytest
import torch
from dllm_rl_course.who_may_be_compared import exercise_1, exercise_2, exercise_3, left_to_right
from exercise import said

from dllm_rl_lite.advantages import path_leave_one_out, same_canvas


def test_texts_are_written_from_left_to_right():
    """A token a step; the dice of each group are its own."""
    tokens = torch.tensor([[[0, 1], [0, 0]], [[2, 1], [2, 1]]])
    rollout = left_to_right(tokens, torch.tensor([[0, 0], [0, 1]]))
    blank = rollout.mask_id
    assert rollout.canvas_at(1).tolist() == [[0, blank], [0, blank], [2, blank], [2, blank]]
    assert torch.equal(rollout.canvas_at(2), tokens.flatten(0, 1))
    assert rollout.dice.tolist() == [[0, 0, 2, 2], [0, 1, 2, 3]]
    assert same_canvas(left_to_right(tokens), 2)[:, :, 0, 1].tolist() == [
        [True, True],
        [True, True],
        [False, True],
    ]


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.75, 0.5, 2 / 3), "right"),
        ([0.75, 0.5, 0.667], "right"),
        ((1, 0.5, 2 / 3), "part of the mean"),
        ((0.25, 0.5, 2 / 3), "(G - 1) / G"),
        ((0.75, 0.75, 2 / 3), "two of the four rewards"),
        ((0.75, 0.25, 2 / 3), "two decisions"),
        ((0.75, 0.5, 1), "does not leave out your neighbour"),
        ((0.75, 0.5, 0.5), "on a tree too"),
        ((0.75, 0.5), "three numbers"),
        (0.75, "three numbers"),
    ],
)
def test_strengths_at_the_first_decision(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def along(rewards, same, value="node", climbs=True, alone=0.0):
    """Leave-one-out along the path, by loops, with likely mistakes on request."""
    credit = torch.full((len(same) - 1, len(rewards)), alone, dtype=torch.float64)
    for t, g in torch.cartesian_prod(torch.arange(len(credit)), torch.arange(len(rewards))):
        gained = rewards[g] if value == "text" else rewards[same[t + 1, g]].mean()
        others = same[: t + 1, g].clone()
        others[:, g] = False
        depths = others.any(-1).nonzero().flatten() if climbs else torch.tensor([t])
        credit[t, g] = gained - rewards[others[depths[-1]]].mean()
    return credit.nan_to_num(alone) if not climbs else credit


def test_the_right_answer_is_the_packages(capsys):
    assert said(capsys, exercise_2, along).endswith("right")
    tokens = torch.randint(2, (5, 4, 3), generator=torch.Generator().manual_seed(0))
    rewards = torch.rand(2, 2, 2, generator=torch.Generator().manual_seed(1)).double()
    rewards = rewards[tuple(tokens.unbind(-1))]
    same = same_canvas(left_to_right(tokens), 4)
    wanted = path_leave_one_out(rewards, left_to_right(tokens))
    for b in range(5):
        torch.testing.assert_close(along(rewards[b], same[:, b]), wanted[b].T)


def node_value(rewards, same):
    return (same * rewards).sum(-1) / same.sum(-1)


def rest(rewards):
    return (rewards.sum() - rewards) / (len(rewards) - 1)


@pytest.mark.parametrize(
    "credit, words",
    [
        (lambda r, s: (r - rest(r)).expand(len(s) - 1, -1), "leave-one-out of texts"),
        (lambda r, s: node_value(r, s)[1:] - rest(r), "not of all others"),
        (lambda r, s: node_value(r, s).diff(dim=0), "child minus parent"),
        (lambda r, s: along(r, s, value="text"), "not one text's reward"),
        (lambda r, s: along(r, s, climbs=False), "has credit too"),
        (lambda r, s: along(r, s, climbs=False, alone=float("nan")), "a mean of nothing"),
        (lambda r, s: 2 * along(r, s), "wanted: V after the step"),
        (lambda r, s: along(r, s).T, "one credit a step"),
        (3, "the function itself"),
    ],
)
def test_credits_that_are_not(capsys, credit, words):
    assert words in said(capsys, exercise_2, credit)


def halved(steps, group, cuts, late=0):
    step = torch.arange(steps)[:, None]
    passed = sum(step >= cut + late for cut in cuts) + torch.zeros_like(step)
    sibling = torch.arange(group)
    return sibling - sibling % (group // 2**passed).clamp(min=1)


def numbered(steps, group, cuts):
    """The same parts under other names."""
    return 10 + halved(steps, group, cuts)


def at_once(steps, group, cuts):
    step = torch.arange(steps)[:, None]
    return torch.where(step < min(cuts, default=steps), 0, torch.arange(group))


def for_a_moment(steps, group, cuts):
    table = torch.zeros(steps, group, dtype=torch.long)
    table[cuts] = torch.arange(group) // (group // 2)
    return table


def place_within(steps, group, cuts):
    table = halved(steps, group, cuts)
    return torch.arange(group) - table


@pytest.mark.parametrize("table", [halved, numbered])
def test_parts_are_halved_at_the_cuts(capsys, table):
    assert said(capsys, exercise_3, table).endswith("right")


@pytest.mark.parametrize(
    "table, words",
    [
        (lambda t, g, cuts: halved(t, g, cuts, late=1), "one step late"),
        (at_once, "not split into single siblings"),
        (for_a_moment, "a cut is for good"),
        (place_within, "the place within a part"),
        (lambda t, g, cuts: halved(t, g, cuts) * 0, "wanted: g - g % size"),
        (lambda t, g, cuts: halved(t, g, cuts) - 1, "-1 means no dice"),
        (lambda t, g, cuts: halved(t, g, cuts).T, "(steps, group)"),
        (3, "the function itself"),
    ],
)
def test_tables_that_are_not(capsys, table, words):
    assert words in said(capsys, exercise_3, table)
