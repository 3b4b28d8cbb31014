"""One batch of experience: problems, rollouts, rewards and credit, and what the log says of them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .guided import answer_anchor, guided_denoise, importance_weights
from .methods import Method, Numbers
from .sampler import Rollout, denoise
from .tasks import Example, Task
from .verify import verify


@dataclass(frozen=True)
class Batch:
    """N = prompts * group rows to learn from."""

    rollout: Rollout
    advantage: Tensor  # (N,), (N, T) with credit by step or (N, L) with credit by token
    log: dict[str, float]  # columns of the log


def collect(lm, task: Task, reward: Callable[..., list[float]], method: Method, numbers: Numbers, problems: list[Example],
            generator: torch.Generator) -> Batch:
    """Roll out `numbers.group` texts of each problem, have them verified, and give them credit.

    Raises ValueError, RuntimeError: as `denoise`, `guided_denoise`, `verify` and the method's credit do.
    """
    clock = [time.perf_counter()]
    examples = [e for e in problems for _ in range(numbers.group)]
    rollout = roll_out(lm, task, method, numbers, examples, generator)
    clock.append(time.perf_counter())
    rewards = verify(reward, examples, rollout, lm.tokenizer, method.rewarded, **numbers.verify)  # (N,) or (N, T)
    rewards = rewards.view(-1, numbers.group, *rewards.shape[1:])
    clock.append(time.perf_counter())
    advantage, forwards = credit(lm, method, numbers, rewards, rollout)
    final = rewards[..., -1] if rewards.ndim == 3 else rewards  # of the finished texts
    log = describe_rewards(final, numbers.guide.get("rows", 0)) | {
        "entropy": rollout.entropy.mean().item(), "steps_row": rollout.n_forwards.float().mean().item(),
        "forwards_rollout": int(rollout.n_forwards.sum()) + forwards, "seconds_rollout": clock[1] - clock[0],
        "seconds_reward": clock[2] - clock[1], "tokens_per_second": rollout.tokens.numel() / (clock[1] - clock[0])}
    return Batch(rollout, advantage, log)


def roll_out(lm, task: Task, method: Method, numbers: Numbers, examples: list[Example],
             generator: torch.Generator) -> Rollout:
    """One rollout an example; the last `guide["rows"]` of each group are answer-guided.

    The assistant's turn is not prefilled (`task.prefill` is for evaluation): d1's family trains without, and the format
    rewards look for the tag in the completion.
    """
    n, length, prompts = numbers, task.length, [e.prompt for e in examples]
    sampling = dict(temperature=n.temperature, top_k=n.top_k, top_p=n.top_p, eos=n.eos, generator=generator)
    record = {"every step": True, "partial": n.verify.get("fill", False) and "likeliest"}.get(method.rewarded, False)
    if not n.guide:
        return denoise(lm, prompts, length, n.rule(length), n.block_length or None, record=record, **sampling)
    if record:
        raise ValueError(f"{method.name}: guided rollouts keep no predictions of every step (rewarded {method.rewarded!r}"
                         f"{', fill' if n.verify.get('fill') else ''}): their first stage holds the answer")
    anchor = anchors(lm.tokenizer, task, n, examples)
    return guided_denoise(lm, prompts, anchor, n.rule(length), n.answer_rule(), n.block_length or None,
                          n.guide["block_length"] or None, n.guide["repredict"], **sampling)


def anchors(tokenizer, task: Task, numbers: Numbers, examples: list[Example]) -> Tensor:
    """(N, L) the canvases that a batch of groups starts from. Raises ValueError for a column that the examples lack."""
    guide = numbers.guide
    texts, margins = [], []
    for i, e in enumerate(examples):
        if guide["column"] and guide["column"] not in e.columns:
            raise ValueError(f"{task.name} has no column {guide['column']!r} to anchor: one of {sorted(e.columns)}, or "
                             "'' for the answer")
        is_guided = i % numbers.group >= numbers.group - guide["rows"]
        texts.append(str(e.columns[guide["column"]] if guide["column"] else e.answer) if is_guided else None)
        margins.append(fitting_margin(tokenizer, task, e) if guide["margin"] == "fitted" else guide["margin"])
    return answer_anchor(tokenizer, texts, task.length, margins)


def fitting_margin(tokenizer, task: Task, example: Example) -> int:
    """The margin that puts the anchored answer where it stands in a right demonstration of the task.

    Raises ValueError for a benchmark: nobody knows where its answers will stand.
    """
    if not hasattr(task, "demonstrate"):
        raise ValueError(f"{task.name} has no demonstrations to fit the margin to: give guide['margin'] a number of end "
                         "tokens (AG-GRPO: 2 for GSM8K, 4 for MATH and Sudoku, 10 for KodCode)")
    text = task.demonstrate(example, random.Random(0), 0.0)
    return task.length - len(tokenizer(text, add_special_tokens=False)["input_ids"])


def credit(lm, method: Method, numbers: Numbers, rewards: Tensor, rollout: Rollout) -> tuple[Tensor, int]:
    """The rows' credit on the rollout's device, from (B, G) or (B, G, T) rewards, and the forward passes it took."""
    n, final = numbers, rewards[..., -1] if method.token_credit else rewards
    told = {"guided": n.guide["rows"]} if n.guide else {}
    advantage = method.advantage(final, **told, **n.credit)
    if method.token_credit:
        advantage = method.token_credit(advantage, rewards, rollout, **n.tokens)
    else:
        advantage = advantage.flatten(0, 1)
    advantage, cap = advantage.to(rollout.tokens.device), n.guide.get("importance", 0)
    if not cap:
        return advantage, 0
    weights, forwards = importance_weights(lm, rollout, cap)
    return advantage * (weights if advantage.ndim == 1 else weights[:, None]), forwards


def describe_rewards(rewards: Tensor, guided: int) -> dict[str, float]:
    """Columns of (B, G) final rewards: mean, dead groups; with guided siblings (the last ones) also by kind."""
    def dead(r: Tensor) -> tuple[float, float]:
        tied = r.max(1).values == r.min(1).values
        return tied.float().mean().item(), (tied & (r[:, 0] <= 0)).float().mean().item()

    log = dict(zip(("reward", "dead_groups", "dead_wrong"), (rewards.mean().item(), *dead(rewards)), strict=True))
    free = rewards.shape[1] - guided
    if guided and free:
        log["reward_free"], log["reward_guided"] = rewards[:, :free].mean().item(), rewards[:, free:].mean().item()
        log["dead_free"], log["dead_free_wrong"] = dead(rewards[:, :free])  # as if the group were its answer-free rows
    return log
