"""Several tasks as one: every example keeps its task's reward, demonstration and split."""

import random
from collections import Counter

import pytest

from dllm_rl_lite.tasks import SPLITS, load_task, split_of, task_counts, task_shares

NAMES = ["chain2", "sudoku4", "countdown"]
TASK = load_task("+".join(NAMES))


def test_examples_keep_their_task():
    """Demonstrations without a habit are right, one of another task is wrong; the canvas is the
    longest one; the parts come about equally often, within four standard errors."""
    examples = TASK.sample(90, "validation", 0)
    texts = [TASK.demonstrate(example, random.Random(0), 0.0) for example in examples]
    assert TASK.rewards_of(examples, texts) == [1.0] * 90
    assert sum(TASK.rewards_of(examples, texts[1:] + texts[:1])) < 45
    assert TASK.length == max(load_task(name).length for name in NAMES) == 28
    seen = Counter(example.columns["task"] for example in examples)
    assert all(abs(seen[name] - 30) <= 4 * (90 * 2 / 9) ** 0.5 for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_part_without_a_problem_in_the_batch_is_not_asked(name):
    examples = TASK.sample_each({name: 2}, seed=0)
    right = [TASK.demonstrate(example, random.Random(0), 0.0) for example in examples]
    assert TASK.rewards_of(examples, [right[0], "wrong"]) == [1.0, 0.0]


@pytest.mark.parametrize("split", SPLITS)
def test_a_problem_stays_in_its_split(split):
    for example in TASK.sample(30, split, 1):
        assert split_of(TASK.key(example)) == split


def test_problems_of_each_part():
    """They are those of the parts."""
    found = TASK.sample_each({"chain2": 2, "countdown": 1}, seed=5)
    alone = load_task("chain2").sample(2, "train", 5)
    assert [example.prompt for example in found[:2]] == [example.prompt for example in alone]
    assert [example.columns["task"] for example in found] == ["chain2", "chain2", "countdown"]
    assert found[2].columns["own"].keys() == {"numbers", "target"}


def test_counts_follow_the_shares():
    """Equal without a memory; of many draws each task's count within four standard errors."""
    assert task_shares({}, NAMES) == dict.fromkeys(NAMES, pytest.approx(1 / 3))
    memory = {"sudoku4": {"logit": 1.0}}
    shares = task_shares(memory, NAMES)
    counts = task_counts(memory, NAMES, 2000, 0)
    assert counts.total() == 2000
    for name, share in shares.items():
        assert abs(counts[name] - 2000 * share) <= 4 * (2000 * share * (1 - share)) ** 0.5


def test_what_cannot_be_mixed_is_named():
    with pytest.raises(ValueError, match="unknown task of a mixture 'chian2'; did you mean"):
        load_task("chian2+sudoku4")
    with pytest.raises(ValueError, match="mixes different tasks"):
        load_task("chain2+chain2")
    with pytest.raises(ValueError, match="takes no data"):
        load_task("chain2+sudoku4", data="here")
