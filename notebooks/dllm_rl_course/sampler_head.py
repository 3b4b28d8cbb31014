"""A sampler head: each token of a pass sees the token drawn just before it in the same pass.

The plain decoder draws the tokens of one pass independently. Here the state of a blank is corrected
by what was drawn before, at the price of a small network and no further pass of the model. The head
is trained on what the frozen model itself would say if it saw the tokens drawn so far.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dllm_rl_lite.models import MaskedDiffusionLM, encode_prompts
from dllm_rl_lite.sampler import Decoding, Schedule
from dllm_rl_lite.sampler.candidates import candidates_of
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training.base_model import demonstrations


class SamplerHead(nn.Module):
    """Corrects the state of a blank by the token drawn before it: h + MLP([E(token), h' , h]).

    The model's own head then reads the sum. The last layer starts at zero, so a new head changes
    nothing.

    Args:
        lm: the model; only its sizes and its embedding are used.
        width: hidden units.
        seed: of the first layer.
    Source: the sampler head of multi-token prediction (arXiv 2507.11851), p_j = W MLP([E(x), h_j]).
        Two things differ. The sum with h makes the start exact. And h', the state of the blank
        whose token was drawn, is read too: on a canvas the token before may stand anywhere, and
        h' says where.
    """

    def __init__(self, lm: MaskedDiffusionLM, width: int = 256, seed: int = 0):
        super().__init__()
        hidden = lm.backbone.config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.first = nn.Linear(3 * hidden, width)
            self.norm = nn.LayerNorm(width)
            self.last = nn.Linear(width, hidden)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, states: Tensor, before: Tensor, embedded: Tensor) -> Tensor:
        """(..., H) corrected states.

        Args: all (..., H): of the blank; of the blank drawn before it; the embedding of its token.
        """
        read = torch.cat([embedded, before, states], -1)
        return states + self.last(self.norm(nn.functional.silu(self.first(read))))


@dataclass(frozen=True)
class Pass:
    """What a pass did with n canvases: w blanks of each, in the order in which they were drawn."""

    canvas: Tensor  # (n, L) int64, before
    states: Tensor  # (n, L, H) of the blanks, zeros elsewhere
    place: Tensor  # (n, w) int64
    token: Tensor  # (n, w) int64

    def after(self, count: int) -> Tensor:
        """(n, L) the canvas after the first `count` of the tokens."""
        return self.canvas.scatter(1, self.place[:, :count], self.token[:, :count])


@torch.no_grad()
def passes(
    lm: MaskedDiffusionLM,
    head: SamplerHead,
    prompts: tuple[Tensor, Tensor],
    length: int,
    steps: int,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Pass]:
    """The passes of a decoder that writes length / steps tokens in each, where the distribution has
    the lowest entropy, the lowest first.

    With a new head the texts are those of `denoise(..., Schedule(steps, "entropy"))` with the same
    generator.
    """
    ids, real = prompts
    width, rest = divmod(length, steps)
    if rest:
        raise ValueError(f"steps must divide the length {length}, got {steps}")
    decoding = Decoding(temperature=temperature)
    canvas = torch.full((len(ids), length), lm.mask_id)
    row = torch.arange(len(ids))
    for _ in range(steps):
        blank = canvas == lm.mask_id
        flat = asked(lm, (ids, real), canvas, blank, states=True)
        states = flat.new_zeros(*canvas.shape, flat.shape[-1])
        states[blank] = flat
        noise = same_noise(generator)
        found = candidates_of(lm.head(flat), decoding, noise).spread(blank)
        key = Schedule(steps, "entropy").sort_key(found.logprob, found.entropy, found.margin)
        order = key.masked_fill(~blank, float("-inf")).argsort(dim=1, descending=True, stable=True)
        place = order[:, :width]
        tokens = [found.token[row, place[:, 0]]]
        for number in range(1, width):
            before = states[row, place[:, number - 1]]
            embedded = lm.backbone.get_input_embeddings()(tokens[-1])
            shape = states.shape
            corrected = head(states, before[:, None].expand(shape), embedded[:, None].expand(shape))
            # Each blank keeps the noise that the plain decoder has for it.
            noise = same_noise(generator)
            found = candidates_of(lm.head(corrected[blank]), decoding, noise).spread(blank)
            tokens.append(found.token[row, place[:, number]])
        if generator is not None:
            generator.set_state(noise.get_state())
        now = Pass(canvas, states, place, torch.stack(tokens, 1))
        canvas = now.after(width)
        yield now


def denoise_with_head(*arguments, **settings) -> Tensor:
    """(N, L) the texts that `passes` writes."""
    *_, last = passes(*arguments, **settings)
    return last.after(last.token.shape[1])


def asked(
    lm: MaskedDiffusionLM,
    prompts: tuple[Tensor, Tensor],
    canvas: Tensor,
    where: Tensor,
    states: bool = False,
) -> Tensor:
    """Logits, or states, at the places (n, L) of canvases (n, L) after prompts."""
    ids, real = prompts
    return lm(
        torch.cat([ids, canvas], 1),
        torch.cat([real, torch.ones_like(where)], 1),
        torch.cat([torch.zeros_like(real), where], 1),
        states=states,
    )


def same_noise(generator: torch.Generator | None) -> torch.Generator | None:
    """A generator that draws what this one will draw next, and leaves it as it is."""
    if generator is None:
        return None
    return generator.clone_state()


def head_loss(
    lm: MaskedDiffusionLM, head: SamplerHead, prompts: tuple[Tensor, Tensor], now: Pass
) -> Tensor:
    """KL(model that sees the tokens of the pass drawn so far || head), mean over the tokens of the
    pass but the first of each row."""
    row = torch.arange(len(now.place))
    apart = []
    for number in range(1, now.place.shape[1]):
        place = now.place[:, number]
        where = nn.functional.one_hot(place, now.canvas.shape[1]).bool()
        with torch.no_grad():
            wanted = asked(lm, prompts, now.after(number), where).log_softmax(-1)
            embedded = lm.backbone.get_input_embeddings()(now.token[:, number - 1])
        before = now.states[row, now.place[:, number - 1]]
        found = lm.head(head(now.states[row, place], before, embedded)).log_softmax(-1)
        possible = wanted > float("-inf")
        difference = (wanted - found).masked_fill(~possible, 0.0)
        apart.append((wanted.exp() * difference).sum(-1))
    return torch.cat(apart).mean()


def trained_head(
    lm: MaskedDiffusionLM,
    task: str,
    steps: int,
    rollouts: int,
    seed: int = 0,
    rows: int = 32,
    lr: float = 2e-3,
) -> tuple[SamplerHead, list[float]]:
    """A head for texts of a task, trained on the canvases that it visits at temperature 1.

    Args:
        lm: stays as it is.
        task: its training problems are the prompts.
        steps: passes of a text.
        rollouts: batches of texts; an optimiser step for each of their passes.
        seed: of the head, the problems and the texts.
        rows: texts in a batch.
        lr: AdamW's learning rate at the start; it falls to 0 in a straight line.
    Returns:
        the head, and the loss of each batch in nats per token.
    """
    problems = load_task(task)
    rng = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    head = SamplerHead(lm, seed=seed)
    optimizer = torch.optim.AdamW(head.parameters(), lr=lr, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, rollouts)
    losses = []
    for _ in range(rollouts):
        prompts = encode_prompts(lm.tokenizer, demonstrations(problems, rows, 0.0, rng)[0])
        parts = []
        for now in passes(lm, head, prompts, problems.length, steps, 1.0, generator):
            with torch.enable_grad():
                loss = head_loss(lm, head, prompts, now)
                optimizer.zero_grad()
                loss.backward(inputs=list(head.parameters()))
                optimizer.step()
            parts.append(loss.item())
        schedule.step()
        losses.append(sum(parts) / len(parts))
    return head.eval(), losses


@torch.no_grad()
def pair_distributions(
    lm: MaskedDiffusionLM,
    head: SamplerHead,
    prompts: tuple[Tensor, Tensor],
    canvas: Tensor,
    pair: tuple[int, int],
) -> dict[str, Tensor]:
    """The exact distributions of two tokens at temperature 1, (V, V) float64 each: the first is
    enumerated.

    Args:
        lm: the model.
        head: the sampler head.
        prompts: of one row.
        canvas: (1, L), blank at both places.
        pair: the place that is drawn first, the other place.
    Returns:
        "sequential": one token per pass. "plain": both in one pass. "head": both in one pass, with
        the head.
    """
    both = torch.zeros_like(canvas).bool()
    both[0, list(pair)] = True
    states = asked(lm, prompts, canvas, both, states=True)
    if pair[0] > pair[1]:
        states = states.flip(0)
    first, second = lm.head(states).double().softmax(-1)
    token = torch.arange(len(first))
    written = canvas.repeat(len(token), 1)
    written[:, pair[0]] = token
    where = torch.zeros_like(written).bool()
    where[:, pair[1]] = True
    ids, real = prompts
    many = (ids.expand(len(token), -1), real.expand(len(token), -1))
    seen = asked(lm, many, written, where).double().softmax(-1)
    embedded = lm.backbone.get_input_embeddings()(token)
    before = states[0].expand(len(token), -1)
    corrected = head(states[1].expand(len(token), -1), before, embedded)
    headed = lm.head(corrected).double().softmax(-1)
    return {
        "sequential": first[:, None] * seen,
        "plain": first[:, None] * second,
        "head": first[:, None] * headed,
    }


def total_variation(p: Tensor, q: Tensor) -> float:
    """Half the sum of the differences."""
    return float((p - q).abs().sum() / 2)
