"""Losses of groups that fit how much likelier each text became to its reward."""

from __future__ import annotations

from torch import Tensor


def group_regression(
    log_ratio: Tensor, advantage: Tensor, group: int, beta: float = 0.0, eps: float = 1e-4
) -> Tensor:
    """Reg-GRPO's loss: the squared gap between a text's advantage and its log-ratio, both measured
    within the group.

    Args:
        log_ratio: (N, 1) of whole texts, new minus old log-probability in nats: `text_log_ratio`.
        advantage: (N, 1), the z-scored rewards of whole groups.
        group: siblings in a group, at least 2, rows prompt by prompt.
        beta: >= 0. 0: log-ratios are z-scored too, as in the paper. Above: beta times the
            log-ratio minus the group's mean, which has a scale (our choice, off by default).
        eps: > 0, in nats, beside the standard deviation of the log-ratios.
    Returns:
        (N, 1).
    Source: Reg-GRPO (DeepVideo-R1, arXiv 2506.07464).
    Error: z-scored, the mean over a group is 2 (G - 1) / G (1 - correlation of the log-ratios with
    the rewards), up to eps. It has no slope along the log-ratios themselves, so it never says how
    far to go; at the old policy its slope is -2 / (G eps) times the advantage, so eps and gradient
    clipping set the first step. With beta it is least where log-ratios are advantage / beta, up to
    a constant of the group.
    """
    n = len(log_ratio)
    if group < 2 or n % group:
        raise ValueError(f"group must be at least 2 and divide the {n} rows, got {group}")
    if beta < 0 or not eps > 0:
        raise ValueError(f"need beta >= 0 and eps > 0, got beta {beta} and eps {eps}")
    siblings = log_ratio.view(-1, group)
    centred = siblings - siblings.mean(1, keepdim=True)
    if beta:
        predicted = beta * centred
    else:
        variance = (centred**2).sum(1, keepdim=True) / (group - 1)
        # The root has no slope at zero, where all log-ratios are equal.
        predicted = centred / (variance.clamp(min=1e-24).sqrt() + eps)
    return (predicted.reshape(n, 1) - advantage) ** 2
