"""Credit by token: its limits, and what each rule singles out."""

import math
from dataclasses import replace

import pytest
import torch
from test_paths import rollout_of
from updates import ADVANTAGE

from dllm_rl_lite.advantages import (
    branch_credit,
    conflict_weighted,
    group_mean,
    item_score,
    prediction_spread,
    spread_weighted,
    z_score,
)
from dllm_rl_lite.models import count_passes
from dllm_rl_lite.objectives import item_log_ratio, item_of_position, mean_log_ratio

TOKENS = torch.tensor([[0, 1, 2], [0, 3, 2], [4, 3, 5]])
CREDIT = torch.tensor([[1.0, -0.5, -0.5]])


def test_shared_tokens_of_right_and_wrong_texts_are_protected():
    """Those of the right text count twice, those of the wrong one not at all; wrong siblings do not
    protect each other."""
    found = conflict_weighted(CREDIT, rollout_of(TOKENS), entropy=0.0)
    wanted = [[2.0, 1.0, 2.0], [0.0, -0.5, 0.0], [-0.5, -0.5, -0.5]]
    assert torch.equal(found, torch.tensor(wanted))
    apart = conflict_weighted(CREDIT, rollout_of(torch.arange(9).view(3, 3) % 7), entropy=0.0)
    assert torch.equal(apart, CREDIT.view(3, 1).expand(3, 3))


def test_uncertain_texts_are_worth_less():
    """By a tenth of their mean entropy, and nothing above ln 2; with neutral numbers the credit
    stays."""
    entropy = torch.tensor([[0.2, 0.4, 0.6], [0.0, 0.0, 0.0], [0.6, 0.8, 1.0]])
    rollout = replace(rollout_of(torch.arange(9).view(3, 3)), entropy=entropy)
    found = conflict_weighted(CREDIT, rollout)
    wanted = torch.tensor([[1 - 0.04] * 3, [-0.5] * 3, [0.0] * 3])
    torch.testing.assert_close(found, wanted)
    neutral = {"right": 1.0, "wrong": 1.0, "entropy": 0.0, "most": math.inf}
    plain = conflict_weighted(CREDIT, rollout_of(TOKENS), **neutral)
    assert torch.equal(plain, CREDIT.view(3, 1).expand(3, 3))
    with pytest.raises(ValueError, match="right, wrong and entropy must be at least 0"):
        conflict_weighted(CREDIT, rollout, right=-1.0)


def test_equal_canvases_leave_the_credit_as_it_is(policy, batch):
    """Exactly: all siblings see the empty canvas, so the spread of their predictions is 0."""
    empty = replace(batch, n_forwards=torch.ones_like(batch.n_forwards))
    credit = ADVANTAGE.view(2, 3)
    found = spread_weighted(credit, empty, policy)
    assert torch.equal(found, ADVANTAGE[:, None].expand(6, 8))
    assert torch.equal(spread_weighted(credit, batch, policy, alpha=1.0), found)


def test_positions_that_siblings_would_write_differently_count_more(policy, batch):
    """Factors of a group are 1..alpha and reach both; they are those of the formula, and take a
    pass a row."""
    credit = ADVANTAGE.view(2, 3)
    with count_passes(policy.lm) as spent:
        found = spread_weighted(credit, batch, policy, alpha=1.7)
    assert spent.asked == 6
    canvas = batch.canvas_at(batch.n_forwards // 2)
    for group in (slice(0, 3), slice(3, 6)):
        rows = batch.select(torch.arange(6)[group])
        logp = []
        for i in range(3):
            text = torch.cat([rows.prompt[i], canvas[group][i]])[None]
            mask = torch.cat([rows.prompt_mask[i], torch.ones(8, dtype=torch.bool)])[None]
            where = torch.ones_like(mask)
            logp.append(policy(text, mask, where).log_softmax(-1)[-8:].clamp(min=-30))
        spread = torch.zeros(8)
        for position in range(8):
            blank = canvas[group][:, position] == batch.mask_id
            if blank.any():
                there = torch.stack([logp[i][position] for i in range(3) if blank[i]])
                d = (there.mean(0) - there).clamp(-11, 11)
                spread[position] = (d.exp() - d - 1).sum(1).mean()
        computed = prediction_spread(policy, rows, canvas[group])
        torch.testing.assert_close(computed, spread, rtol=1e-3, atol=1e-5)
        x = (spread - spread.min()) / (spread.max() - spread.min())
        factor = (1 + 0.7 * x).expand(3, 8)
        wanted = ADVANTAGE[group, None] * factor
        torch.testing.assert_close(found[group], wanted, rtol=1e-3, atol=1e-5)
        assert factor.min().item() == 1 and factor.max().item() == pytest.approx(1.7)
    with pytest.raises(ValueError, match="alpha must be at least 1, got 0.5"):
        spread_weighted(credit, batch, policy, alpha=0.5)


def test_an_item_has_the_mean_reward_of_those_that_wrote_it():
    """Items of two tokens after the first; one item for all is the z-score of texts."""
    assert item_of_position(6, 2, 1).tolist() == [0, 1, 1, 2, 2, 3]
    assert item_of_position(4, 2, 0).tolist() == [1, 1, 2, 2]
    assert item_of_position(3, 1, 5).tolist() == [0, 0, 0]
    tokens = torch.tensor([[0, 1, 1, 2], [0, 1, 1, 3], [0, 1, 2, 3], [0, 5, 5, 3]])
    rewards = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    found = item_score(rewards, rollout_of(tokens), size=2, first=1)[0]
    assert (found[:, 0] == 0).all(), "all wrote the same"
    first = z_score(torch.tensor([[0.5, 0.5, 0.0, 1.0]]))[0]
    torch.testing.assert_close(found[:, 1:3], first[:, None].expand(4, 2))
    last = z_score(torch.tensor([[1.0, 1 / 3, 1 / 3, 1 / 3]]))[0]
    torch.testing.assert_close(found[:, 3], last)
    whole = item_score(rewards, rollout_of(tokens), size=4, first=0)[0]
    torch.testing.assert_close(whole, z_score(rewards)[0][:, None].expand(4, 4))
    for numbers in ({"size": 0}, {"first": -1}):
        with pytest.raises(ValueError, match="need size of at least 1 and first of at least 0"):
            item_score(rewards, rollout_of(tokens), **numbers)


def test_an_items_ratio_is_its_mean():
    """One token an item: the token's ratio; one item for the canvas: that of the text."""
    generator = torch.Generator().manual_seed(0)
    logp, old = torch.randn(2, 3, 6, generator=generator)
    scored = torch.rand(3, 6, generator=generator) < 0.7
    tokens = item_log_ratio(logp, old, scored, size=1, first=0)
    torch.testing.assert_close(tokens[scored], (logp - old)[scored])
    text = item_log_ratio(logp, old, scored, size=6, first=0)
    torch.testing.assert_close(text, mean_log_ratio(logp, old, scored).expand(3, 6))
    two = item_log_ratio(logp, old, torch.ones_like(scored), size=2, first=2)
    wanted = (logp - old).unflatten(1, (3, 2)).mean(-1).repeat_interleave(2, 1)
    torch.testing.assert_close(two, wanted)


def test_only_the_branching_step_has_credit():
    """In proportion to its entropy over the mean of the text; with own dice every step branches."""
    dice = torch.tensor([[0, 0, 0], [0, 1, 2], [-1, -1, -1]])
    entropy = torch.tensor([[0.3, 0.6, 0.9]] * 3)
    rollout = replace(rollout_of(TOKENS, dice=dice), entropy=entropy)
    found = branch_credit(CREDIT, rollout)
    wanted = CREDIT.view(3, 1) * torch.tensor([0.0, 1.0, 0.0])
    torch.testing.assert_close(found, wanted)
    everywhere = branch_credit(CREDIT, replace(rollout, dice=None))
    wanted = CREDIT.view(3, 1) * torch.tensor([0.5, 1.0, 1.5])
    torch.testing.assert_close(everywhere, wanted)
    assert group_mean(CREDIT).sum() == 0
