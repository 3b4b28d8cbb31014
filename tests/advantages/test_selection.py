"""What is learnt from: groups with a gradient, and rows of the widest spread."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import mixed, spread_out, widest, widest_groups, widest_rows


@pytest.mark.parametrize("group", [2, 4, 8])
@pytest.mark.parametrize("p", [0.05, 0.5, 0.9])
def test_how_many_groups_are_drawn_for_one_kept(group, p):
    """By enumeration of all groups the chance to be kept is 1 - p^G - (1 - p)^G; of 2000 groups
    drawn with a fixed seed as many are kept, within four standard errors."""
    rewards = torch.tensor(list(itertools.product((0.0, 1.0), repeat=group)), dtype=torch.float64)
    right = rewards.sum(1)
    chance = p**right * (1 - p) ** (group - right)
    kept = (chance * mixed(rewards)).sum().item()
    assert kept == pytest.approx(1 - p**group - (1 - p) ** group, abs=1e-12)
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(2000, group, generator=generator) < p
    found = mixed(drawn.float()).float().mean().item()
    assert abs(found - kept) <= 4 * (kept * (1 - kept) / 2000) ** 0.5


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.data())
def test_the_widest_rows_by_brute_force(values, data):
    """No subset of that size has a larger variance, ties or not; it is some of the lowest and some
    of the highest."""
    n = data.draw(st.integers(1, len(values)))
    rewards = torch.tensor([values], dtype=torch.float64)
    chosen = widest(rewards, n)[0]
    assert chosen.sum() == n
    subsets = torch.tensor(list(itertools.combinations(values, n)), dtype=torch.float64)
    best = subsets.var(1, unbiased=False).max()
    torch.testing.assert_close(rewards[0, chosen].var(unbiased=False), best)
    left = rewards[0, ~chosen]
    taken = rewards[0, chosen].sort().values
    for low in range(n + 1):
        below, above = taken[:low], taken[low:]
        if (left[:, None] >= below).all() and (left[:, None] <= above).all():
            return
    pytest.fail("a row in the middle was taken")


def test_rows_by_hand():
    """A quarter of two groups of four: half of each group, then the two ends of the batch; after
    `over` steps, all."""
    rewards = torch.tensor([[0.0, 0.2, 0.4, 1.0], [0.5, 0.5, 0.6, 0.6]])
    advantage = (rewards - rewards.mean(1, keepdim=True)).flatten()
    assert widest_rows(advantage, rewards, step=1).nonzero().flatten().tolist() == [0, 3]
    shares = [widest_rows(advantage, rewards, step, over=3).sum().item() for step in range(5)]
    assert shares == [2, 2, 4, 6, 8]
    assert widest_rows(advantage, rewards, 1, share=1.0).all()


def test_the_widest_groups():
    """Of the largest standard deviation; of equal ones the first."""
    rewards = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.4, 0.5]])
    assert widest_groups(rewards, 1).tolist() == [False, True, False, False]
    assert widest_groups(rewards, 3).tolist() == [False, True, True, True]


@pytest.mark.parametrize("numbers", [{"share": 0.0}, {"share": 1.1}, {"over": 0}])
def test_bad_shares_are_named(numbers):
    with pytest.raises(ValueError, match="need rows.share above 0, at most 1, rows.over >= 1"):
        widest_rows(torch.zeros(2), torch.zeros(1, 2), 1, **numbers)
    with pytest.raises(ValueError, match="here it differs inside a row"):
        widest_rows(torch.zeros(2, 3), torch.zeros(1, 2), 1)


def test_groups_that_are_spread_out():
    """Of 0/1 rewards those that are mixed; of others a small spread is none."""
    rewards = torch.tensor(list(itertools.product((0.0, 1.0), repeat=6)))
    assert torch.equal(spread_out(rewards), mixed(rewards))
    close = torch.tensor([[0.5, 0.59], [0.5, 0.61], [0.3, 0.3]])
    assert spread_out(close).tolist() == [False, True, False]
    with pytest.raises(ValueError, match="groups.least must be above 0, got 0.0"):
        spread_out(close, 0.0)
