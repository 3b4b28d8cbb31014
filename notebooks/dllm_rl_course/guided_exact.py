"""All completions of one chain of two that matter, with their exact probabilities: free, and
answer-guided."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dllm_rl_lite.estimators import text_distribution
from dllm_rl_lite.models import MaskedDiffusionLM, encode_prompts
from dllm_rl_lite.sampler import Schedule
from dllm_rl_lite.tasks.tiny.chain import parse, work

BLANKS = (4, 6, 10, 12)  # first result, its copy, second result, answer


@dataclass(frozen=True)
class Completions:
    """n completions of one prompt: all results by right and by habitual working.

    Args:
        texts: written out.
        tokens: (n, L).
        free: (n,) probability under the plain prompt; it carries the gradient.
        guided: (n,) probability of both stages.
        right: (n,) float, the answer is right.
        honest: (n,) float, the working is right too.
    """

    texts: list[str]
    tokens: Tensor
    free: Tensor
    guided: Tensor
    right: Tensor
    honest: Tensor

    @property
    def log_free(self) -> Tensor:
        return self.free.clamp(min=1e-300).log()

    def posterior(self, reward: Tensor) -> Tensor:
        """(n,) distribution of free completions among the rewarded ones."""
        share = self.free.detach() * reward
        return share / share.sum()


def exact_completions(lm: MaskedDiffusionLM, prompt: str) -> Completions:
    """Follow the four blanks of a chain of two, one token a step in order of confidence."""
    frame, options, right, honest = _frame(lm, prompt)
    found = _distribution(lm, prompt, frame, options)
    return Completions(
        texts=[_written(lm, text) for text in found.texts],
        tokens=found.texts,
        free=found.prob,
        guided=_guided(lm, prompt, frame, options, right, found.texts),
        right=(found.texts[:, BLANKS[3]] == right).double(),
        honest=(found.texts == honest).all(1).double(),
    )


def free_probabilities(lm: MaskedDiffusionLM, prompt: str) -> Tensor:
    """Of the same completions, with the weights of now."""
    frame, options, _, _ = _frame(lm, prompt)
    return _distribution(lm, prompt, frame, options).prob


def one_step_log_probabilities(lm: MaskedDiffusionLM, prompt: str, tokens: Tensor) -> Tensor:
    """(n,) log-probability of the four blanks from one forward pass with all of them masked."""
    frame, _, _, _ = _frame(lm, prompt)
    canvas = frame.clone()
    canvas[list(BLANKS)] = lm.mask_id
    logp = _logits(lm, prompt, canvas[None], BLANKS).log_softmax(-1)
    total = torch.zeros(len(tokens), dtype=torch.double)
    for j, blank in enumerate(BLANKS):
        total = total + logp[j][tokens[:, blank]]
    return total


def gradient(lm: MaskedDiffusionLM, value: Tensor) -> Tensor:
    """All entries of the gradient, one after the other; the graph is kept."""
    found = torch.autograd.grad(value, list(lm.parameters()), retain_graph=True)
    return torch.cat([entries.flatten() for entries in found]).double()


def cosine(x: Tensor, y: Tensor) -> float:
    return float(torch.cosine_similarity(x, y, dim=0))


def _ids(lm, text: str) -> Tensor:
    return torch.tensor(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


def _frame(lm, prompt: str) -> tuple[Tensor, list[Tensor], int, Tensor]:
    """A canvas with zeros in the blanks, the digits that may stand in each, the right answer's
    token, and the canvas of right working."""
    start, terms = parse(prompt)
    (s, b), (t, c) = terms
    first = set()
    second = set()
    for x in (True, False):
        for y in (True, False):
            lines = work(start, terms, [x, y])
            first.add(str(lines[0][3]))
            second.add(str(lines[1][3]))
    one, two = work(start, terms, [True, True])
    canvases = []
    for r1, r2 in ((0, 0), (one[3], two[3])):
        text = f"{start}{s}{b}={r1},{r1}{t}{c}={r2}<answer>{r2}</answer>"
        canvases.append(torch.cat([_ids(lm, text), torch.full((2,), lm.eos_id)]))
    digits = [_ids(lm, "".join(sorted(results))) for results in (first, second)]
    options = [digits[0], digits[0], digits[1], digits[1]]
    return canvases[0], options, int(canvases[1][BLANKS[3]]), canvases[1]


def _distribution(lm, prompt: str, frame: Tensor, options: list[Tensor], answer: int | None = None):
    """Probability of every completion of the frame; with an answer: of its working under it."""
    given = frame.clone()
    blanks = list(BLANKS)
    if answer is not None:
        given[blanks.pop()] = answer
    given[blanks] = lm.mask_id
    choices = [frame[i : i + 1] for i in range(len(frame))]
    for blank, digits in zip(BLANKS, options, strict=True):
        choices[blank] = digits
    return text_distribution(lm, prompt, choices, Schedule(len(blanks)), anchor=given)


@torch.no_grad()
def _guided(lm, prompt: str, frame: Tensor, options: list[Tensor], right: int, texts: Tensor):
    """Stage 1 under the right answer, times stage 2: the answer from that working."""
    reasoning = _distribution(lm, prompt, frame, options, right).prob
    canvas = texts.clone()
    canvas[:, BLANKS[3]] = lm.mask_id
    logp = _logits(lm, prompt, canvas, BLANKS[3:]).log_softmax(-1)
    answer = logp.gather(1, texts[:, BLANKS[3:]]).exp()[:, 0]
    return reasoning.repeat_interleave(len(options[3])) * answer


def _logits(lm, prompt: str, canvases: Tensor, blanks: tuple[int, ...]) -> Tensor:
    """(rows, blanks' logits flattened) at these places of these canvases, in double precision."""
    ask = encode_prompts(lm.tokenizer, [prompt])[0][0]
    full = torch.cat([ask.expand(len(canvases), -1), canvases], 1)
    where = torch.zeros_like(full, dtype=torch.bool)
    where[:, [len(ask) + blank for blank in blanks]] = True
    return lm(full, torch.ones_like(where), where).double()


def _written(lm, tokens: Tensor) -> str:
    text = lm.tokenizer.decode(tokens[tokens != lm.eos_id].tolist())
    return text.replace(" ", "")
