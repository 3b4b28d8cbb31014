"""The exercises of *Who may be compared with whom*: the strength of a baseline on a tree,
leave-one-out along the path, a tree that parts at chosen steps; and the rollout of texts that are
written from left to right."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dllm_rl_lite.sampler import Rollout

from .verdict import attempt, differs, judge, raised, result_of, tensor_differs


def left_to_right(tokens: Tensor, dice: Tensor | None = None) -> Rollout:
    """The rollout of texts that were written one token a step, from left to right.

    Args:
        tokens: (B, G, L) int64, of B groups.
        dice: (L, G) int64, the table of each group; None: everybody's own.
    """
    groups, group, length = tokens.shape
    n = groups * group
    if dice is not None:
        dice = torch.cat([dice + number * group for number in range(groups)], 1)
    return Rollout(
        prompt=torch.zeros(n, 1, dtype=torch.long),
        prompt_mask=torch.ones(n, 1, dtype=torch.bool),
        tokens=tokens.flatten(0, 1),
        unmask_step=torch.arange(length).expand(n, length),
        logprob=torch.full((n, length), -1.0),
        entropy=torch.zeros(n, length),
        n_forwards=torch.full((n,), length),
        mask_id=int(tokens.max()) + 1,
        eos_id=int(tokens.max()) + 2,
        dice=dice,
    )


def exercise_1(answer) -> None:
    """The strength at the first decision, four siblings: (group mean of independent siblings, group
    mean on a 2 x 2 tree, leave-one-out of texts on a 2 x 2 tree)."""
    judge(
        "exercise 1",
        answer,
        [
            (
                lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
                "give three numbers: (mean, independent; mean, tree; leave-one-out, tree)",
            ),
            (
                lambda: not differs(answer[0], 1, 5e-3),
                "a text is part of the mean that it is compared with: what is left of its reward?",
            ),
            (lambda: differs(answer[0], 0.75, 5e-3), "four independent siblings: (G - 1) / G"),
            (
                lambda: not differs(answer[1], 0.75, 5e-3),
                "on the tree your neighbour shares your first decision: two of the four rewards in "
                "the mean belong to it",
            ),
            (lambda: differs(answer[1], 0.5, 5e-3), "mean on the tree: two decisions, (2 - 1) / 2"),
            (
                lambda: not differs(answer[2], 1, 5e-3),
                "leaving out yourself does not leave out your neighbour, who shares your decision",
            ),
            (
                lambda: differs(answer[2], 2 / 3, 5e-3),
                "leave-one-out is G / (G - 1) times the group mean, on a tree too",
            ),
        ],
    )


def _groups() -> list[tuple[Tensor, Tensor]]:
    """Rewards (G,) and `same` (T + 1, G, G) of some groups, in which siblings part early and late,
    and some write the same."""
    found = []
    generator = torch.Generator().manual_seed(0)
    for group in (3, 4, 5):
        tokens = torch.randint(2, (group, 3), generator=generator)
        tokens[-1] = tokens[0]
        rewards = torch.rand(group, generator=generator, dtype=torch.float64)
        rewards[-1] = rewards[0]
        same = torch.ones(4, group, group, dtype=torch.bool)
        for step in range(3):
            same[step + 1] = same[step] & (tokens[:, None, step] == tokens[None, :, step])
        found.append((rewards, same))
    return found


def _credit(rewards: Tensor, same: Tensor, value: str = "node", climbs: bool = True) -> Tensor:
    """Leave-one-out along the path, or a likely mistake: the text's own reward in place of the
    value, or no credit where nobody else stands on the node."""
    steps, group = len(same) - 1, len(rewards)
    credit = torch.zeros(steps, group, dtype=torch.float64)
    for t in range(steps):
        for g in range(group):
            gained = rewards[g] if value == "text" else rewards[same[t + 1, g]].mean()
            for depth in range(t, -1, -1):
                others = same[depth, g].clone()
                others[g] = False
                if others.any():
                    credit[t, g] = gained - rewards[others].mean()
                    break
                if not climbs:
                    break
    return credit


def _child_minus_parent(rewards: Tensor, same: Tensor) -> Tensor:
    value = (same * rewards).sum(-1) / same.sum(-1)
    return value.diff(dim=0)


def _minus_others(rewards: Tensor, same: Tensor, value: str) -> Tensor:
    """Value of the node after the step, or the text's reward, minus the mean of all others."""
    others = (rewards.sum() - rewards) / (len(rewards) - 1)
    node = (same * rewards).sum(-1) / same.sum(-1)
    gained = node[1:] if value == "node" else rewards.expand(len(same) - 1, -1)
    return gained - others


def exercise_2(path_loo) -> None:
    """path_loo(rewards, same), (G,) and (T + 1, G, G) -> (T, G): the value after each step minus
    the mean of the others on the last node before it that has others."""
    groups = _groups()
    outcome = None
    if callable(path_loo):
        outcome = attempt(lambda: [path_loo(r.clone(), s.clone()) for r, s in groups])

    def follows(rule: Callable[[Tensor, Tensor], Tensor]) -> bool:
        return all(
            not tensor_differs(found, rule(rewards, same))
            for found, (rewards, same) in zip(outcome, groups, strict=True)
        )

    judge(
        "exercise 2",
        result_of(path_loo, groups[0][0].clone(), groups[0][1].clone()),
        [
            (lambda: not callable(path_loo), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(found is None for found in outcome), "for some groups it returns None"),
            (
                lambda: any(
                    torch.as_tensor(found).shape != (len(same) - 1, len(rewards))
                    for found, (rewards, same) in zip(outcome, groups, strict=True)
                ),
                "return one credit a step and sibling: (T, G), where same is (T + 1, G, G)",
            ),
            (
                lambda: any(bool(torch.as_tensor(found).isnan().any()) for found in outcome),
                "somewhere nobody else stands on the node, and a mean of nothing is not a number: "
                "go back towards the empty canvas",
            ),
            (
                lambda: follows(lambda r, s: _minus_others(r, s, "text")),
                "that is leave-one-out of texts: it does not look at the nodes",
            ),
            (
                lambda: follows(lambda r, s: _minus_others(r, s, "node")),
                "the baseline: of the others on the node before the step, not of all others",
            ),
            (
                lambda: follows(_child_minus_parent),
                "that is child minus parent: the sibling itself is in both means",
            ),
            (
                lambda: follows(lambda r, s: _credit(r, s, "text")),
                "the value after the step is the mean of all siblings on the new node, not one "
                "text's reward",
            ),
            (
                lambda: follows(lambda r, s: _credit(r, s, climbs=False)),
                "a sibling that is alone on its node has credit too: go back to the last node that "
                "had others",
            ),
            (
                lambda: not follows(_credit),
                "wanted: V after the step, minus the mean reward of the others (never the sibling "
                "itself) on the last node before the step that has others",
            ),
        ],
    )


def _halved(steps: int, group: int, cuts: list[int], late: int = 0) -> Tensor:
    sibling = torch.arange(group)
    table = []
    for step in range(steps):
        size = group
        for cut in cuts:
            if step >= cut + late:
                size = max(size // 2, 1)
        table.append(sibling - sibling % size)
    return torch.stack(table)


def exercise_3(branch_at) -> None:
    """branch_at(steps, group, cuts) -> (T, G): all share their dice, and at each step of `cuts`
    every part is halved, for good."""
    cases = [(6, 4, [1, 3]), (12, 8, [2, 7, 9]), (5, 8, [0, 4]), (4, 2, [])]
    outcome = None
    if callable(branch_at):
        outcome = attempt(lambda: [branch_at(t, g, list(cuts)) for t, g, cuts in cases])

    def shares(table) -> Tensor:
        table = torch.as_tensor(table)
        return table[..., :, None] == table[..., None, :]

    def follows(rule: Callable[..., Tensor]) -> bool:
        return all(
            torch.equal(shares(found), shares(rule(*case)))
            for found, case in zip(outcome, cases, strict=True)
        )

    def once(steps: int, group: int, cuts: list[int]) -> Tensor:
        first = cuts[0] if cuts else steps
        step = torch.arange(steps)[:, None]
        return torch.where(step < first, 0, torch.arange(group))

    def only_at(steps: int, group: int, cuts: list[int]) -> Tensor:
        table = torch.zeros(steps, group, dtype=torch.long)
        for cut in cuts:
            table[cut] = torch.arange(group) // (group // 2)
        return table

    def wrong_remainder(steps: int, group: int, cuts: list[int]) -> Tensor:
        table = []
        for step in range(steps):
            passed = sum(step >= cut for cut in cuts)
            table.append(torch.arange(group) % max(group // 2**passed, 1))
        return torch.stack(table)

    judge(
        "exercise 3",
        result_of(branch_at, *cases[0]),
        [
            (lambda: not callable(branch_at), "pass the function itself, not what it returns"),
            (lambda: raised(outcome), ""),
            (lambda: any(found is None for found in outcome), "for some cuts it returns None"),
            (
                lambda: any(
                    torch.as_tensor(found).shape != case[:2]
                    for found, case in zip(outcome, cases, strict=True)
                ),
                "return one number a step and sibling: (steps, group)",
            ),
            (
                lambda: follows(lambda t, g, cuts: _halved(t, g, cuts, late=1)),
                "one step late: at the step of a cut the halves already have their own dice",
            ),
            (
                lambda: follows(once),
                "at a cut every part is halved, not split into single siblings",
            ),
            (lambda: follows(only_at), "who has parted does not share again: a cut is for good"),
            (
                lambda: follows(wrong_remainder),
                "g % size is the place within a part; its first sibling is g - g % size",
            ),
            (
                lambda: any(torch.as_tensor(found).min() < 0 for found in outcome),
                "-1 means no dice: here every sibling rolls at every step",
            ),
            (
                lambda: not follows(_halved),
                "wanted: g - g % size, where size is the group halved once for each cut that is at "
                "or before the step",
            ),
        ],
    )
