"""One batch of experience: problems, rollouts, rewards and credit, and what the log says of
them."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from ..estimators import importance_weights
from ..methods import Method, Numbers
from ..processes import ALONE, Team
from ..sampler import Rollout, answer_anchor, denoise, guided_denoise
from ..tasks import Example, Task
from .verifier import verify


@dataclass(frozen=True)
class Batch:
    """N = prompts * group rows to learn from."""

    rollout: Rollout
    advantage: Tensor  # (N,), (N, T) with credit by step or (N, L) with credit by token
    log: dict[str, float]  # columns of the log


def collect(
    lm,
    task: Task,
    reward: Callable[..., list[float]],
    method: Method,
    numbers: Numbers,
    problems: list[Example],
    generator: torch.Generator | list[torch.Generator],
    team: Team = ALONE,
    cache: str = "",
) -> Batch:
    """Roll out `numbers.group` texts of each problem, have them verified, and give them credit.

    Several generators roll out as many parts of the problems, one after another, each part with its
    own noise; the processes of a team share the parts, and all of them get the whole batch.

    Raises ValueError, RuntimeError: as `denoise`, `guided_denoise`, `verify` and the method's
    credit do, or where there are fewer parts than processes.
    """
    generators = generator if isinstance(generator, list) else [generator]
    if not team.size <= len(generators) <= len(problems):
        raise ValueError(
            f"{len(problems)} problems in {len(generators)} parts are too few for {team.size} processes: raise "
            "the number `prompts`, or start fewer processes"
        )
    parts = [
        [problems[i] for i in part]
        for part in torch.arange(len(problems)).tensor_split(len(generators))
    ]
    done = team.gather(
        [
            one_part(lm, task, reward, method, numbers, part, g, cache)
            for part, g in team.share(list(zip(parts, generators, strict=True)))
        ]
    )
    rollout = join_rollouts([p.rollout for p in done])
    steps = max(p.rewards.shape[-1] for p in done)
    rewards = torch.cat(
        [p.rewards if p.rewards.ndim == 1 else last_repeated(p.rewards, steps) for p in done]
    )
    rewards = rewards.cpu().view(-1, numbers.group, *rewards.shape[1:])
    advantage = group_credit(method, numbers, rewards, rollout) * torch.cat(
        [p.weight for p in done]
    )
    final = rewards[..., -1] if rewards.ndim == 3 else rewards  # of the finished texts
    seconds = [sum(p.seconds[i] for p in team.share(done)) for i in (0, 1)]
    log = describe_rewards(final, numbers.guide.get("rows", 0)) | {
        "entropy": rollout.entropy.mean().item(),
        "steps_row": rollout.n_forwards.float().mean().item(),
        "forwards_rollout": int(rollout.n_forwards.sum()) + sum(p.forwards for p in done),
        "seconds_rollout": seconds[0],
        "seconds_reward": seconds[1],
        "tokens_per_second": rollout.tokens.numel() / seconds[0],
    }
    return Batch(rollout, advantage, log)


@dataclass(frozen=True)
class Part:
    """What one rollout call gave."""

    rollout: Rollout
    rewards: Tensor  # (n,) or (n, T)
    weight: Tensor  # importance weights, broadcastable to the rows' credit; ones where they are off
    forwards: int  # passes of one row that the weights took
    seconds: tuple[float, float]  # of rollouts and weights, and of rewards


def one_part(
    lm,
    task: Task,
    reward: Callable[..., list[float]],
    method: Method,
    numbers: Numbers,
    problems: list[Example],
    generator: torch.Generator,
    cache: str,
) -> Part:
    """Rollouts, importance weights and rewards of some of the problems."""
    clock = [time.perf_counter()]
    examples = [e for e in problems for _ in range(numbers.group)]
    rollout = roll_out(lm, task, method, numbers, examples, generator, cache)
    weight, forwards = importance(lm, method, numbers, rollout)
    clock.append(time.perf_counter())
    rewards = verify(reward, examples, rollout, lm.tokenizer, method.rewarded, **numbers.verify)
    clock.append(time.perf_counter())
    return Part(rollout, rewards, weight, forwards, (clock[1] - clock[0], clock[2] - clock[1]))


def join_rollouts(parts: list[Rollout]) -> Rollout:
    """One rollout of all the rows of several: prompts padded on the left, finished rows standing
    still."""
    if len(parts) == 1:
        return parts[0]
    width, first = max(p.prompt.shape[1] for p in parts), parts[0]
    wide = [
        functional.pad(p.prompt, (width - p.prompt.shape[1], 0), value=first.eos_id) for p in parts
    ]
    masks = [
        functional.pad(p.prompt_mask, (width - p.prompt.shape[1], 0), value=False) for p in parts
    ]
    rows = {
        name: torch.cat([getattr(p, name) for p in parts])
        for name in ("tokens", "unmask_step", "logprob", "entropy", "n_forwards")
    }
    return replace(
        first,
        prompt=torch.cat(wide),
        prompt_mask=torch.cat(masks),
        **rows,
        history=join_steps(parts, "history", "tokens"),
        predicted=join_steps(parts, "predicted", "tokens"),
        predicted_logprob=join_steps(parts, "predicted_logprob", None),
        anchor=None if first.anchor is None else torch.cat([p.anchor for p in parts]),
    )


def join_steps(parts: list[Rollout], name: str, after: str | None) -> Tensor | None:
    """(T, N, L) of records by step, T the longest; after a part's own last step stand its texts
    (`after`), or zeros."""
    records = [getattr(p, name) for p in parts]
    if records[0] is None:
        return None
    steps = max(len(r) for r in records)
    ends = [
        getattr(p, after) if after else torch.zeros_like(r[0])
        for p, r in zip(parts, records, strict=True)
    ]
    return torch.cat(
        [
            torch.cat([r, end.expand(steps - len(r), *end.shape)])
            for r, end in zip(records, ends, strict=True)
        ],
        1,
    )


def last_repeated(rewards: Tensor, steps: int) -> Tensor:
    """(n, T) -> (n, steps): a finished text keeps its last reward."""
    return torch.cat([rewards, rewards[:, -1:].expand(-1, steps - rewards.shape[1])], 1)


def roll_out(
    lm,
    task: Task,
    method: Method,
    numbers: Numbers,
    examples: list[Example],
    generator: torch.Generator,
    cache: str = "",
) -> Rollout:
    """One rollout an example; the last `guide["rows"]` of each group are answer-guided.

    The assistant's turn is not prefilled (`task.prefill` is for evaluation): d1's family trains
    without, and the format rewards look for the tag in the completion.
    """
    n, length, prompts = numbers, task.length, [e.prompt for e in examples]
    sampling = dict(
        temperature=n.temperature, top_k=n.top_k, top_p=n.top_p, eos=n.eos, generator=generator
    )
    sampling |= {"cache": cache} if cache else {}
    record = {"every step": True, "partial": n.verify.get("fill", False) and "likeliest"}.get(
        method.rewarded, False
    )
    if not n.guide:
        return denoise(
            lm, prompts, length, n.rule(length), n.block_length or None, record=record, **sampling
        )
    if record:
        raise ValueError(
            f"{method.name}: guided rollouts keep no predictions of every step (rewarded {method.rewarded!r}"
            f"{', fill' if n.verify.get('fill') else ''}): their first stage holds the answer"
        )
    anchor = anchors(lm.tokenizer, task, n, examples)
    return guided_denoise(
        lm,
        prompts,
        anchor,
        n.rule(length),
        n.answer_rule(),
        n.block_length or None,
        n.guide["block_length"] or None,
        n.guide["repredict"],
        **sampling,
    )


def anchors(tokenizer, task: Task, numbers: Numbers, examples: list[Example]) -> Tensor:
    """(N, L) the canvases that a batch of groups starts from. Raises ValueError for a column that
    the examples lack."""
    guide = numbers.guide
    texts, margins = [], []
    for i, e in enumerate(examples):
        if guide["column"] and guide["column"] not in e.columns:
            raise ValueError(
                f"{task.name} has no column {guide['column']!r} to anchor: one of {sorted(e.columns)}, or "
                "'' for the answer"
            )
        is_guided = i % numbers.group >= numbers.group - guide["rows"]
        texts.append(
            str(e.columns[guide["column"]] if guide["column"] else e.answer) if is_guided else None
        )
        margins.append(
            fitting_margin(tokenizer, task, e) if guide["margin"] == "fitted" else guide["margin"]
        )
    return answer_anchor(tokenizer, texts, task.length, margins)


def fitting_margin(tokenizer, task: Task, example: Example) -> int:
    """The margin that puts the anchored answer where it stands in a right demonstration of the
    task.

    Raises ValueError for a benchmark: nobody knows where its answers will stand.
    """
    if not hasattr(task, "demonstrate"):
        raise ValueError(
            f"{task.name} has no demonstrations to fit the margin to: give guide['margin'] a number of end "
            "tokens (AG-GRPO: 2 for GSM8K, 4 for MATH and Sudoku, 10 for KodCode)"
        )
    text = task.demonstrate(example, random.Random(0), 0.0)
    return task.length - len(tokenizer(text, add_special_tokens=False)["input_ids"])


def credit(
    lm, method: Method, numbers: Numbers, rewards: Tensor, rollout: Rollout
) -> tuple[Tensor, int]:
    """The rows' credit on the rollout's device, from (B, G) or (B, G, T) rewards, and the forward
    passes it took."""
    weight, forwards = importance(lm, method, numbers, rollout)
    return group_credit(method, numbers, rewards, rollout) * weight, forwards


def importance(lm, method: Method, numbers: Numbers, rollout: Rollout) -> tuple[Tensor, int]:
    """Weights of the rows, of a shape that their credit can be multiplied with, and the passes they
    took; ones where off."""
    cap, by_text = (
        numbers.guide.get("importance", 0),
        not method.token_credit and method.rewarded != "every step",
    )
    weight, forwards = (
        importance_weights(lm, rollout, cap) if cap else (torch.ones_like(rollout.logprob[:, 0]), 0)
    )
    return weight if by_text else weight[:, None], forwards


def group_credit(method: Method, numbers: Numbers, rewards: Tensor, rollout: Rollout) -> Tensor:
    """Credit before any importance weight, on the rollout's device."""
    n, final = numbers, rewards[..., -1] if method.token_credit else rewards
    told = {"guided": n.guide["rows"]} if n.guide else {}
    advantage = method.advantage(final, **told, **n.credit)
    if method.token_credit:
        advantage = method.token_credit(advantage, rewards, rollout, **n.tokens)
    else:
        advantage = advantage.flatten(0, 1)
    return advantage.to(rollout.tokens.device)


def describe_rewards(rewards: Tensor, guided: int) -> dict[str, float]:
    """Columns of (B, G) final rewards: mean, dead groups; with guided siblings (the last ones) also
    by kind."""

    def dead(r: Tensor) -> tuple[float, float]:
        tied = r.max(1).values == r.min(1).values
        return tied.float().mean().item(), (tied & (r[:, 0] <= 0)).float().mean().item()

    log = dict(
        zip(
            ("reward", "dead_groups", "dead_wrong"),
            (rewards.mean().item(), *dead(rewards)),
            strict=True,
        )
    )
    free = rewards.shape[1] - guided
    if guided and free:
        log["reward_free"], log["reward_guided"] = (
            rewards[:, :free].mean().item(),
            rewards[:, free:].mean().item(),
        )
        log["dead_free"], log["dead_free_wrong"] = dead(
            rewards[:, :free]
        )  # as if the group were its answer-free rows
    return log
