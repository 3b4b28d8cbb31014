"""A model without a canvas: it inserts tokens between those that stand there, and says when to stop
(Insertion Language Models, arXiv 2505.05755)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from dllm_rl_lite.models import MaskedDiffusionLM


def insertion_targets(text: list[int], stays: list[bool], eos_id: int, vocabulary: int) -> Tensor:
    """What a model should say of a text some of whose tokens were dropped.

    Args:
        text: n tokens.
        stays: for each of them, whether it is still there.
        eos_id: its entry at gap 0 stands for "stop".
        vocabulary: V.
    Returns:
        (n + 1, V) float32 that sums to 1: the share of the dropped tokens by (gap, token), gap g
        lying before the g-th token that is still there; if none was dropped, the stop alone.
    """
    target = torch.zeros(len(text) + 1, vocabulary)
    gap = 0
    for token, is_there in zip(text, stays, strict=True):
        if is_there:
            gap += 1
        else:
            target[gap, token] += 1
    if all(stays):
        target[0, eos_id] = 1
    return target / target.sum()


def drop_some(text: list[int], generator: torch.Generator) -> list[bool]:
    """Which of the n tokens stay: how many go is drawn evenly from 0 ... n, and then which."""
    n = len(text)
    gone = int(torch.randint(n + 1, (1,), generator=generator))
    place = torch.randperm(n, generator=generator)
    return (place >= gone).tolist()


def event_logprobs(lm: MaskedDiffusionLM, prompts: list[Tensor], texts: list[list[int]]) -> Tensor:
    """The distribution of the next insertion, or the stop.

    The stock model serves: a gap is asked at the token on its left.

    Args:
        lm: the model.
        prompts: N tensors (P_i,) int64.
        texts: N lists of tokens, what was inserted so far.
    Returns:
        (N, G, V) float32, G being one more than the longest text has tokens; the exponentials of a
        row sum to 1. End-of-sequence at gap 0 is the stop, and -inf at the others.
    Source: Insertion Language Models, whose stop is a binary classifier of its own; here it is one
        more entry of the same softmax.
    """
    rows = [
        torch.cat([prompt, torch.tensor(text, dtype=torch.long)])
        for prompt, text in zip(prompts, texts, strict=True)
    ]
    ids = pad_sequence(rows, batch_first=True, padding_value=lm.pad_id, padding_side="left")
    from_right = torch.arange(ids.shape[1], 0, -1)
    real = from_right <= torch.tensor([len(row) for row in rows])[:, None]
    gaps = torch.tensor([len(text) + 1 for text in texts])[:, None]
    logits = lm(ids, real, from_right <= gaps)
    inside = torch.arange(int(gaps.max())) < gaps
    table = logits.new_full((*inside.shape, logits.shape[-1]), float("-inf"))
    table[inside] = logits
    table[:, 1:, lm.eos_id] = float("-inf")
    return table.flatten(1).log_softmax(1).view(table.shape)


def insertion_loss(
    lm: MaskedDiffusionLM,
    prompts: list[Tensor],
    texts: list[list[int]],
    generator: torch.Generator,
) -> Tensor:
    """Cross-entropy between the targets and the model, in nats per text; some tokens are dropped.

    Args: as `event_logprobs`, with whole texts; generator: draws what is dropped.
    """
    stays = [drop_some(text, generator) for text in texts]
    left = []
    for text, kept in zip(texts, stays, strict=True):
        left.append([token for token, is_there in zip(text, kept, strict=True) if is_there])
    logp = event_logprobs(lm, prompts, left)
    gaps = logp.shape[1]
    wanted = [
        insertion_targets(text, kept, lm.eos_id, logp.shape[2])
        for text, kept in zip(texts, stays, strict=True)
    ]
    # Longer texts have more gaps than the longest of the shortened ones, without any share.
    target = pad_sequence(wanted, batch_first=True)[:, :gaps]
    # 0 * -inf is no number.
    return -(target * logp.clamp(min=torch.finfo(logp.dtype).min)).sum() / len(texts)


@torch.no_grad()
def insert_all(lm: MaskedDiffusionLM, prompts: list[Tensor], most: int) -> list[list[int]]:
    """One text per prompt, greedily: the likeliest insertion of all gaps, until stopping is
    likelier, or there are `most` tokens."""
    texts: list[list[int]] = [[] for _ in prompts]
    open_rows = list(range(len(prompts)))
    for _ in range(most):
        if not open_rows:
            break
        logp = event_logprobs(lm, [prompts[i] for i in open_rows], [texts[i] for i in open_rows])
        best = logp.flatten(1).argmax(1)
        going_on = []
        for row, event in zip(open_rows, best.tolist(), strict=True):
            gap, token = divmod(event, logp.shape[2])
            if token != lm.eos_id:
                texts[row].insert(gap, token)
                going_on.append(row)
        open_rows = going_on
    return texts


def text_logprob(events: Callable[[list[int]], Tensor], text: list[int], eos_id: int) -> Tensor:
    """The log-probability of a text: the sum over all orders in which its tokens can be inserted.

    Args:
        events: tokens that stand there -> (G, V) log-probabilities of the next insertion.
        text: n tokens; 2^n sets of tokens are looked at, each once.
        eos_id: the stop's entry at gap 0.
    """
    n = len(text)
    nothing = torch.tensor(float("-inf"), dtype=torch.float64)
    value = [nothing] * 2**n
    value[0] = torch.zeros((), dtype=torch.float64)
    for there in range(2**n):
        logp = events([text[i] for i in range(n) if there >> i & 1]).double()
        for i in range(n):
            if there >> i & 1:
                continue
            gap = (there & (2**i - 1)).bit_count()
            after = there | 2**i
            value[after] = torch.logaddexp(value[after], value[there] + logp[gap, text[i]])
    return value[-1] + logp[0, eos_id]
