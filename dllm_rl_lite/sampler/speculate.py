"""Fewer calls, the same texts: the next tokens are drafted, and the model accepts or rejects them.

The plain decoder writes one token per pass. Here one call computes several canvases: the present
one, and those that it turns into if the drafts of the next tokens are right. On each of them the
plain decoder's next token is drawn, in a way that agrees with the draft as often as possible. As
long as they agree, the next canvas is the right one as well. The first token that differs replaces
its draft, and what was drafted after it is thrown away. So a call writes at least one token, and
the texts have the plain decoder's distribution, whatever the drafts are.

What it costs is rows: a call of four canvases computes four rows, also for drafts that are then
rejected. Where a call of four rows takes as long as a call of one, calls are what counts.

Measured on the shipped model: benchmarks/drafts.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..models import MaskedDiffusionLM
from .blank import blank_rollout
from .candidates import candidates_of, draw
from .decoding import Decoding
from .ranges import check_whole
from .rollout import Rollout
from .rules import Schedule

DRAFTS = ("pass", "last")
FIXED_ORDERS = ("left_to_right", "right_to_left", "random")  # these do not depend on the candidates


@dataclass(frozen=True)
class DraftedRollout:
    """Texts that were written with drafts, and what they cost. A round is one call that verifies
    drafts, together with the pass that made them."""

    # What `denoise` with one token per pass records: a step is a token, not a call, and
    # `n_forwards` counts the passes of the plain decoder.
    rollout: Rollout
    written: Tensor  # (N, L) int64, the round that wrote the token; -1 where it was given
    drafts: Tensor  # (R, N, L) int64, the tokens drafted in each round; `mask_id` where none
    calls: Tensor  # (N,) int64, calls of the model in which the row took part
    rows: Tensor  # (N,) int64, canvases of the row that these calls computed
    draft_calls: Tensor  # (N,) int64, calls of another drafting model, of one canvas each

    @property
    def accepted(self) -> Tensor:
        """(R, N, L) bool: the drafts that stand in the text because the model agreed with them."""
        step = self.rollout.unmask_step
        number = torch.arange(len(self.drafts), device=step.device)
        now = self.written == number[:, None, None]  # (R, N, L)
        last = torch.where(now, step, -1).amax(2, keepdim=True)  # the round's last is no draft
        return now & (self.drafts == self.rollout.tokens) & (step < last)


@dataclass
class _Drafts:
    """The tokens that N rows expect next, at most D of each, in order."""

    place: Tensor  # (N, D) int64 positions
    token: Tensor  # (N, D) int64
    count: Tensor  # (N,) int64, how many of the D are drafts
    chance: Tensor | None  # (N, D, V) float64, what they were drawn from; None: the likeliest token

    def select(self, row: Tensor) -> _Drafts:
        chance = None if self.chance is None else self.chance[row]
        return _Drafts(self.place[row], self.token[row], self.count[row], chance)

    def put(self, row: Tensor, new: _Drafts) -> None:
        self.place[row] = new.place
        self.token[row] = new.token
        self.count[row] = new.count
        if new.chance is not None:
            if self.chance is None:
                self.chance = new.chance.new_zeros(len(self.count), *new.chance.shape[1:])
            self.chance[row] = new.chance


@dataclass(frozen=True)
class _Decoder:
    """The plain decoder, one token per pass."""

    rule: Schedule
    mask_id: int
    temperature: float
    generator: torch.Generator | None
    place: Tensor | None  # (N, L) float32: the highest is written first; None: look at the logits

    def order(self, logits: Tensor, canvas: Tensor, row: Tensor) -> Tensor:
        """(m, L) int64: the positions of canvases (m, L) of the rows (m,), in the order in which
        the decoder would write them if its (m, L, V) logits stayed as they are; blanks first."""
        blank = canvas == self.mask_id
        if self.place is not None:
            key = self.place[row]
        else:
            found = candidates_of(logits[blank], Decoding(), None).spread(blank)
            key = self.rule.sort_key(found.logprob, found.entropy, found.margin)
        key = key.masked_fill(~blank, float("-inf"))
        return key.argsort(dim=1, descending=True, stable=True)

    def chance(self, logits: Tensor) -> Tensor:
        """(m, V) float64, what a token is drawn from that has these (m, V) logits."""
        return (logits.double() / self.temperature).softmax(-1)

    def draft(self, logits: Tensor, canvas: Tensor, row: Tensor, most: int) -> _Drafts:
        """At most `most` tokens that (m, L, V) logits of canvases (m, L) expect next. The last
        blank of a canvas gets none: the canvas before it decides."""
        count = ((canvas == self.mask_id).sum(1) - 1).clamp(min=0, max=most)
        place = self.order(logits, canvas, row)[:, :most]
        picked = logits[torch.arange(len(row), device=row.device)[:, None], place]  # (m, most, V)
        token = picked.max(-1).indices
        if self.temperature == 0:
            return _Drafts(place, token, count, None)
        real = torch.arange(most, device=row.device) < count[:, None]
        chance = self.chance(picked)
        token[real] = draw(chance[real].log(), self.generator)
        return _Drafts(place, token, count, chance)

    def choose(
        self, logits: Tensor, drafted: Tensor, token: Tensor, chance: Tensor | None
    ) -> Tensor:
        """(m,) int64: from each of (m, V) logits a token, drawn exactly; where (m,) `drafted`, it
        agrees as often as possible with the drafts `token` (d,), drawn from `chance` (d, V)."""
        if self.temperature == 0:
            return logits.max(-1).indices
        wanted = self.chance(logits)
        if chance is not None:
            wanted[drafted] = agreeing(wanted[drafted], chance, token)
        return draw(wanted.log(), self.generator)


def agreeing(wanted: Tensor, drafted: Tensor, draft: Tensor) -> Tensor:
    """The distribution of the final token, given the draft, for which draft and final token agree
    as often as they can.

    The draft stays with probability min(1, wanted / drafted). Otherwise the token is drawn from
    what `wanted` has more of than `drafted`, max(wanted - drafted, 0), normalised.

    Args:
        wanted: (m, V) float64, the distribution that the token is to have.
        drafted: (m, V) float64, the distribution that the draft was drawn from.
        draft: (m,) int64.
    Returns:
        (m, V) float64. Averaged over drafts from `drafted`, it is `wanted`.
    Source: speculative sampling (arXiv 2211.17192); for any order of the tokens ASSD (arXiv
        2504.20456).
    """
    at = draft[:, None]
    stays = (wanted.gather(1, at) / drafted.gather(1, at)).clamp(max=1)
    more = (wanted - drafted).clamp(min=0)
    more = more / more.sum(1, keepdim=True).clamp(min=torch.finfo(more.dtype).tiny)
    return ((1 - stays) * more).scatter_add(1, at, stays)


@torch.no_grad()
def denoise_with_drafts(
    lm: MaskedDiffusionLM,
    prompts: list[str] | tuple[Tensor, Tensor],
    length: int,
    draft: str | Callable = "last",
    ahead: int = 4,
    *,
    order: str = "confidence",
    temperature: float = 0.0,
    anchor: Tensor | None = None,
    generator: torch.Generator | None = None,
    at_once: int = 0,
) -> DraftedRollout:
    """The texts of `denoise(lm, prompts, length, Schedule(length, order))` in fewer calls.

    Rows are independent: each accepts as many drafts as agree, and leaves when it is finished.
    There are no blocks, and an end-of-sequence token is like any other.

    Args:
        prompts: as for `denoise`.
        length: L >= 1, tokens of the completion canvas.
        draft: where drafts come from. "pass": a pass of the model on the present canvas, whose own
            first token needs no check (ASSD; two calls a round). "last": the last canvas that was
            verified, which cost nothing more (after Token Recycling; one call a round). Or another
            model, called like `lm`, that is asked about the present canvas: a cheaper one, such as
            `models.ShallowLM(lm, layers)` (after FractalLLM).
        ahead: the most canvases of a row in a round, so the most tokens that it writes; 1: the
            plain decoder.
        order: of `ORDERS`. Above temperature 0 one of `FIXED_ORDERS`: there the choice of the
            position must not depend on what was drawn.
        temperature: of the tokens; 0 takes the likeliest.
        anchor: as for `denoise`.
        generator: all chance comes from it.
        at_once: the most rows in a call; a row that is finished makes room for the next (EXSPEC's
            pool). 0: all.
    Returns:
        the texts and what they cost. At temperature 0 they are `denoise`'s token for token; above,
        they have its distribution.
    Memory: ahead * L * V logits of each row in a call, float32.
    Error (bias): none but rounding. A call of other rows may round differently, so two logits that
        are equal to the last bits may change places.
    """
    check_whole("length", length, 1)
    check_whole("ahead", ahead, 1)
    check_whole("at_once", at_once, 0)
    if draft not in DRAFTS and not callable(draft):
        raise ValueError(f"draft must be one of {DRAFTS} or a model, got {draft!r}")
    rule = Schedule(length, order)
    decoding = Decoding(rule=rule, length=length, temperature=temperature)
    if temperature > 0 and order not in FIXED_ORDERS:
        raise ValueError(
            f"order {order!r} looks at the candidates, so above temperature 0 it has no drafts: "
            f"choose one of {FIXED_ORDERS}, or temperature 0"
        )
    out = blank_rollout(lm, prompts, decoding, torch.tensor(length), anchor, generator)
    place = None
    if order == "random":
        place = torch.rand(out.tokens.shape, generator=generator, device=generator.device)
        place = place.to(lm.device)
    elif order in FIXED_ORDERS:
        same = torch.zeros_like(out.logprob)
        place = rule.sort_key(same, same, same)
    decoder = _Decoder(rule, lm.mask_id, temperature, generator, place)
    rounds = _Rounds(lm, draft, min(ahead, length), decoder, out)
    return rounds.run(at_once or len(out.tokens))


class _Rounds:
    """The loop: the texts so far, what they cost, and the drafts that the last round left."""

    def __init__(
        self,
        lm: MaskedDiffusionLM,
        draft: str | Callable,
        ahead: int,
        decoder: _Decoder,
        out: Rollout,
    ):
        self.lm = lm
        self.draft = draft
        self.ahead = ahead
        self.decoder = decoder
        free = out.tokens == lm.mask_id
        self.out = replace(out, n_forwards=free.sum(1))
        self.written = out.unmask_step.clone()
        self.noted: list[Tensor] = []  # (N, L) drafts of each round
        none = torch.zeros_like(out.n_forwards)
        self.step = none.clone()  # (N,) tokens written so far
        self.calls = none.clone()
        self.rows = none.clone()
        self.draft_calls = none.clone()
        nothing = none[:, None].expand(-1, ahead - 1)
        self.left = _Drafts(nothing.clone(), nothing.clone(), none.clone(), None)

    def run(self, at_once: int) -> DraftedRollout:
        while True:
            unfinished = (self.out.tokens == self.lm.mask_id).any(1)
            if not unfinished.any():
                break
            self.round(unfinished.nonzero()[:at_once, 0])
        return DraftedRollout(
            rollout=self.out,
            written=self.written,
            drafts=torch.stack(self.noted) if self.noted else self.out.tokens[None][:0],
            calls=self.calls,
            rows=self.rows,
            draft_calls=self.draft_calls,
        )

    def round(self, row: Tensor) -> None:
        """Draft, verify and write, for the rows (n,)."""
        canvas = self.out.tokens[row]
        drafts, known = self.drafted(row, canvas)
        number = torch.arange(self.ahead, device=row.device)
        real = number[:-1] < drafts.count[:, None]  # (n, D)
        used = number <= drafts.count[:, None]  # (n, D + 1)
        tries = self.filled(canvas, drafts)[used]  # (U, L)
        text, nth = used.nonzero(as_tuple=True)  # (U,) which of the rows, with how many drafts
        logits = self.verified(row[text], tries, nth, known)
        place = self.decoder.order(logits, tries, row[text])[:, 0]
        picked = logits[torch.arange(len(text), device=row.device), place]
        checks = nth < drafts.count[text]  # (U,) is there a draft of what this canvas decides?
        chance = None if drafts.chance is None else drafts.chance[real]
        token = self.decoder.choose(picked, checks, drafts.token[real], chance)
        agrees = (place[checks] == drafts.place[real]) & (token[checks] == drafts.token[real])
        agrees = torch.zeros_like(real).masked_scatter(real, agrees)
        count = 1 + agrees.long().cumprod(1).sum(1)  # (n,) tokens to write
        stays = nth < count[text]
        self.note(row, drafts, real)
        self.write(row[text[stays]], place[stays], token[stays], nth[stays], picked[stays])
        self.step[row] += count
        if self.draft == "last":
            deciding = logits[nth == count[text] - 1]
            fresh = self.decoder.draft(deciding, self.out.tokens[row], row, self.ahead - 1)
            self.left.put(row, fresh)

    def drafted(self, row: Tensor, canvas: Tensor) -> tuple[_Drafts, Tensor | None]:
        """The drafts; and the (n, L, V) logits of the canvases, if the model itself was asked."""
        if self.draft == "last":
            return self.left.select(row), None
        if self.draft == "pass":
            logits = self.ask(self.lm, row, canvas)
            self.calls[row] += 1
            self.rows[row] += 1
            return self.decoder.draft(logits, canvas, row, self.ahead - 1), logits
        logits = self.ask(self.draft, row, canvas)
        self.draft_calls[row] += 1
        return self.decoder.draft(logits, canvas, row, self.ahead - 1), None

    def filled(self, canvas: Tensor, drafts: _Drafts) -> Tensor:
        """(n, D + 1, L): the canvas with none of its drafts, with the first, with two, ..."""
        tries = [canvas]
        for i in range(self.ahead - 1):
            at = drafts.place[:, i, None]
            tries.append(tries[-1].scatter(1, at, drafts.token[:, i, None]))
        return torch.stack(tries, 1)

    def verified(self, row: Tensor, tries: Tensor, nth: Tensor, known: Tensor | None) -> Tensor:
        """(U, L, V) logits of the canvases, from one call; those without drafts may be known."""
        if known is None:
            asked = torch.ones_like(nth).bool()
        else:
            asked = nth > 0
        if not asked.any():
            return known
        self.calls[row[asked].unique()] += 1
        self.rows.index_add_(0, row[asked], torch.ones_like(row[asked]))
        logits = self.ask(self.lm, row[asked], tries[asked])
        if known is None:
            return logits
        merged = logits.new_empty(len(nth), *logits.shape[1:])
        merged[asked] = logits
        merged[~asked] = known
        return merged

    def ask(self, model: Callable, row: Tensor, canvas: Tensor) -> Tensor:
        """(m, L, V) logits of canvases (m, L) of the rows (m,); zeros where no blank is."""
        blank = canvas == self.lm.mask_id
        real = self.out.prompt_mask[row]
        asked = model(
            torch.cat([self.out.prompt[row], canvas], 1),
            torch.cat([real, torch.ones_like(blank)], 1),
            torch.cat([torch.zeros_like(real), blank], 1),
        )
        logits = asked.new_zeros(*canvas.shape, asked.shape[-1])
        logits[blank] = asked
        return logits

    def note(self, row: Tensor, drafts: _Drafts, real: Tensor) -> None:
        """Keep the drafts of this round for the record."""
        noted = torch.full_like(self.out.tokens, self.lm.mask_id)
        text = real.nonzero()[:, 0]
        noted[row[text], drafts.place[real]] = drafts.token[real]
        self.noted.append(noted)

    def write(self, row: Tensor, place: Tensor, token: Tensor, nth: Tensor, logits: Tensor) -> None:
        """Write m tokens, each the `nth` of its row in this round, drawn with (m, V) `logits`."""
        out = self.out
        logp = logits.log_softmax(-1)
        least = torch.finfo(logp.dtype).min  # 0 * -inf is no number
        out.tokens[row, place] = token
        out.unmask_step[row, place] = self.step[row] + nth
        out.logprob[row, place] = logp.gather(1, token[:, None])[:, 0]
        out.entropy[row, place] = -(logp.exp() * logp.clamp(min=least)).sum(1)
        self.written[row, place] = len(self.noted) - 1
