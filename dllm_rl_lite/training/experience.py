"""One batch of experience: problems, rollouts, rewards and advantages, and what the log says of
them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..methods import Method, Numbers
from ..models import MaskedDiffusionLM, Passes, add_passes, count_passes, decode
from ..processes import gather, own_part, process_count
from ..sampler import FREE, KINDS, Rollout
from ..tasks import Example, Task
from .calls import RolloutCall, Source, final_rewards, join_calls, rows_of
from .problems import Progress, choose_groups, choose_rows, remembered
from .rollouts import call_rollout, importance, repeated


@dataclass(frozen=True)
class Batch:
    """N rows to learn from: prompts * group, or fewer where the method leaves some out."""

    rollout: Rollout
    advantage: Tensor  # (N,), by step (N, T), or by token (N, L)
    log: dict[str, float]  # columns of the log, of all that was drawn
    memory: dict[str, Any] = field(default_factory=dict)  # after this batch


def collect(
    lm: MaskedDiffusionLM,
    task: Task,
    reward: Callable[..., list[float]],
    method: Method,
    numbers: Numbers,
    problems: list[Example],
    generator: torch.Generator | list[torch.Generator],
    progress: Progress | None = None,
) -> Batch:
    """Roll out `numbers.group` completions per problem, have them verified, and compute their
    advantages.

    Args:
        lm: the policy.
        task: gives the canvas its length, and guided rows their anchors.
        reward: a function of TRL's signature.
        method: says how completions are rewarded, and how rewards become advantages.
        problems: B of them.
        generator: of all noise. Several roll out as many parts of the problems, one after another,
            each part with its own noise; the processes of a run share the parts, and all of them
            get the whole batch.
        progress: of the run that the batch is of; None: the start of one.
    Raises:
        ValueError, RuntimeError: as `denoise`, `guided_denoise`, `verify` and the method's
            advantages do, or if there are fewer parts than processes.
    """
    progress = progress or Progress()
    source = Source(lm, task, reward, method, numbers)
    generators = generator if isinstance(generator, list) else [generator]
    return to_batch(source, roll_out_problems(source, problems, generators, progress), progress)


def roll_out_problems(
    source: Source,
    problems: list[Example],
    generators: list[torch.Generator],
    progress: Progress,
) -> RolloutCall:
    """Rollouts, importance weights and rewards of all the problems, whichever process made them;
    arguments as in `collect`."""
    if not process_count() <= len(generators) <= len(problems):
        raise ValueError(
            f"{len(problems)} problems in {len(generators)} parts are too few for "
            f"{process_count()} processes: raise the number `prompts`, or start fewer processes"
        )
    parts = torch.arange(len(problems)).tensor_split(len(generators))
    own = []
    for indices, noise in own_part(list(zip(parts, generators, strict=True))):
        part = [problems[i] for i in indices]
        own.append(collect_part(source, part, noise, progress))
    done = gather(own, source.lm.device)
    return replace(
        join_calls(done),
        seconds_rollout=sum(part.seconds_rollout for part in own_part(done)),
        seconds_reward=sum(part.seconds_reward for part in own_part(done)),
    )


def to_batch(source: Source, drawn: RolloutCall, progress: Progress) -> Batch:
    """The advantages of what is learnt from, and the memory and the log of all that was drawn."""
    lm, method, numbers = source.lm, source.method, source.numbers
    memory = remembered(source, drawn, progress)
    groups = choose_groups(source, drawn, progress)
    learnt = drawn.select(rows_of(groups, numbers.group))
    with count_passes(lm) as scoring:
        advantage = group_advantage(
            lm,
            method,
            numbers,
            learnt.by_group(numbers.group),
            learnt.rollout,
            learnt.examples,
            progress,
        )
    rows = choose_rows(source, advantage, learnt, progress)
    log = describe_batch(drawn, numbers.group, add_passes([drawn.passes, scoring]))
    if method.groups:
        log |= {
            "drawn_groups": len(drawn.examples) // numbers.group,
            "kept_groups": len(groups),
        }
    if method.rows:
        log["kept_rows"] = len(rows)
    if method.start or method.refine:
        log["given_tokens"] = (~drawn.rollout.sampled).float().mean().item()
    learnt = learnt.select(rows)
    return Batch(learnt.rollout, weighted(advantage[rows], learnt.weight), log, memory)


def describe_batch(drawn: RolloutCall, group: int, spent: Passes) -> dict[str, float]:
    """Columns of the log: rewards, entropy, passes and time of all that was drawn."""
    rewards = final_rewards(drawn.by_group(group))
    log = describe_rewards(rewards, *other_rows(drawn.rollout, group))
    written = drawn.rollout.sampled & ~drawn.rollout.given[:, None]
    if written.any():
        log["entropy"] = drawn.rollout.entropy[written].mean().item()
    return log | {
        "steps_row": drawn.rollout.n_forwards.float().mean().item(),
        "forwards_rollout": spent.asked,
        "computed_rollout": spent.computed,
        "seconds_rollout": drawn.seconds_rollout,
        "seconds_reward": drawn.seconds_reward,
        "tokens_per_second": drawn.rollout.tokens[written].numel() / drawn.seconds_rollout,
    }


def collect_part(
    source: Source, problems: list[Example], generator: torch.Generator, progress: Progress
) -> RolloutCall:
    """Rollouts, importance weights and rewards of some of the problems; the method may give tokens
    to the canvases that they start from, and replace rows by others that start from a sibling."""
    method, numbers = source.method, source.numbers
    examples = repeated(problems, numbers)
    known = {"task": source.task, "tokenizer": source.lm.tokenizer, "generator": generator}
    known |= vars(progress)
    canvas = None
    if method.start:
        own = method.start(problems=problems, **known, **numbers.start)
        canvas = own.repeat_interleave(numbers.group, 0)
    call = call_rollout(source, examples, generator, canvas)
    if method.refine is None:
        return call
    known |= {"examples": examples, "rollout": call.rollout}
    known["rewards"] = call.by_group(numbers.group)
    rows, canvas = method.refine(**known, **numbers.refine)
    if not len(rows):
        return call
    again = call_rollout(source, [examples[i] for i in rows], generator, canvas)
    place = torch.arange(len(examples))
    place[rows] = len(examples) + torch.arange(len(rows))
    return join_calls([call, again]).select(place)


def credit(
    lm: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    rewards: Tensor,
    rollout: Rollout,
    examples: Sequence[Example] = (),
    progress: Progress | None = None,
) -> Tensor:
    """The rows' advantages on the rollout's device, from (B, G) or (B, G, T) rewards. examples: one
    per row; progress: of the run, None: its start. Few methods look at either."""
    weight = importance(lm, numbers, rollout)
    progress = progress or Progress()
    advantage = group_advantage(lm, method, numbers, rewards, rollout, examples, progress)
    return weighted(advantage, weight)


def weighted(advantage: Tensor, weight: Tensor) -> Tensor:
    """Advantages (N,), (N, T) or (N, L), each row times its weight (N,)."""
    if advantage.ndim == 2:
        weight = weight[:, None]
    return advantage * weight


def group_advantage(
    lm: MaskedDiffusionLM,
    method: Method,
    numbers: Numbers,
    rewards: Tensor,
    rollout: Rollout,
    examples: Sequence[Example],
    progress: Progress,
) -> Tensor:
    """Advantages before any importance weight, on the rollout's device; none of no rows."""
    if not len(rewards):
        return torch.zeros(0, device=rollout.tokens.device)
    known = {
        **vars(progress),
        "rollout": rollout,
        "completions": decode(lm.tokenizer, rollout.tokens),
        "examples": examples,
        "guided": numbers.guide.get("rows", 0),
    }
    if method.shape:
        rewards = method.shape(rewards=rewards, **known, **numbers.shape)
    if method.token_credit:
        final = method.advantage(rewards=final_rewards(rewards), **known, **numbers.credit)
        known |= {"advantage": final, "rewards": rewards, "lm": lm}
        advantage = method.token_credit(**known, **numbers.tokens)
    else:
        advantage = method.advantage(rewards=rewards, **known, **numbers.credit).flatten(0, 1)
    return advantage.to(rollout.tokens.device)


def other_rows(rollout: Rollout, group: int) -> tuple[int, str]:
    """How many of the last rows of each group are not free, and of which kind they are."""
    if rollout.kind is None:
        return 0, KINDS[FREE]
    kind = rollout.kind[:group]
    return int((kind != FREE).sum()), KINDS[int(kind[-1])]


def describe_rewards(rewards: Tensor, others: int, kind: str = "guided") -> dict[str, float]:
    """Columns of (B, G) final rewards: mean, dead groups; with siblings that are not free (the last
    ones, of a kind) also by kind."""
    log = {"reward": rewards.mean().item()}
    log["dead_groups"], log["dead_wrong"] = dead_shares(rewards)
    free = rewards.shape[1] - others
    if others and free:
        log["reward_free"] = rewards[:, :free].mean().item()
        log[f"reward_{kind}"] = rewards[:, free:].mean().item()
        # As if the group were its answer-free rows.
        log["dead_free"], log["dead_free_wrong"] = dead_shares(rewards[:, :free])
    return log


def dead_shares(rewards: Tensor) -> tuple[float, float]:
    """Of the groups of (B, G) rewards: the shares whose rewards are all equal, and all wrong."""
    tied = rewards.max(1).values == rewards.min(1).values
    wrong = tied & (rewards[:, 0] <= 0)
    return tied.float().mean().item(), wrong.float().mean().item()
