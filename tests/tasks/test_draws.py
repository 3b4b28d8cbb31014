"""Which problems of a pool come next."""

from collections import Counter

import pytest

from dllm_rl_lite.tasks import load_task, pooled, uncertain

TASK = load_task("chain1")
POOL = {e.prompt for e in TASK.sample(8, "train", 0)}


def test_a_pool_is_always_the_same():
    """Its problems come again, in another choice at another seed; none comes twice in a draw."""
    draws = [[e.prompt for e in pooled(TASK, 5, seed, pool=8)] for seed in range(20)]
    assert set().union(*draws) == POOL
    assert all(len(set(draw)) == 5 for draw in draws)
    assert draws[0] != draws[1] and draws[0] == [e.prompt for e in pooled(TASK, 5, 0, pool=8)]


def test_uncertain_problems_come_more_often():
    """One solved half of the time weighs 0.55, one that always is 0.05; counts within four standard
    errors."""
    easy, hard = sorted(POOL)[:2]
    memory = {easy: {"right": 8.0, "wrong": 0.0}, hard: {"right": 1.0, "wrong": 9.0}}
    n = 4000
    seen = Counter(e.prompt for e in uncertain(TASK, n, 0, memory, pool=8))
    weights = {prompt: 0.55 for prompt in POOL} | {easy: 0.05, hard: 0.35}
    for prompt, weight in weights.items():
        chance = weight / sum(weights.values())
        assert abs(seen[prompt] - n * chance) <= 4 * (n * chance * (1 - chance)) ** 0.5


def test_bad_pools_are_named():
    with pytest.raises(ValueError, match=r"problems.pool must be at least 9 \(prompts\), got 8"):
        pooled(TASK, 9, 0, pool=8)
    with pytest.raises(ValueError, match="problems.floor must be above 0, got 0"):
        uncertain(TASK, 2, 0, {}, floor=0.0)
