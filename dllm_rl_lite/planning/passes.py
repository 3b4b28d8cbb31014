"""What a run will cost in forward passes, counted before it starts, from the same rules and view
recipes that it will use.

A pass is one row through the model once. Rows that earn no credit are skipped by an update without
a KL penalty, so its counts are what it takes at most; those of rollouts are exact where the
schedule is fixed.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

from ..estimators import View
from ..methods import METHODS
from ..sampler import Rollout, Rule
from ..seeds import derived_seed
from ..tasks import Task
from ..training import TrainConfig
from ..training.experience import anchors


@dataclass(frozen=True)
class Passes:
    """Forward passes (of one row) of one step of the whole batch, and of one evaluation."""

    rows: int  # texts of a step
    rollout: int
    exact: bool  # False: the rollouts take at most so many
    importance: int  # of the weights of guided texts
    views: int  # masked copies of a text in one update
    old: int  # scores of the policy before the first update
    reference: int  # scores of the starting model
    again: int  # scores of the policy before a loss of whole texts is back-propagated
    gradient: int  # followed by a backward pass
    evaluation: int  # of one evaluation
    eval_exact: bool
    evaluations: int  # in the whole run
    # updates of the policy are made in so many steps: all, or as many as the budget of passes
    # allows
    steps: int

    @property
    def update(self) -> int:
        return self.old + self.reference + self.again + self.gradient

    @property
    def step(self) -> int:
        """What a step counts against the budget `forwards`."""
        return self.rollout + self.importance + self.update

    @property
    def total(self) -> int:
        """Of the whole run, evaluations included."""
        return self.steps * self.step + self.evaluations * self.evaluation


def count_passes(config: TrainConfig, task: Task | None = None, tokenizer=None) -> Passes:
    """The passes of a run.

    Args:
        task: what it trains on, where that is not the configuration's own (prompts left out).
            tokenizer: with answer-guided rows, to see how long the answers are; without, they are
                taken to fill no token.
    Raises:
        ValueError: as `training.experience.anchors` does, and the task where it cannot be read.
    """
    n, task = config.resolved(), task or config.load_task()
    rows, length, views = n.prompts * n.group, task.length, len(sketched_views(config, 1))
    rollout, importance, known = rollout_passes(config, task, tokenizer)
    old, reference, again, gradient = (rows * times * views for times in update_times(config))
    rule, problems = (
        n.test_rule(length),
        config.eval_problems or len(task.sample(0, config.eval_split)),
    )
    one = int(rule_passes(torch.ones(1, length, dtype=torch.bool), rule, n.block_length or length))
    step = rollout + importance + old + reference + again + gradient
    steps = min(config.steps, ceil(config.forwards / step)) if config.forwards else config.steps
    evaluations = 1 + sum(
        s == steps or bool(config.eval_every) and s % config.eval_every == 0
        for s in range(1, steps + 1)
    )
    exact = known and is_fixed(n.rule(length), n.eos)
    return Passes(
        rows,
        rollout,
        exact,
        importance,
        views,
        old,
        reference,
        again,
        gradient,
        problems * one,
        is_fixed(rule, n.eos),
        evaluations,
        steps,
    )


def is_fixed(rule: Rule, eos: str) -> bool:
    """Does every text take the same number of passes?"""
    return hasattr(rule, "steps") and eos != "stop"


def rule_passes(masked: Tensor, rule: Rule, block_length: int) -> Tensor:
    """(N,) passes that a rule takes, or takes at most, to fill the masked positions (N, L) bool
    block by block.

    A schedule takes the block's share of its steps, or one a token where there are fewer; other
    rules reveal at least `n_min` tokens a pass.
    """
    n_blocks = masked.shape[1] // block_length
    left = masked.view(len(masked), n_blocks, block_length).sum(-1)
    if hasattr(rule, "steps"):
        return left.clamp(max=rule.steps // n_blocks).sum(1)
    least = getattr(rule, "n_min", 1)
    return ((left + least - 1) // least).sum(1)


def rollout_passes(config: TrainConfig, task: Task, tokenizer) -> tuple[int, int, bool]:
    """Passes of one step's rollouts, of its importance weights, and whether the guided rows'
    canvases are known.

    Guided rows are counted on the canvases of the first step's problems; the answers of other steps
    may differ in length.
    """
    n, length = config.resolved(), task.length
    rule, rows = n.rule(length), n.prompts * n.group
    everything = torch.ones(rows, length, dtype=torch.bool)
    if not n.guide:
        return int(rule_passes(everything, rule, n.block_length or length).sum()), 0, True
    guided = torch.arange(rows) % n.group >= n.group - n.guide["rows"]
    if tokenizer is None:
        free, answer = everything, guided[:, None] & everything
    else:
        problems = task.sample(n.prompts, "train", derived_seed(config.seed, 1, "problems"))
        free = (
            anchors(tokenizer, task, n, [e for e in problems for _ in range(n.group)])
            == tokenizer.mask_token_id
        )
        answer = ~free
    plain = rule_passes(free[~guided], rule, n.block_length or length).sum()
    reasoned = rule_passes(free[guided], rule, n.guide["block_length"] or length).sum()
    again = (
        rule_passes(answer[guided], n.answer_rule(), length).sum() if n.guide["repredict"] else 0
    )
    weighed = (
        2 * int(free[guided].sum()) if n.guide["importance"] else 0
    )  # with and without the answer, token by token
    return int(plain + reasoned + again), weighed, tokenizer is not None


def update_times(config: TrainConfig) -> tuple[int, int, int, int]:
    """How often one step scores every view: under the old policy, the reference, the present
    policy, with gradient.

    As `score_views` and `text_pieces` of training do it: with one inner update the old policy is
    the present one; a loss of whole texts needs the present scores first, unless nothing is
    compared with them, or they are the old ones.
    """
    n, method = config.resolved(), METHODS[config.method]
    times = n.inner_updates
    old = times if times > 1 and method.uses_old else 0
    reference = times if n.kl > 0 else 0
    again = 0
    if method.text_loss is not None and (old or reference):
        again = times - 1 if old else times
    return old, reference, again, times


def sketch(config: TrainConfig, rows: int) -> Rollout:
    """Texts without content: written in order, none ending early. What a view recipe needs to say
    what it would score."""
    n, length = config.resolved(), config.load_task().length
    rule = n.rule(length)
    steps = (
        rule.steps
        if hasattr(rule, "steps")
        else int(rule_passes(torch.ones(1, length).bool(), rule, length))
    )
    tokens, zeros = torch.zeros(rows, length, dtype=torch.long), torch.zeros(rows, length)
    order = (torch.arange(length) * steps // length).expand(rows, length)
    anchor = None
    if n.guide:  # one token, the last, stands for the answer
        guided = torch.arange(rows) % n.group >= n.group - n.guide["rows"]
        anchor = torch.where(guided[:, None] & (torch.arange(length) == length - 1), 0, -1)
    return Rollout(
        torch.zeros(rows, 1, dtype=torch.long),
        torch.ones(rows, 1, dtype=torch.bool),
        tokens,
        order,
        zeros,
        zeros,
        torch.full((rows,), steps),
        mask_id=-1,
        eos_id=-2,
        anchor=anchor,
        predicted=tokens.expand(steps, rows, length),
        predicted_logprob=zeros.expand(steps, rows, length),
    )


def sketched_views(config: TrainConfig, rows: int, rollout: Rollout | None = None) -> list[View]:
    """The views that one update would draw of `rows` texts, or of a rollout's."""
    method, n, rollout = METHODS[config.method], config.resolved(), rollout or sketch(config, rows)
    by_step = (
        {"credit": torch.ones(rows, len(rollout.predicted))}
        if method.rewarded == "every step"
        else {}
    )
    return method.views(rollout, torch.Generator().manual_seed(0), **by_step, **n.views)


def scored_tokens(config: TrainConfig, rows: int) -> float:
    """Tokens of one row that the largest view scores."""
    return max(float(v.scored.sum()) for v in sketched_views(config, rows)) / rows
