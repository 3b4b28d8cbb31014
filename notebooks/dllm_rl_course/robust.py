"""RMOD: decoding for the worst of several objectives, block by block (robust multi-objective
decoding)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM, count_passes, decode, encode_prompts
from dllm_rl_lite.rewards import extract_answer
from dllm_rl_lite.sampler import Schedule, denoise
from dllm_rl_lite.tasks.tiny.sudoku4 import BOXES, CELLS, COLUMNS


def game_value(values: Tensor, weights: Tensor, lam: float) -> Tensor:
    """(1 / lam) log mean_b exp(lam w . v_b): what the best soft choice among the candidates earns
    under the weights w.

    Args:
        values: (B, K) float64, K objectives of B candidates.
        weights: (K,), not below 0, of sum 1.
        lam: > 0, how far the choice may leave the uniform one.
    """
    return ((lam * values @ weights).logsumexp(0) - torch.tensor(len(values)).log()) / lam


def duality_gap(values: Tensor, weights: Tensor, lam: float) -> float:
    """How far `game_value` can be above its minimum: with p the soft choice, E_p w . v - the least
    E_p v_k, which is 0 at the minimum."""
    chosen = (lam * values @ weights).softmax(0) @ values  # (K,) expected objectives
    return float(weights @ chosen - chosen.min())


def robust_weights(values: Tensor, lam: float, gap: float = 1e-7, most: int = 20_000) -> Tensor:
    """The weights over the simplex that make `game_value` least: more on what the candidates are
    bad at.

    The function is convex. Each step multiplies the weights by exp(-size * slope) and keeps what
    goes down; steps grow after a success and halve after a failure. RMOD's release takes ten
    gradient steps instead.

    Args:
        values: (B, K), K objectives of B candidates.
        lam: > 0.
        gap: how near to the minimum it stops.
        most: steps, at most.
    Returns:
        (K,) float64 of sum 1.
    Raises:
        ValueError: for lam <= 0. RuntimeError: if the gap is not reached.
    """
    if not lam > 0:
        raise ValueError(f"lam must be above 0, got {lam}")
    values = values.double()
    weights = torch.full((values.shape[1],), 1 / values.shape[1], dtype=torch.float64)
    size = 1.0
    for _ in range(most):
        if duality_gap(values, weights, lam) <= gap:
            return weights
        slope = (lam * values @ weights).softmax(0) @ values
        tried = weights * (-size * (slope - slope.min())).exp()
        tried = tried / tried.sum()
        if game_value(values, tried, lam) <= game_value(values, weights, lam):
            weights = tried
            size *= 2
        else:
            size /= 2
    raise RuntimeError(f"the gap is {duality_gap(values, weights, lam):.1e} after {most} steps")


def equal_weights(values: Tensor, lam: float) -> Tensor:
    """(K,): the same weight for every objective, so the best candidate on average is taken."""
    return torch.full((values.shape[1],), 1 / values.shape[1], dtype=torch.float64)


def sudoku_objectives(completions: list[str]) -> Tensor:
    """(N, 3) float64: the shares of the rows, the columns and the boxes of each grid that hold
    1, 2, 3, 4. No answer is needed for it."""
    kinds = (CELLS.tolist(), COLUMNS, BOXES)
    values = torch.zeros(len(completions), len(kinds), dtype=torch.float64)
    for i, text in enumerate(completions):
        grid = extract_answer(text) or ""
        if len(grid) != 16:
            continue
        for k, units in enumerate(kinds):
            held = ["".join(sorted(grid[cell] for cell in unit)) == "1234" for unit in units]
            values[i, k] = sum(held) / len(units)
    return values


def robust_denoise(
    lm: MaskedDiffusionLM,
    prompt: str,
    length: int,
    objectives: Callable[[list[str]], Tensor],
    generator: torch.Generator,
    *,
    blocks: int = 4,
    candidates: int = 8,
    lam: float = 5.0,
    tokens_per_step: int = 2,
    temperature: float = 1.0,
    weigh: Callable[[Tensor, float], Tensor] = robust_weights,
) -> tuple[str, int]:
    """Write one text block by block, each time the block of the candidate that is best under the
    weights.

    A candidate goes on from the blocks chosen so far to the end of the canvas, so that its
    objectives can be checked; of the chosen one only the next block is kept.

    Args:
        lm: the model.
        prompt: one user message.
        length: tokens of the canvas, a multiple of `blocks` * `tokens_per_step`.
        objectives: N completions -> (N, K).
        generator: of all noise.
        blocks: how often is chosen.
        candidates: B, drawn for each block.
        lam: of the weights.
        tokens_per_step: revealed at each pass.
        temperature: of the candidates.
        weigh: (B, K) values, lam -> (K,) weights.
    Returns:
        the text, and the forward passes of one row that it took.
    Raises:
        ValueError: if blocks and steps do not fit the canvas.
    """
    size, rest = divmod(length, blocks)
    if rest or size % tokens_per_step:
        raise ValueError(
            f"length {length} must hold {blocks} equal blocks of whole steps of {tokens_per_step}"
        )
    ids, mask = encode_prompts(lm.tokenizer, [prompt] * candidates)
    canvas = torch.full((candidates, length), lm.mask_id)
    with count_passes(lm) as spent:
        for block in range(blocks):
            rollout = denoise(
                lm,
                (ids, mask),
                length,
                Schedule(length // tokens_per_step),
                size,
                temperature,
                anchor=canvas,
                generator=generator,
            )
            values = objectives(decode(lm.tokenizer, rollout.tokens)).double()
            best = int((values @ weigh(values, lam)).argmax())
            end = (block + 1) * size
            canvas[:, :end] = rollout.tokens[best, :end]
    return decode(lm.tokenizer, rollout.tokens[best : best + 1])[0], spent.asked
