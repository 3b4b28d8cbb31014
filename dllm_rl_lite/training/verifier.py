"""Which texts of a rollout does the verifier see? The finished ones, or what stands there after
every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..methods import REWARDED
from ..models import decode
from ..sampler import Rollout
from ..tasks import Example, rewards_of


def verify(
    reward: Callable[..., list[float]],
    examples: list[Example],
    rollout: Rollout,
    tokenizer,
    rewarded: str = "final",
    fill: bool = False,
) -> Tensor:
    """Rewards of a rollout's texts: (N,) float32, or (N, T) where every step is rewarded.

    Args:
        reward: of TRL's signature. examples: one per row. rewarded: "final": the finished texts;
            "every step": the complete predictions of a rollout made with `record=True`; "partial":
            the text after every step, its masks dropped. A text that did not change is not scored
            again; a finished row keeps its last reward. An empty text is scored like any other:
            TA-GRPO-d's release counts 0 for it as long as it is the first, also where the reward
            of nothing is not 0 (0.25 for MATH's format).
        fill: with "partial", put the likeliest tokens where masks are left (of a rollout with
            `record="likeliest"`).
    Raises:
        ValueError: for an unknown `rewarded`, a rollout without predictions where they are needed,
            or a bad reward value; RuntimeError where the reward function fails.
    """
    if rewarded not in REWARDED:
        raise ValueError(f"unknown rewarded {rewarded!r}: one of {REWARDED}")
    if rewarded == "final":
        return torch.tensor(rewards_of(reward, examples, decode(tokenizer, rollout.tokens)))
    if rollout.predicted is None and (fill or rewarded == "every step"):
        wanted = '"likeliest"' if fill else "True"
        raise ValueError(
            "rewards at every step need the predictions of every step: "
            f"denoise with record={wanted}"
        )
    if rewarded == "partial":
        texts = partial_texts(rollout, tokenizer, fill)
    else:
        texts = [decode(tokenizer, tokens) for tokens in rollout.predicted]
        texts[-1] = decode(tokenizer, rollout.tokens)
    rows = torch.zeros(len(texts), len(examples))
    for t, now in enumerate(texts):
        new = [i for i, text in enumerate(now) if t == 0 or text != texts[t - 1][i]]
        rows[t] = rows[t - 1]
        if new:
            rows[t, new] = torch.tensor(
                rewards_of(reward, [examples[i] for i in new], [now[i] for i in new])
            )
    return rows.T.contiguous()


def partial_texts(rollout: Rollout, tokenizer, fill: bool = False) -> list[list[str]]:
    """T lists of N texts: what stands on each row's canvas after its steps 0 to T - 1; masks
    dropped, or with `fill` the likeliest token of the same pass in their place."""
    texts = []
    for step in range(int(rollout.n_forwards.max())):
        canvas = rollout.canvas_at(step + 1)
        if fill:
            canvas = torch.where(canvas == rollout.mask_id, rollout.predicted[step], canvas)
        kept = [row[row != rollout.mask_id].tolist() for row in canvas]
        texts.append(tokenizer.batch_decode(kept, skip_special_tokens=True))
    return texts
