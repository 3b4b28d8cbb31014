"""Which texts of a rollout does the verifier see? The finished ones, or the complete prediction at every step."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .sampler import Rollout
from .tasks import Example, score
from .tokenizer import decode

REWARDED = ("final", "every step")


def verify(reward: Callable[..., list[float]], examples: list[Example], rollout: Rollout, tokenizer,
           rewarded: str = "final") -> Tensor:
    """Rewards of a rollout's texts: (N,) float32, or (N, T) where every step is rewarded.

    Args:
        reward: of TRL's signature. examples: one per row. rewarded: "final": the finished texts; "every step": the complete
            predictions of a rollout made with `record=True`; a text that did not change is not scored again.
    Raises:
        ValueError: for an unknown `rewarded`, a rollout without predictions, or a bad reward value; RuntimeError where the
            reward function fails.
    """
    if rewarded not in REWARDED:
        raise ValueError(f"unknown rewarded {rewarded!r}: one of {REWARDED}")
    if rewarded == "final":
        return torch.tensor(score(reward, examples, decode(tokenizer, rollout.tokens)))
    if rollout.predicted is None:
        raise ValueError("rewards at every step need the predictions of every step: denoise with record=True")
    texts = [decode(tokenizer, tokens) for tokens in rollout.predicted]
    texts[-1] = decode(tokenizer, rollout.tokens)
    rows = torch.zeros(len(texts), len(examples))
    for t, now in enumerate(texts):
        new = [i for i, text in enumerate(now) if t == 0 or text != texts[t - 1][i]]
        rows[t] = rows[t - 1]
        if new:
            rows[t, new] = torch.tensor(score(reward, [examples[i] for i in new], [now[i] for i in new]))
    return rows.T.contiguous()
