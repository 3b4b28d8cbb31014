"""Hints: part of a solved completion stands on the canvas before the first denoising step.

A start is a function (problems, task, tokenizer, generator, memory, step, numbers) -> the canvases
that rollouts begin with. Their tokens are kept and never scored. All siblings of a problem begin
with the same canvas. A new start decides which completion is shown and how much of it, and leaves
the rest to `hint_canvas`; a record in methods/ names it as its `start`.

What starts know of a problem, by its prompt, is written by `remember_groups`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..seeds import python_random
from .task import Example, Task


def remember_groups(
    memory: dict[str, dict],
    examples: Sequence[Example],
    rewards: Tensor,
    completions: list[str],
    step: int,
    enough: float = 0.9,
) -> dict[str, dict]:
    """The memory that starts look at, with the groups of one more step in it.

    Args:
        memory: by a problem's prompt: the step, mean and largest reward of its last group; its best
            completion so far and that completion's reward, if there is one.
        examples: one per row, B * G.
        rewards: (B, G) float32.
        completions: one per row.
        step: of the run.
        enough: the least reward of a completion that is kept.
    """
    memory = dict(memory)
    group = rewards.shape[1]
    for i, earned in enumerate(rewards):
        best = int(earned.argmax())
        largest = float(earned[best])
        prompt = examples[i * group].prompt
        entry = memory.get(prompt, {}) | {
            "step": step,
            "mean": float(earned.mean()),
            "largest": largest,
        }
        if largest >= enough and largest > entry.get("reward", float("-inf")):
            entry |= {"text": completions[i * group + best], "reward": largest}
        memory[prompt] = entry
    return memory


def seeded(
    problems: Sequence[Example],
    memory: dict[str, dict],
    task: Task,
    tokenizer,
    generator: torch.Generator,
    share: float = 0.5,
) -> Tensor:
    """XRPO's seeding: a problem whose last group was all wrong starts with a share of a
    demonstration.

    Args:
        problems: B of them.
        memory: as `remember_groups` writes it.
        task: that can demonstrate.
        tokenizer: the model's.
        generator: draws the demonstrations and their tokens.
        share: in [0, 1), of the canvas.
    Returns:
        (B, L) int64, the mask token where free.
    Raises:
        ValueError: for a share out of range, or a task without demonstrations.
    Source: XRPO (arXiv 2510.06672), which puts solved examples into the prompt; on a canvas the
    completion itself can be begun.
    Error: biased. A seeded group learns to finish a completion that the policy would not have
    begun.
    """
    check_share("start.share", share, task.length)
    shares = []
    for problem in problems:
        entry = memory.get(problem.prompt)
        shares.append(share if entry and entry["largest"] <= 0 else 0.0)
    return demonstrated(problems, task, tokenizer, shares, generator)


def hinted(
    problems: Sequence[Example],
    memory: dict[str, dict],
    task: Task,
    tokenizer,
    generator: torch.Generator,
    step: int,
    window: int = 10,
    most: float = 0.5,
) -> Tensor:
    """DeepVideo-R1's hints: a difficult problem starts with a share of a demonstration that grows
    with its difficulty, where that is above zero.

    The difficulty is the mean reward of the problems that were last seen within the window, less
    the mean of the problem's own last group.

    Args:
        problems, memory, task, tokenizer, generator: as for `seeded`, as is what it returns.
        step: of the run.
        window: >= 1, steps.
        most: in [0, 1), the share of the canvas at difficulty 1 (or more).
    Raises:
        ValueError: as `seeded` does, or for a window below 1.
    Source: Reg-GRPO (DeepVideo-R1, arXiv 2506.07464), which puts parts of a trace into the prompt.
    Error: biased as `seeded` is. The reward of a hinted group counts as any other, so a problem
    that is solved by hints alone loses them, and gets them again.
    """
    if window < 1:
        raise ValueError(f"start.window must be at least 1 step, got {window}")
    check_share("start.most", most, task.length)
    recent = [entry["mean"] for entry in memory.values() if entry["step"] >= step - window]
    shares = []
    for problem in problems:
        difficulty = 0.0
        if problem.prompt in memory and recent:
            difficulty = sum(recent) / len(recent) - memory[problem.prompt]["mean"]
        shares.append(most * min(max(difficulty, 0.0), 1.0))
    return demonstrated(problems, task, tokenizer, shares, generator)


def resumed(
    problems: Sequence[Example],
    memory: dict[str, dict],
    task: Task,
    tokenizer,
    generator: torch.Generator,
    levels: int = 16,
    decay: float = 0.95,
) -> Tensor:
    """ReST-GRPO's partial states: a problem that was once solved starts with a share k / levels of
    its best completion, k = 0 .. levels - 1 with a chance in proportion to decay^k.

    Args:
        problems, memory, task, tokenizer, generator: as for `seeded`, as is what it returns; of the
            task only its length counts.
        levels: K >= 1; at 1 all canvases are blank.
        decay: in (0, 1]; below 1, smaller shares are likelier.
    Raises:
        ValueError: for levels or a decay out of range.
    Source: ReST-GRPO (arXiv 2508.19576) and its release, which cuts a solution after one of its
    lines; any subset of a completion is a state of a canvas.
    Error: biased as `seeded` is; the completion shown is the policy's own, of an earlier step.
    """
    if levels < 1 or not 0 < decay <= 1:
        raise ValueError(
            f"need start.levels of at least 1 and start.decay in (0, 1], got {levels} and {decay}"
        )
    check_share("the largest share of start.levels", (levels - 1) / levels, task.length)
    texts = [memory.get(problem.prompt, {}).get("text", "") for problem in problems]
    shares = [0.0] * len(problems)
    known = [i for i, text in enumerate(texts) if text]
    if known and levels > 1:
        chance = decay ** torch.arange(levels, dtype=torch.float64, device=generator.device)
        drawn = torch.multinomial(chance, len(known), replacement=True, generator=generator)
        for i, level in zip(known, drawn.tolist(), strict=True):
            shares[i] = level / levels
    return hint_canvas(tokenizer, texts, shares, task.length, generator)


def demonstrated(
    problems: Sequence[Example],
    task: Task,
    tokenizer,
    shares: list[float],
    generator: torch.Generator,
) -> Tensor:
    """`hint_canvas` of right demonstrations; none is made for a share of 0."""
    # Whether or not one is needed now: a run ends at its first step, not at a difficult problem.
    if not hasattr(task, "demonstrate"):
        raise ValueError(
            f"{task.name} has no demonstrations to take a hint from: choose a generated task, or a "
            "start that takes it from the policy's own texts"
        )
    texts = [""] * len(problems)
    shown = [i for i, share in enumerate(shares) if share > 0]
    if shown:
        rng = python_random(generator)
    for i in shown:
        texts[i] = task.demonstrate(problems[i], rng, 0.0)
    return hint_canvas(tokenizer, texts, shares, task.length, generator)


def check_share(name: str, share: float, length: int) -> None:
    """Raises ValueError unless so large a share of a canvas can be given."""
    if not 0 <= share < 1 or round(share * length) == length:
        raise ValueError(
            f"{name} of {share:g} of a canvas of {length} tokens is out of range: it must be at "
            "least 0, and leave a token to write and to score"
        )


def hint_canvas(
    tokenizer,
    texts: Sequence[str],
    shares: Sequence[float],
    length: int,
    generator: torch.Generator,
) -> Tensor:
    """Canvases on which a random share of a solved completion stands.

    Args:
        tokenizer: the model's.
        texts: B solved completions; end-of-sequence tokens fill their canvas, and what is longer is
            cut.
        shares: in [0, 1), of the L tokens of each canvas, rounded; of a share of 0 the completion
            is not looked at.
        length: L, tokens of the canvas.
        generator: draws the tokens; with shares of 0 nothing is drawn.
    Returns:
        (B, L) int64, the mask token where free.
    Raises:
        ValueError: for a share outside [0, 1), or one that leaves no blank.
    """
    canvas = torch.full((len(texts), length), tokenizer.mask_token_id)
    for row, text, share in zip(canvas, texts, shares, strict=True):
        check_share("a share", share, length)
        given = round(share * length)
        if given == 0:
            continue
        ids = tokenizer(text, add_special_tokens=False)["input_ids"][:length]
        ids += [tokenizer.eos_token_id] * (length - len(ids))
        order = torch.randperm(length, generator=generator, device=generator.device)
        shown = order[:given].cpu()
        row[shown] = torch.tensor(ids)[shown]
    return canvas
