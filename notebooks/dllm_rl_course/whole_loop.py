"""The exercises of the chapter on the whole loop: what a turn costs, another view, and a second
update on one batch."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch

from dllm_rl_lite.models import MaskedDiffusionLM, new_tiny_lm
from dllm_rl_lite.sampler import Rollout, Schedule, denoise

from .verdict import differs, judge, result_of, tensor_differs

CLIP = 0.2


def exercise_1(answer) -> None:
    """Forward passes of one row in a turn: 32 prompts, 8 rollouts each, 16 tokens, two a pass; and
    how many the update can leave out if 4 of the 32 groups are dead."""

    def is_like(*values: float) -> bool:
        return not any(differs(a, v, 0.5) for a, v in zip(answer, values, strict=True))

    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: rollouts, scoring, left out",
            ),
            (
                lambda: not differs(answer[0], 32 * 8 * 16, 0.5),
                "a pass reveals two tokens: 16 tokens take 8 passes",
            ),
            (
                lambda: not differs(answer[0], 8, 0.5) or not differs(answer[0], 32 * 8, 0.5),
                "each of the 32 * 8 rows takes a pass for every two tokens",
            ),
            (
                lambda: differs(answer[0], 32 * 8 * 8, 0.5),
                "the rollouts: rows times passes of a row",
            ),
            (
                lambda: differs(answer[1], 32 * 8, 0.5),
                "one view scores all tokens of a row in one pass",
            ),
            (
                lambda: not differs(answer[2], 4, 0.5),
                "a dead group has 8 rows, and each of them would take a pass",
            ),
            (lambda: not is_like(2048, 256, 32), "the rows of 4 dead groups, one pass each"),
        ],
    )


def exercise_2(visited_view) -> None:
    """visited_view(rollout, step (N,)) -> ids (N, P + L) and scored (N, L): what each row saw at
    its own step, and the tokens that it then revealed."""
    rollout = _rollout(_lm())
    step = torch.tensor([0, 1, 2, 3, 1, 2])
    wanted_canvas = rollout.canvas_at(step)
    wanted = rollout.unmask_step == step[:, None]
    width = rollout.prompt.shape[1]

    def got() -> tuple[torch.Tensor, torch.Tensor]:
        ids, scored = visited_view(rollout, step.clone())
        return ids, scored

    def canvas() -> torch.Tensor:
        return got()[0][:, width:]

    def masked(of: torch.Tensor) -> torch.Tensor:
        return torch.where(of, rollout.mask_id, rollout.tokens)

    judge(
        "exercise 2",
        result_of(visited_view, rollout, step.clone()),
        [
            (lambda: not callable(visited_view), "pass the function itself, not what it returns"),
            (
                lambda: not isinstance(visited_view(rollout, step.clone()), (tuple, list)),
                "return two tensors: ids and scored",
            ),
            (lambda: len(got()) != 2, "return two tensors: ids and scored"),
            (
                lambda: got()[0].shape == rollout.tokens.shape,
                "the prompt is missing: ids holds prompt and completion, (N, P + L)",
            ),
            (
                lambda: got()[0].shape != (len(step), width + rollout.tokens.shape[1]),
                "ids must be (N, P + L)",
            ),
            (
                lambda: tensor_differs(got()[0][:, :width], rollout.prompt),
                "the prompt stays as it is",
            ),
            (
                lambda: torch.equal(canvas(), masked(rollout.unmask_step > step[:, None])),
                "this is the canvas after the step: what the step reveals must be masked, or the "
                "model sees the answer",
            ),
            (
                lambda: torch.equal(canvas(), masked(rollout.unmask_step == step[:, None])),
                "later tokens are visible: at its step the row had not written them",
            ),
            (
                lambda: torch.equal(canvas(), masked(rollout.unmask_step >= 0)),
                "everything is masked: that is the one-step view",
            ),
            (
                lambda: tensor_differs(canvas(), wanted_canvas),
                "the canvas before step s hides every token with unmask_step >= s",
            ),
            (
                lambda: got()[1].dtype != torch.bool,
                "scored must be bool",
            ),
            (
                lambda: torch.equal(got()[1], rollout.unmask_step >= step[:, None]),
                "score only what the step revealed, not all that was masked",
            ),
            (
                lambda: tensor_differs(got()[1].double(), wanted),
                "scored is True where unmask_step is the row's own step",
            ),
        ],
    )


def exercise_3(learn_twice) -> None:
    """learn_twice(lm, rollout, advantage, take_step): two updates on one batch by the chapter's own
    functions; take_step(loss) does backward, step and zero_grad."""
    start = _lm()
    rollout = _rollout(start)
    advantage = torch.tensor([0.5, -0.5, 0.25, -0.25, 0.75, -0.75])

    def run(learn) -> tuple[list[float], torch.Tensor]:
        """The losses that were stepped on, and all weights afterwards."""
        lm = copy.deepcopy(start)
        optimizer = torch.optim.SGD(lm.parameters(), lr=20.0)
        losses = []

        def take_step(loss: torch.Tensor) -> None:
            losses.append(float(loss.detach()))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        learn(lm, rollout, advantage.clone(), take_step)
        return losses, torch.cat([w.detach().flatten() for w in lm.parameters()])

    def same(learn) -> bool:
        mine = run(learn_twice)[1]
        return bool((mine - run(learn)[1]).abs().max() < 1e-4)

    def stub() -> tuple | None:
        """None as long as nothing is done and nothing returned."""
        steps = []
        returned = learn_twice(copy.deepcopy(start), rollout, advantage.clone(), steps.append)
        return None if returned is None and not steps else (steps,)

    judge(
        "exercise 3",
        result_of(stub) if callable(learn_twice) else learn_twice,
        [
            (lambda: not callable(learn_twice), "pass the function itself, not what it returns"),
            (
                lambda: len(run(learn_twice)[0]) != 2,
                "take_step must be called twice, once for each step",
            ),
            (
                lambda: same(_learn(fresh_old=True)),
                "the old log-probabilities were taken again before the second step: the ratio is 1 "
                "once more, and nothing is ever clipped. Take them once",
            ),
            (
                lambda: same(_learn(clip=float("inf"))),
                "the ratio is not clipped in the second step",
            ),
            (
                lambda: same(_learn(sign=-1.0)),
                "the sign: a loss is minimised, and a rewarded token should become likelier",
            ),
            (
                lambda: not same(_learn()),
                "the weights differ from those after two clipped steps with the old "
                "log-probabilities taken before the first",
            ),
        ],
    )


def _lm() -> MaskedDiffusionLM:
    lm = new_tiny_lm(hidden=32, layers=2, heads=2, feed_forward=64, max_length=64, seed=0)
    return lm.eval()


def _rollout(lm: MaskedDiffusionLM) -> Rollout:
    """Six completions of eight tokens, two a pass in random order."""
    return denoise(
        lm,
        ["1+2", "3-4", "5-6", "7+8", "9-1", "2+2"],
        8,
        Schedule(4, "random"),
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
    )


def _learn(fresh_old: bool = False, clip: float = CLIP, sign: float = 1.0) -> Callable:
    """Two updates as the chapter means them, or with one mistake."""

    def learn(lm, rollout, advantage, take_step) -> None:
        old = None
        for _ in range(2):
            logp, scored = _one_view_logprobs(lm, rollout)
            if old is None or fresh_old:
                old = logp.detach()
            ratio = (logp - old).exp()
            kept = ratio.clamp(1 - clip, 1 + clip)
            losses = -torch.minimum(ratio * advantage[:, None], kept * advantage[:, None])
            take_step(sign * (losses * scored).sum() / scored.sum())

    return learn


def _one_view_logprobs(
    lm: MaskedDiffusionLM, rollout: Rollout
) -> tuple[torch.Tensor, torch.Tensor]:
    """(N, L) log-probabilities with the whole completion masked, and the tokens that count."""
    scored = rollout.until_eos
    blank = torch.full_like(rollout.tokens, rollout.mask_id)
    ids = torch.cat([rollout.prompt, blank], 1)
    attention_mask = torch.cat([rollout.prompt_mask, torch.ones_like(scored)], 1)
    where = torch.cat([torch.zeros_like(rollout.prompt_mask), scored], 1)
    logp = lm(ids, attention_mask, where).log_softmax(-1)
    logp = logp.gather(1, rollout.tokens[scored][:, None])[:, 0]
    return torch.zeros(scored.shape).masked_scatter(scored, logp), scored
