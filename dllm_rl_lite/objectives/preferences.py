"""Losses that prefer: one completion of a pair to the other, or each completion by the share of its
siblings that it beats."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import logsigmoid


def preference(
    log_ratio: Tensor, advantage: Tensor, scored: Tensor, beta: float = 0.1, alpha: float = 0.0
) -> Tensor:
    """DPO's loss of pairs of texts: -log sigmoid(beta * sum of a * log-ratio), over the tokens of
    both.

    Args:
        log_ratio: (N, L) of tokens, new minus reference log-probability in nats; rows 2 i and 2 i +
            1 are a pair.
        advantage: (N, 1) or (N, L), a: above 0 for the right completion, below 0 for the wrong one;
            1 and -1 are DPO's.
        scored: (N, L) bool, the tokens that count.
        beta: > 0, how strongly the reference holds.
        alpha: >= 0, TGDPO's guidance: a is multiplied by 1 + alpha q for the right completion, by
            1 - alpha q for the wrong one, q = beta * log-ratio as a constant.
    Returns:
        (N, 1): half of the pair's loss for each of its rows.
    Source: DPO (arXiv 2305.18290); alpha after TGDPO (arXiv 2506.14574) and its release, where q is
    that of a model already trained by DPO; here it is that of the policy as it is.
    Error: where the policy is the reference, the gradient is beta / 2 times REINFORCE's of the
    pair; it fades as the pair is told apart: `tests/objectives/test_preferences.py`.
    """
    if len(log_ratio) % 2:
        raise ValueError(f"rows come in pairs, got {len(log_ratio)}")
    if not beta > 0 or alpha < 0:
        raise ValueError(f"need beta > 0 and alpha >= 0, got beta {beta} and alpha {alpha}")
    implicit = beta * log_ratio
    weight = advantage * (1 + alpha * advantage.sign() * implicit.detach())
    margin = (weight * implicit * scored).sum(1).view(-1, 2).sum(1)
    return -logsigmoid(margin).repeat_interleave(2)[:, None] / 2


def win_rate_regression(log_ratio: Tensor, advantage: Tensor, psi: float = 1.0) -> Tensor:
    """RSPO's loss without its penalty, which is SPPO's: half the squared gap between a completion's
    log-ratio and psi times its win rate above one half.

    Args:
        log_ratio: (N, 1) of whole completions, new minus old log-probability in nats.
        advantage: (N, 1), the share of the siblings that the completion beats, minus 1/2.
        psi: > 0, in nats.
    Returns:
        (N, 1).
    Source: RSPO (arXiv 2503.00030) and its release, psi 1000; SPPO (arXiv 2405.00675).
    Error: at the old policy the gradient is psi times REINFORCE's with the win rate as reward.
    """
    if not psi > 0:
        raise ValueError(f"psi must be above 0, got {psi}")
    return (log_ratio - psi * advantage) ** 2 / 2
