"""Hints: how much of which text is shown, and where there is nothing to show, nothing changes."""

import math
import random
from types import SimpleNamespace

import pytest
import torch

from dllm_rl_lite.models import decode
from dllm_rl_lite.tasks import (
    hint_canvas,
    hinted,
    load_task,
    remember_groups,
    resumed,
    seeded,
)

LENGTH = 16
TEXT = "6-4=2,2+7=9<answer>9</answer>"


@pytest.fixture(scope="module")
def task():
    return load_task("chain2")


@pytest.fixture(scope="module")
def problems(task):
    return task.sample(4, "train", 0)


def ids_of(lm, text, length=LENGTH):
    ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
    return torch.tensor(ids + [lm.eos_id] * (length - len(ids)))


# ---------------------------------------------------------------- the canvas


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 15 / 16])
def test_so_much_of_the_text_stands_on_its_canvas(lm, rng, share):
    """The text's own tokens at their own places, end-of-sequence among them; masks elsewhere."""
    canvas = hint_canvas(lm.tokenizer, [TEXT] * 3, [share] * 3, LENGTH, rng())
    shown = canvas != lm.mask_id
    assert (shown.sum(1) == share * LENGTH).all()
    assert torch.equal(canvas[shown], ids_of(lm, TEXT).expand(3, -1)[shown])


def test_every_token_is_as_likely_shown(lm, rng):
    """4 of 16, 2000 times: a quarter each, within four standard errors."""
    n = 2000
    canvas = hint_canvas(lm.tokenizer, [TEXT] * n, [0.25] * n, LENGTH, rng())
    share = (canvas != lm.mask_id).double().mean(0)
    error = math.sqrt(0.25 * 0.75 / n)
    assert ((share - 0.25).abs() < 4 * error).all()


def test_nothing_is_drawn_for_shares_of_zero(lm, rng):
    g = rng()
    before = g.get_state()
    canvas = hint_canvas(lm.tokenizer, [TEXT, ""], [0.0, 0.01], LENGTH, g)
    assert (canvas == lm.mask_id).all() and torch.equal(g.get_state(), before)


@pytest.mark.parametrize("share", [1.0, 0.99, 1.5, -0.1])
def test_a_share_that_leaves_nothing_to_score_is_named(lm, rng, share):
    message = f"a share of {share:g} of a canvas of 16 tokens is out of range"
    with pytest.raises(ValueError, match=message):
        hint_canvas(lm.tokenizer, [TEXT], [share], LENGTH, rng())


def test_a_long_text_is_cut(lm, rng):
    canvas = hint_canvas(lm.tokenizer, [TEXT], [0.5], 4, rng())
    shown = canvas[0] != lm.mask_id
    assert torch.equal(canvas[0][shown], ids_of(lm, TEXT)[:4][shown])


# ---------------------------------------------------------------- the memory


def test_what_is_remembered_of_groups():
    """The last group's step, mean and largest reward; the best text once it is good enough, until
    a better one comes."""
    task = load_task("chain2")
    first, second = task.sample(2, "train", 0)
    examples = [first, first, second, second]
    texts = ["a", "b", "c", "d"]
    old = remember_groups({}, examples, torch.tensor([[0.5, 1.0], [0.0, 0.5]]), texts, 3)
    assert old == {
        first.prompt: {"step": 3, "mean": 0.75, "largest": 1.0, "text": "b", "reward": 1.0},
        second.prompt: {"step": 3, "mean": 0.25, "largest": 0.5},
    }
    new = remember_groups(old, examples, torch.tensor([[0.0, 0.0], [2.0, 0.95]]), texts, 4)
    assert new[first.prompt] == {
        "step": 4,
        "mean": 0.0,
        "largest": 0.0,
        "text": "b",
        "reward": 1.0,
    }
    assert new[second.prompt]["text"] == "c"
    assert old[first.prompt]["step"] == 3, "the old memory is left as it is"


def entry(mean, largest=1.0, step=5, **more):
    return {"step": step, "mean": mean, "largest": largest, **more}


# ---------------------------------------------------------------- three starts

EMPTY = {
    "seeded": lambda problems, **known: seeded(problems, {}, **known),
    "hinted": lambda problems, **known: hinted(problems, {}, step=6, **known),
    "resumed": lambda problems, **known: resumed(problems, {}, **known),
}


@pytest.mark.parametrize("start", EMPTY)
def test_without_a_memory_all_canvases_are_blank(lm, rng, task, problems, start):
    """And no noise is used: the rollouts are the parent's to the bit."""
    g = rng()
    before = g.get_state()
    canvas = EMPTY[start](problems, task=task, tokenizer=lm.tokenizer, generator=g)
    assert canvas.shape == (4, task.length) and (canvas == lm.mask_id).all()
    assert torch.equal(g.get_state(), before)


def test_only_a_problem_that_was_all_wrong_is_seeded(lm, rng, task, problems):
    memory = {
        problems[0].prompt: entry(0.0, largest=0.0),
        problems[1].prompt: entry(0.25),
        problems[2].prompt: entry(-1.0, largest=-0.5),
    }
    canvas = seeded(problems, memory, task, lm.tokenizer, rng(), share=0.5)
    assert (canvas != lm.mask_id).sum(1).tolist() == [8, 0, 8, 0]
    for i in (0, 2):
        shown = canvas[i] != lm.mask_id
        right = ids_of(lm, demonstration(task, problems[i]))
        assert torch.equal(canvas[i][shown], right[shown])


def demonstration(task, problem):
    """The only right working of a chain."""
    return task.demonstrate(problem, random.Random(0), 0.0)


def test_hints_grow_with_difficulty(lm, rng, task, problems):
    """The mean of the last ten steps is 0.5 (an older one does not count); the share is half of
    what a problem is below it."""
    memory = {
        problems[0].prompt: entry(0.0, largest=0.0),
        problems[1].prompt: entry(0.25),
        problems[2].prompt: entry(1.25),
        "seen long ago": entry(0.0, step=-5),
    }
    known = {"task": task, "tokenizer": lm.tokenizer}
    canvas = hinted(problems, memory, generator=rng(), step=6, most=0.5, **known)
    assert (canvas != lm.mask_id).sum(1).tolist() == [4, 2, 0, 0]
    blank = hinted(problems, memory, generator=rng(), step=6, most=0.0, **known)
    assert (blank == lm.mask_id).all()
    later = hinted(problems, memory, generator=rng(), step=16, most=0.5, **known)
    assert (later == lm.mask_id).all(), "nothing was seen in the last ten steps"


def test_resumed_shares_are_likelier_when_small(lm, rng, task):
    """Chances in proportion to decay^k, in 3000 draws within four standard errors; the text is the
    problem's own best."""
    problem = task.sample(1, "train", 0)[0]
    n, levels, decay = 3000, 4, 0.5
    memory = {problem.prompt: entry(0.5, text=TEXT, reward=1.0)}
    canvas = resumed([problem] * n, memory, task, lm.tokenizer, rng(), levels, decay)
    given = (canvas != lm.mask_id).sum(1)
    total = sum(decay**k for k in range(levels))
    for k in range(levels):
        chance = decay**k / total
        found = (given == k * task.length / levels).double().mean().item()
        assert abs(found - chance) < 4 * math.sqrt(chance * (1 - chance) / n)
    some = canvas[given > 0][0]
    shown = some != lm.mask_id
    assert torch.equal(some[shown], ids_of(lm, TEXT)[shown])
    assert TEXT == decode(lm.tokenizer, ids_of(lm, TEXT)[None])[0]


def test_one_level_shows_nothing(lm, rng, task, problems):
    memory = {problems[0].prompt: entry(0.5, text=TEXT, reward=1.0)}
    g = rng()
    before = g.get_state()
    canvas = resumed(problems, memory, task, lm.tokenizer, g, levels=1)
    assert (canvas == lm.mask_id).all() and torch.equal(g.get_state(), before)


def test_what_cannot_start_is_named(lm, rng, task, problems):
    known = {"task": task, "tokenizer": lm.tokenizer, "generator": rng()}
    # From the first step on, though nothing is remembered that could be shown.
    with pytest.raises(ValueError, match="start.share of 1 of a canvas of 16 tokens"):
        seeded(problems, {}, share=1.0, **known)
    with pytest.raises(ValueError, match="start.most of 1.5 of a canvas of 16 tokens"):
        hinted(problems, {}, step=1, most=1.5, **known)
    with pytest.raises(ValueError, match="start.levels of 0.99 of a canvas of 16 tokens"):
        resumed(problems, {}, levels=100, **known)
    with pytest.raises(ValueError, match="start.window must be at least 1 step, got 0"):
        hinted(problems, {}, step=1, window=0, **known)
    for levels, decay in ((0, 0.9), (4, 0.0), (4, 1.1)):
        with pytest.raises(ValueError, match=f"got {levels} and {decay}"):
            resumed(problems, {}, levels=levels, decay=decay, **known)
    known["task"] = SimpleNamespace(name="gsm8k", length=LENGTH)  # a benchmark has only answers
    with pytest.raises(ValueError, match="gsm8k has no demonstrations to take a hint from"):
        seeded(problems, {}, **known)
