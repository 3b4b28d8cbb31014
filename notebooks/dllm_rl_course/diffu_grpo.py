"""The exercises of *diffu-GRPO*: what inner updates cost, one prompt mask a group, the bias of the
one-step likelihood."""

from __future__ import annotations

import math

import torch

from dllm_rl_lite.estimators import View
from dllm_rl_lite.sampler import Rollout

from .verdict import attempt, differs, judge, raised, result_of


def exercise_1(answer) -> None:
    """Forward passes a text of one batch of rollouts: (8 steps, mu 2, KL), (8 steps, mu 1, KL),
    (128 steps, mu 12, KL)."""

    def at(i: int, *values: float) -> bool:
        return any(not differs(answer[i], v, 1e-9) for v in values)

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers, one for each run",
            ),
            (
                lambda: at(0, 6) or at(1, 2) or at(2, 36),
                "that is the scoring alone: the rollout's denoising steps count, too",
            ),
            (
                lambda: at(0, 10) or at(2, 140),
                "that is the rollout and the new policy alone: old and reference count, too",
            ),
            (
                lambda: at(0, 12) or at(2, 142, 152),
                "each inner update has a mask of its own, and under each mask all three are "
                "scored: new, old and reference",
            ),
            (
                lambda: not at(0, 14),
                "the first: 8 for the rollout, then three passes (new, old, reference) for each "
                "of 2 masks",
            ),
            (
                lambda: at(1, 11),
                "with one inner update the old policy is the current one, so its pass is saved",
            ),
            (
                lambda: at(1, 9),
                "the reference needs a pass of its own, at mu = 1 too: the penalty compares with "
                "it",
            ),
            (
                lambda: not at(1, 10),
                "the second: 8 for the rollout, one for the new policy and one for the reference",
            ),
            (
                lambda: not at(2, 164),
                "the third: 128 for the rollout, then three passes for each of 12 masks",
            ),
        ],
    )


def _siblings(groups: int = 60, group: int = 3, width: int = 20, length: int = 5) -> Rollout:
    """Made-up rollouts: prompts of two lengths, texts that end early or not at all, some first
    tokens given."""
    g = torch.Generator().manual_seed(7)
    n = groups * group
    prompt = torch.randint(10, 20, (groups, width), generator=g).repeat_interleave(group, 0)
    padded = (torch.arange(groups) % 2 == 1).repeat_interleave(group)[:, None] & (
        torch.arange(width) < 6
    )
    tokens = torch.randint(10, 20, (n, length), generator=g)
    tokens[::4, 3:] = 2
    unmask_step = torch.arange(length).repeat(n, 1)
    unmask_step[::5, 0] = -1
    flat = torch.zeros(n, length)
    return Rollout(
        prompt.masked_fill(padded, 1),
        ~padded,
        tokens,
        unmask_step,
        flat,
        flat,
        torch.full((n,), length),
        mask_id=0,
        eos_id=2,
    )


def exercise_2(shared_mask) -> None:
    """shared_mask(rollout, generator, group, p_mask_prompt) -> [View]: `one_step`, siblings hide
    the same prompt tokens."""
    rollout, group, p = _siblings(), 3, 0.3
    width = rollout.prompt.shape[1]

    def draw(seed: int, chance: float = p):
        return shared_mask(rollout, torch.Generator().manual_seed(seed), group, chance)

    outcome = attempt(draw, 0) if callable(shared_mask) else None
    view = outcome[0] if isinstance(outcome, list) and len(outcome) == 1 else outcome

    def hidden(seed: int | None = None, chance: float = p) -> torch.Tensor:
        tokens = view.tokens if seed is None else draw(seed, chance)[0].tokens
        return tokens[:, :width] == rollout.mask_id

    def by_group() -> torch.Tensor:
        return hidden().view(-1, group, width)

    sampled, scored = rollout.sampled, rollout.until_eos & rollout.sampled
    judge(
        "exercise 2",
        result_of(shared_mask, rollout, torch.Generator().manual_seed(0), group, p),
        [
            (lambda: not callable(shared_mask), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (
                lambda: not isinstance(view, View) or not isinstance(outcome, list),
                "return a list with one View, like one_step",
            ),
            (
                lambda: view.tokens.shape != (len(sampled), width + sampled.shape[1]),
                "the view's tokens are prompt and canvas side by side, (N, P + L)",
            ),
            (
                lambda: not bool((view.tokens[:, width:] == rollout.mask_id)[sampled].all()),
                "the whole completion must be masked: that is what makes it one step",
            ),
            (
                lambda: bool((view.tokens[:, width:] == rollout.mask_id)[~sampled].any()),
                "tokens that were given (anchored) stay as they are: mask only where "
                "rollout.sampled",
            ),
            (
                lambda: bool((view.scored & ~rollout.until_eos).any()),
                "tokens after the first end-of-sequence token are not scored",
            ),
            (
                lambda: not torch.equal(view.scored, scored),
                "score the sampled tokens up to and including the first end-of-sequence token",
            ),
            (
                lambda: not torch.equal(view.weight, scored.float()),
                "every scored token has weight 1, the others 0",
            ),
            (
                lambda: bool(hidden()[~rollout.prompt_mask].any()),
                "padding is not prompt: mask only where prompt_mask",
            ),
            (lambda: not bool(hidden().any()), "no prompt token is masked"),
            (
                lambda: bool((hidden() == hidden()[:1])[rollout.prompt_mask.all(1)].all()),
                "one mask for the whole batch: each group needs its own draw",
            ),
            (
                lambda: not bool((by_group() == by_group()[:, :1]).all()),
                "siblings still hide different tokens: draw once a group, then repeat the draw "
                "for its rows",
            ),
            (
                lambda: (
                    not torch.equal(view.tokens[:, :width][~hidden()], rollout.prompt[~hidden()])
                ),
                "prompt tokens that are not masked must stay what they are",
            ),
            (
                lambda: not torch.equal(hidden(0), hidden(0)),
                "equal generators must give equal masks: draw from yours",
            ),
            (
                lambda: torch.equal(hidden(0), hidden(1)),
                "another generator gives the same mask: draw from the generator",
            ),
            (
                lambda: abs(float(hidden(0)[rollout.prompt_mask].float().mean()) - (1 - p)) < 0.07,
                "that keeps a token with chance p_mask_prompt; it is the chance to mask it",
            ),
            (
                lambda: abs(float(hidden(0)[rollout.prompt_mask].float().mean()) - p) > 0.07,
                "a prompt token is to be masked with chance p_mask_prompt, each on its own",
            ),
            (
                lambda: (
                    bool(hidden(0, 0.0).any())
                    or not bool(hidden(0, 1.0)[rollout.prompt_mask].all())
                ),
                "with chance 0 nothing of the prompt is masked, with chance 1 all of it",
            ),
        ],
    )


def exercise_3(one_step_error) -> None:
    """one_step_error(joint) -> mean over texts of the one-step estimate minus log p(text), nats;
    joint (V, V) float64."""
    g = torch.Generator().manual_seed(3)
    tables = [
        torch.rand(4, 4, generator=g, dtype=torch.float64) ** 3,
        torch.tensor([[0.7, 0.0], [0.1, 0.2]]).double(),
    ]
    joints = [t / t.sum() for t in tables]
    outcome = (
        attempt(lambda: [one_step_error(j.clone()) for j in joints])
        if callable(one_step_error)
        else None
    )

    def pieces(joint: torch.Tensor):
        one_step = joint.sum(1, keepdim=True) * joint.sum(0, keepdim=True)
        return one_step, (one_step.log() - joint.log()).where(joint > 0, torch.zeros(()).double())

    def is_(rule) -> bool:
        return all(
            not differs(v, float(rule(j, *pieces(j))), 1e-9)
            for v, j in zip(outcome, joints, strict=True)
        )

    judge(
        "exercise 3",
        result_of(one_step_error, joints[0].clone()),
        [
            (lambda: not callable(one_step_error), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (
                lambda: any(torch.as_tensor(v).numel() != 1 for v in outcome),
                "return one number: the mean over the texts",
            ),
            (
                lambda: any(math.isnan(float(v)) or math.isinf(float(v)) for v in outcome),
                "a text with probability 0 is never written, so its term is 0: beware of 0 times "
                "log 0",
            ),
            (
                lambda: is_(lambda j, q, e: -(j * e).sum()),
                "the sign: estimate minus truth, and the estimate is too low",
            ),
            (
                lambda: is_(lambda j, q, e: (j * e).sum() / math.log(2)),
                "that is in bits; nats use the natural logarithm",
            ),
            (
                lambda: is_(lambda j, q, e: (q * e).sum()),
                "completions are written with the chances in joint; the product of the two "
                "marginal distributions is only what the estimate believes",
            ),
            (
                lambda: is_(lambda j, q, e: e.mean()) or is_(lambda j, q, e: e.sum()),
                "not all texts are equally frequent: weigh each with its probability",
            ),
            (
                lambda: is_(lambda j, q, e: (j * (q.log())).sum()),
                "that is the mean estimate: subtract the mean of log p(text)",
            ),
            (
                lambda: is_(lambda j, q, e: 0.0),
                "it is zero only where the two tokens are independent",
            ),
            (
                lambda: not is_(lambda j, q, e: (j * e).sum()),
                "on the empty canvas each token is scored by its marginal distribution, the row or "
                "column sums of joint",
            ),
        ],
    )
