"""Where a text ends on a canvas: end-of-sequence tokens as padding, and a cycle of padding tokens
(Rainbow Padding, arXiv 2510.03680)."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from dllm_rl_lite.models import MaskedDiffusionLM

BLANK = -1  # of a canvas of `TextWorld`


def add_padding_tokens(lm: MaskedDiffusionLM, colours: int, seed: int = 0) -> list[int]:
    """Give a model's vocabulary some padding tokens more.

    Args:
        lm: the model; its embedding and its head grow.
        colours: how many, 0 or more; they are special tokens, so `decode` drops them.
        seed: of their embeddings.
    Returns:
        their ids, the `cycle` of `encode_completions`.
    """
    names = [f"<pad{i}>" for i in range(colours)]
    if names:
        known = list(lm.tokenizer.extra_special_tokens)
        lm.tokenizer.add_special_tokens({"extra_special_tokens": known + names})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            lm.backbone.resize_token_embeddings(len(lm.tokenizer), mean_resizing=False)
    return lm.tokenizer.convert_tokens_to_ids(names)


def first_end(tokens: Tensor, eos_id: int) -> Tensor:
    """(N,) int64: the position of the first end-of-sequence token of (N, L) texts, L if none."""
    before = (tokens == eos_id).cumsum(1) == 0
    return before.sum(1)


def cut(tokens: Tensor, eos_id: int) -> Tensor:
    """(N, L) texts with end-of-sequence tokens from the first one on."""
    position = torch.arange(tokens.shape[1], device=tokens.device)
    return torch.where(position < first_end(tokens, eos_id)[:, None], tokens, eos_id)


@dataclass(frozen=True)
class TextWorld:
    """All canvases of a small world with their probabilities: what a perfect model would know.

    A text has n letters with the probability `lengths[n - 1]`, and each of its letters is drawn
    from `letters`. Token 0 is the end of the sequence, 1 ... K are padding, the letters follow.
    """

    lengths: tuple[float, ...]
    letters: tuple[float, ...]
    length: int  # L, tokens of the canvas, more than the longest text has
    colours: int = 0  # K, padding tokens; 0: ends of the sequence to the last position

    def canvases(self) -> tuple[Tensor, Tensor]:
        """(M, L) int64, and (M,) float64 probabilities that sum to 1."""
        cycle = list(range(1, self.colours + 1)) or [0]
        tail = [0] + list(itertools.islice(itertools.cycle(cycle), self.length))
        rows = []
        chances = []
        for n, chance in enumerate(self.lengths, 1):
            for letters in itertools.product(range(len(self.letters)), repeat=n):
                text = [self.colours + 1 + letter for letter in letters]
                rows.append((text + tail)[: self.length])
                each = torch.tensor([self.letters[letter] for letter in letters])
                chances.append(chance * float(each.double().prod()))
        weight = torch.tensor(chances, dtype=torch.float64)
        return torch.tensor(rows), weight / weight.sum()


def predicted(canvases: Tensor, weight: Tensor, canvas: Tensor) -> Tensor:
    """(L, V) float64: the exact probability of each token at each position, given the tokens that
    stand on the (L,) canvas; M canvases of probability `weight` are possible beforehand."""
    fits = ((canvases == canvas) | (canvas == BLANK)).all(1)
    left = weight * fits
    tokens = torch.nn.functional.one_hot(canvases).double()
    return torch.einsum("m,mlv->lv", left / left.sum(), tokens)


def surest_first(canvases: Tensor, weight: Tensor) -> list[tuple[int, int, float]]:
    """What greedy decoding does with a perfect model, one token per pass: (position, token,
    probability) of each pass; of equal probabilities the first position."""
    canvas = torch.full_like(canvases[0], BLANK)
    passes = []
    while bool((canvas == BLANK).any()):
        chance, token = predicted(canvases, weight, canvas).max(1)
        chance[canvas != BLANK] = -1
        place = int(chance.round(decimals=9).argmax())
        canvas[place] = token[place]
        passes.append((place, int(token[place]), float(chance[place])))
    return passes
