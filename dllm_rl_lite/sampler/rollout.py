"""The record of a rollout: finished completions, and how they came about."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from .dice import NO_DICE

# Who wrote a row: the policy; the policy, its reasoning under an anchored answer; or somebody else.
KINDS = ("free", "guided", "given")
FREE, GUIDED, GIVEN = range(3)
# Fields whose rows are the second axis.
BY_STEP = ("history", "predicted", "predicted_logprob", "dice")


@dataclass(frozen=True)
class Rollout:
    """N finished completions and how they came about. A step is one forward pass of a row, counted
    from 0."""

    prompt: Tensor  # (N, P) int64, left-padded
    prompt_mask: Tensor  # (N, P) bool, False on padding
    tokens: Tensor  # (N, L) int64
    unmask_step: Tensor  # (N, L) int64, the step that revealed the token; -1 where it was anchored
    # Of the distribution that `Decoding.confidence` names, "plain": temperature 1, unfiltered.
    logprob: Tensor  # (N, L) float32 nats, of the token when it was revealed
    entropy: Tensor  # (N, L) float32 nats, of the distribution at that moment
    n_forwards: Tensor  # (N,) int64, forward passes the row took
    mask_id: int
    eos_id: int
    # (T, N, L) int64 canvases before each step; only if the rule re-masks
    history: Tensor | None = None
    # If recorded, of each step: the canvas with every masked position, whatever its block, filled
    # in by its candidate, or by its likeliest token, and their log-probabilities (0 where not
    # masked). Finished rows keep their completion.
    predicted: Tensor | None = None  # (T, N, L) int64
    predicted_logprob: Tensor | None = None  # (T, N, L) float32 nats, as `logprob`
    # (N, L) int64: the answer that guided a row's reasoning (`guided.py`), mask_id elsewhere
    anchor: Tensor | None = None
    # (T, N) int64: whose noise was used at each step, `Dice.whose`; None: everybody's own
    dice: Tensor | None = None
    kind: Tensor | None = None  # (N,) int64: FREE, GUIDED or GIVEN; None: all rows are free

    def canvas_at(self, step: int | Tensor) -> Tensor:
        """The canvas (N, L) that the model saw at `step`, an int or one int64 per row (N,)."""
        n = self.tokens.shape[0]
        steps = torch.as_tensor(step, device=self.tokens.device).expand(n)
        rebuilt = torch.where(self.unmask_step >= steps[:, None], self.mask_id, self.tokens)
        if self.history is None:
            return rebuilt
        last = len(self.history) - 1
        seen = self.history[steps.clamp(max=last), torch.arange(n, device=steps.device)]
        return torch.where((steps < self.n_forwards)[:, None], seen, rebuilt)

    @property
    def sampled(self) -> Tensor:
        """(N, L) bool: False where the token was anchored."""
        return self.unmask_step >= 0

    @property
    def rolled(self) -> Tensor:
        """(N, L) bool: False where the step that wrote the token used no dice."""
        if self.dice is None:
            return torch.ones_like(self.unmask_step, dtype=torch.bool)
        step = self.unmask_step.clamp(0, len(self.dice) - 1)
        return self.dice.T.gather(1, step) != NO_DICE

    def of_kind(self, kind: int) -> Tensor:
        """(N,) bool: True for the rows of a kind."""
        if self.kind is None:
            return torch.full_like(self.n_forwards, FREE) == kind
        return self.kind == kind

    @property
    def guided(self) -> Tensor:
        """(N,) bool: True for the rows whose reasoning was denoised under an anchored answer."""
        return self.of_kind(GUIDED)

    @property
    def given(self) -> Tensor:
        """(N,) bool: True for the rows that were not rolled out: their text was given."""
        return self.of_kind(GIVEN)

    @property
    def until_eos(self) -> Tensor:
        """(N, L) bool: True up to and including the first end-of-sequence token, everywhere if
        there is none."""
        is_eos = (self.tokens == self.eos_id).long()
        return is_eos.cumsum(1) - is_eos == 0

    def select(self, rows: Tensor) -> Rollout:
        """The rollout of some rows: `rows` is bool (N,) or int64 indices."""
        picked = {}
        for name, value in vars(self).items():
            if name in BY_STEP and value is not None:
                picked[name] = value[:, rows]
            elif torch.is_tensor(value):
                picked[name] = value[rows]
        return replace(self, **picked)


def given_rollout(
    prompt: Tensor,
    prompt_mask: Tensor,
    tokens: Tensor,
    generator: torch.Generator,
    *,
    mask_id: int,
    eos_id: int,
    tokens_per_step: int = 1,
) -> Rollout:
    """Texts that were not rolled out, as rows beside those that were.

    Nobody knows in which order they were written, so a random one is drawn: views of denoising
    steps then score a given text on half-written canvases, as they do any other.

    Args:
        prompt: (N, P) int64, left-padded.
        prompt_mask: (N, P) bool.
        tokens: (N, L) int64, the texts, filled up with end-of-sequence tokens.
        generator: draws the orders.
        mask_id: of the model.
        eos_id: of the model.
        tokens_per_step: >= 1, tokens of a step.
    Returns:
        N rows of kind GIVEN that took no forward pass; their `logprob` and `entropy` are NaN, for
        no policy wrote them.
    """
    noise = torch.rand(tokens.shape, generator=generator, device=generator.device)
    place = noise.argsort(1).to(tokens.device)
    n = len(tokens)
    unknown = torch.full(tokens.shape, float("nan"), device=tokens.device)
    return Rollout(
        prompt=prompt,
        prompt_mask=prompt_mask,
        tokens=tokens,
        unmask_step=place // tokens_per_step,
        logprob=unknown,
        entropy=unknown,
        n_forwards=torch.zeros(n, dtype=torch.long, device=tokens.device),
        mask_id=mask_id,
        eos_id=eos_id,
        kind=torch.full((n,), GIVEN, device=tokens.device),
    )


def join_rollouts(parts: list[Rollout]) -> Rollout:
    """One rollout of all the rows of several: prompts padded on the left, finished rows standing
    still."""
    first = parts[0]
    if len(parts) == 1:
        return first
    width = max(part.prompt.shape[1] for part in parts)
    prompts = []
    masks = []
    for part in parts:
        missing = (width - part.prompt.shape[1], 0)
        prompts.append(functional.pad(part.prompt, missing, value=first.eos_id))
        masks.append(functional.pad(part.prompt_mask, missing, value=False))
    rows = {}
    for name in ("tokens", "unmask_step", "logprob", "entropy", "n_forwards", "anchor", "kind"):
        if getattr(first, name) is not None:
            rows[name] = torch.cat([getattr(part, name) for part in parts])
    if first.dice is not None:
        rows["dice"] = torch.cat([part.dice for part in parts], 1)
    return replace(
        first,
        prompt=torch.cat(prompts),
        prompt_mask=torch.cat(masks),
        **rows,
        history=_join_steps([(part.history, part.tokens) for part in parts]),
        predicted=_join_steps([(part.predicted, part.tokens) for part in parts]),
        predicted_logprob=_join_steps(
            [(part.predicted_logprob, torch.zeros_like(part.logprob)) for part in parts]
        ),
    )


def _join_steps(parts: list[tuple[Tensor | None, Tensor]]) -> Tensor | None:
    """(T, N, L) of records by step, T the longest, from the (t, n, L) of each part and the (n, L)
    that stands in it after its own last step; None if nothing was recorded."""
    if parts[0][0] is None:
        return None
    steps = max(len(record) for record, _ in parts)
    extended = []
    for record, end in parts:
        extended.append(torch.cat([record, end.expand(steps - len(record), *end.shape)]))
    return torch.cat(extended, 1)


def interleaved(first: Rollout, second: Rollout, rows: Tensor) -> Rollout:
    """One rollout of two: row i comes from `second` where rows (N,) bool is true; both keep their
    order. Where the first has no anchor or kind, there is none: the caller sets them."""
    place_of_first = (~rows).cumsum(0) - 1
    place_of_second = len(first.tokens) + rows.cumsum(0) - 1
    both = join_rollouts([first, second])
    return both.select(torch.where(rows, place_of_second, place_of_first))
