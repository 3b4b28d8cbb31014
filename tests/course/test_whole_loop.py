"""The checks of *The whole loop on one page*: right answers say right, likely mistakes are named,
and nothing ever raises."""

import pytest
import torch
from dllm_rl_course.whole_loop import exercise_1, exercise_2, exercise_3
from exercise import said


@pytest.mark.parametrize(
    "answer, words",
    [
        ((2048, 256, 32), "right"),
        ([2048, 256, 32], "right"),
        ((4096, 256, 32), "reveals two tokens"),
        ((8, 256, 32), "32 * 8 rows"),
        ((256, 256, 32), "32 * 8 rows"),
        ((1000, 256, 32), "rows times passes"),
        ((2048, 2048, 32), "in one pass"),
        ((2048, 256, 4), "a dead group has 8 rows"),
        ((2048, 256, 64), "4 dead groups"),
        ((2048, 256), "three numbers"),
        (2048, "three numbers"),
    ],
)
def test_passes(capsys, answer, words):
    assert words in said(capsys, exercise_1, answer)


def view(hide, reveal):
    """A solution from two comparisons of each token's step with the row's own."""

    def visited_view(rollout, step):
        hidden = hide(rollout.unmask_step, step[:, None])
        canvas = torch.where(hidden, rollout.mask_id, rollout.tokens)
        scored = reveal(rollout.unmask_step, step[:, None])
        return torch.cat([rollout.prompt, canvas], 1), scored

    return visited_view


def test_visited_view_right(capsys):
    assert said(capsys, exercise_2, view(torch.ge, torch.eq)).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (view(torch.gt, torch.eq), "the canvas after the step"),
        (view(torch.eq, torch.eq), "later tokens are visible"),
        (view(lambda when, step: when >= 0, torch.eq), "one-step view"),
        (view(torch.lt, torch.eq), "hides every token"),
        (view(torch.ge, torch.ge), "only what the step revealed"),
        (view(torch.ge, torch.lt), "own step"),
        (view(torch.ge, lambda when, step: (when == step).float()), "bool"),
        (lambda r, s: (r.canvas_at(s), r.unmask_step == s[:, None]), "prompt is missing"),
        (lambda r, s: r.canvas_at(s), "two tensors"),
        (7, "the function itself"),
    ],
)
def test_visited_view_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_2, function)


def scores(lm, rollout):
    """(N, L) log-probabilities with the whole completion masked; all its tokens are scored."""
    masked = torch.full_like(rollout.tokens, rollout.mask_id)
    ids = torch.cat([rollout.prompt, masked], 1)
    everything = torch.ones_like(masked).bool()
    attention_mask = torch.cat([rollout.prompt_mask, everything], 1)
    where = torch.cat([torch.zeros_like(rollout.prompt_mask), rollout.until_eos], 1)
    logp = lm(ids, attention_mask, where).log_softmax(-1)
    logp = logp.gather(1, rollout.tokens[rollout.until_eos][:, None])[:, 0]
    return torch.zeros(masked.shape).masked_scatter(rollout.until_eos, logp)


def loss(lm, rollout, advantage, old, clip=0.2):
    logp = scores(lm, rollout)
    ratio = (logp - (logp.detach() if old is None else old)).exp()
    A = advantage[:, None]
    losses = torch.minimum(ratio * A, ratio.clamp(1 - clip, 1 + clip) * A)
    return -(losses * rollout.until_eos).sum() / rollout.until_eos.sum()


def learn(steps=2, keep_old=True, sign=1, clip=0.2):
    def learn_twice(lm, rollout, advantage, take_step):
        old = scores(lm, rollout).detach() if keep_old else None
        for _ in range(steps):
            take_step(sign * loss(lm, rollout, advantage, old, clip))

    return learn_twice


def test_learn_twice_right(capsys):
    assert said(capsys, exercise_3, learn()).endswith("right")


@pytest.mark.parametrize(
    "function, words",
    [
        (learn(steps=1), "called twice"),
        (learn(steps=3), "called twice"),
        (learn(keep_old=False), "taken again"),
        (learn(clip=1e9), "not clipped"),
        (learn(sign=-1), "the sign"),
        (learn(clip=0.5), "the weights differ"),
        (7, "the function itself"),
    ],
)
def test_learn_twice_mistakes(capsys, function, words):
    assert words in said(capsys, exercise_3, function)
