"""The canvases of an enumeration, and the probability of each next one.

All canvases with the same written positions are one `CanvasSet`; `Enumeration` forwards such sets,
fewest written positions first; `exact.py` carries the probability from one to the next.

How the next positions are counted: with one canvas's candidates drawn independently, position i
with token x wins the confidence order with probability p_i(x) times the product over the other
positions j of the probability that j's candidate is less sure (or as sure and further right). With
several tokens per step, the product runs over the positions not revealed, each less sure than the
least sure one revealed; these events are nested, so that is a minimum over the revealed ones.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..models import MaskedDiffusionLM, encode_prompts
from ..sampler import Gate, Rule, RuleInput, Schedule, Threshold

CHUNK = 512  # canvases in one forward pass


class Enumeration:
    """What stays the same during one enumeration: model, prompt, decoder, and the tokens followed
    at each position.

    Args: as `exact.text_distribution` takes them.
    Raises:
        ValueError: if the rule has no closed form here, or lengths do not fit.
    """

    def __init__(
        self,
        lm: MaskedDiffusionLM,
        prompt: str | Tensor,
        choices: list[Tensor],
        rule: Rule,
        block_length: int | None,
        temperature: float,
        anchor: Tensor | None,
    ):
        self.lm = lm
        self.rule = rule
        self.temperature = temperature
        if isinstance(prompt, str):
            prompt = encode_prompts(lm.tokenizer, [prompt])[0][0]
        self.prompt = prompt
        self.length = len(choices)
        self.block_length = block_length or self.length
        if not isinstance(rule, (Schedule, Gate, Threshold)):
            raise ValueError(
                f"no exact distribution for {type(rule).__name__}: use Schedule, Threshold or Gate"
            )
        if self.length < 1 or self.length % self.block_length:
            raise ValueError(
                f"block_length {self.block_length} must divide the canvas length {self.length}"
            )
        if anchor is not None and anchor.shape != (self.length,):
            raise ValueError(f"anchor must be of shape ({self.length},), got {tuple(anchor.shape)}")
        self.n_blocks = self.length // self.block_length
        rule.check(self.n_blocks)
        self.choices = [tokens.to(lm.device) for tokens in choices]
        self.given = frozenset()
        if anchor is not None:
            self.given = frozenset((anchor != lm.mask_id).nonzero()[:, 0].tolist())
            for i in self.given:
                self.choices[i] = anchor[i : i + 1].to(lm.device)

    def block(self, position: int) -> range:
        """The positions of this position's block."""
        start = position - position % self.block_length
        return range(start, start + self.block_length)

    def blank(self, written: frozenset[int]) -> list[int]:
        """The masked positions of the first block that has one."""
        first = min(set(range(self.length)) - written)
        return [i for i in self.block(first) if i not in written]

    def columns(self, written: frozenset[int]) -> list[Tensor]:
        """The tokens that each position of these canvases may hold."""
        mask = torch.tensor([self.lm.mask_id], device=self.lm.device)
        return [self.choices[i] if i in written else mask for i in range(self.length)]

    def cost(self) -> int:
        """The most canvases that can come up: per block, every way to have written it in part."""
        total = 0
        texts_before = 1  # ways to have written the blocks before
        for start in range(0, self.length, self.block_length):
            sizes = [len(self.choices[i]) for i in self.block(start) if i not in self.given]
            if isinstance(self.rule, Schedule) and self.rule.order == "left_to_right":
                partly = sum(math.prod(sizes[:n]) for n in range(len(sizes)))
            else:
                partly = math.prod(k + 1 for k in sizes) - math.prod(sizes)
            total += texts_before * partly
            texts_before *= math.prod(sizes)
        return total

    def forward(self, reached: Collection[frozenset[int]]) -> Iterator[CanvasSet]:
        """The unfinished canvases of each set of written positions in `reached`, smaller sets
        first; sets of one size have equally many blanks and are forwarded together.

        The caller adds to `reached` what follows from each answer: larger sets.
        """
        for size in range(len(self.given), self.length):
            sets = [written for written in reached if len(written) == size]
            rows = []
            where = []
            for written in sets:
                canvases = torch.cartesian_prod(*self.columns(written)).view(-1, self.length)
                asked = torch.zeros_like(canvases, dtype=torch.bool)
                asked[:, self.blank(written)] = True
                rows.append(canvases)
                where.append(asked)
            if sets:
                logits = self._logits(torch.cat(rows), torch.cat(where))
                parts = logits.split([len(canvases) for canvases in rows])
                for written, part in zip(sets, parts, strict=True):
                    yield CanvasSet(self, written, part)

    def _logits(self, rows: Tensor, where: Tensor) -> Tensor:
        """(C, m, V) logits at the m blank positions of C canvases; in training, nothing else is
        kept for backward."""
        options = {"use_reentrant": False, "preserve_rng_state": False}
        parts = [
            checkpoint(self._ask, ids, asked, **options)
            for ids, asked in zip(rows.split(CHUNK), where.split(CHUNK), strict=True)
        ]
        return torch.cat(parts).unflatten(0, (len(rows), -1))

    def _ask(self, ids: Tensor, asked: Tensor) -> Tensor:
        """The model's logits at the `asked` positions of these canvases, which follow the
        prompt."""
        prompt = self.prompt.to(ids).expand(len(ids), -1)
        full = torch.cat([prompt, ids], 1)
        where = torch.cat([torch.zeros_like(prompt, dtype=torch.bool), asked], 1)
        return self.lm(full, torch.ones_like(full, dtype=torch.bool), where)


class CanvasSet:
    """All canvases with one set of written positions: C of them, m blank positions, V tokens.

    Probabilities are arrays with one axis per position, of the size of its choices if it is
    written and 1 if not, so that products of different positions broadcast into a table over texts.
    """

    def __init__(self, world: Enumeration, written: frozenset[int], logits: Tensor):
        self.world = world
        self.written = written
        self.blank = world.blank(written)
        self.shape = [len(column) for column in world.columns(written)]
        if world.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            self.logq = torch.zeros_like(logits, dtype=torch.float64).scatter(-1, best, 1.0).log()
        else:
            self.logq = (logits.double() / world.temperature).log_softmax(-1)
        self.q = self.logq.exp()  # (C, m, V), what candidates are drawn from
        self.confidence = logits.detach().float().log_softmax(-1)  # float32, as the sampler's
        self.passing = self._passing(logits)
        self.staying = 1 - self.passing
        self._known = {}

    def _passing(self, logits: Tensor) -> Tensor:
        """(C, m, V) float64: probability that a candidate is revealed on its own account; under a
        schedule, which counts, none is."""
        rule = self.world.rule
        if isinstance(rule, Schedule):
            return torch.zeros_like(self.q)
        if isinstance(rule, Gate):  # smooth in the confidence, so there is a gradient
            return rule.chance(logits.double().log_softmax(-1))
        return rule.chance(self.confidence).double()

    def outcomes(self) -> Iterator[tuple[tuple[int, ...], Tensor, Tensor]]:
        """(positions revealed, probability of their tokens, probability that just these positions
        are revealed)."""
        rule = self.world.rule
        if not isinstance(rule, Schedule):
            outcomes = self._passed(rule.n_min)
        elif rule.order in ("random", "confidence"):
            outcomes = self._counted(rule)
        else:
            outcomes = self._settled(rule)
        tokens = {i: self._at_choices(self.q, i) for i in self.blank}
        for revealed, chance in outcomes:
            yield revealed, math.prod(tokens[i] for i in revealed), chance

    def _counted(self, rule: Schedule) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Random and confidence order: a number of positions, any of them or the surest."""
        step, masked_at_start = self._step_in_block(rule)
        n = rule.quota(step, masked_at_start, self.world.n_blocks)
        for revealed in itertools.combinations(self.blank, n):
            if rule.order == "random":
                yield revealed, self.q.new_tensor(1 / math.comb(len(self.blank), n))
            else:
                yield revealed, self._others_less_sure(revealed, revealed)

    def _settled(self, rule: Schedule) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """The other orders do not look at the candidates: each canvas has one answer, which the
        rule gives when it is shown the blank positions alone."""
        step, masked_at_start = self._step_in_block(rule)
        p = self.confidence.exp()
        first, second = p.topk(2, -1).values.unbind(-1)
        ones = torch.ones(len(p), dtype=torch.long, device=p.device)
        seen = RuleInput(
            active=torch.ones_like(first, dtype=torch.bool),
            logprob=torch.zeros_like(first),
            entropy=torch.special.entr(p).sum(-1),
            margin=first - second,
            step_in_block=ones * step,
            masked_at_start=ones * masked_at_start,
            n_blocks=self.world.n_blocks,
            generator=None,
        )
        chosen = rule.reveal(seen)  # (C, m)
        for pattern in chosen.unique(dim=0):
            fits = (chosen == pattern).all(1).double()
            yield tuple(itertools.compress(self.blank, pattern)), fits.view(self.shape)

    def _step_in_block(self, rule: Schedule) -> tuple[int, int]:
        """Forward passes that the schedule has spent on this block, and its masked positions
        before the first of them."""
        masked_at_start = len(set(self.world.block(self.blank[0])) - self.world.given)
        masked = masked_at_start
        step = 0
        while masked > len(self.blank):
            masked -= rule.quota(step, masked_at_start, self.world.n_blocks)
            step += 1
        return step, masked_at_start

    def _passed(self, n_min: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """`Threshold` and `Gate`: the positions that pass, or, if these are too few, the surest
        others as well."""
        passing = {i: self._at_choices(self.passing, i) for i in self.blank}
        need = min(n_min, len(self.blank))
        for size in range(need, len(self.blank) + 1):
            for revealed in itertools.combinations(self.blank, size):
                all_pass = math.prod(passing[i] for i in revealed)
                chance = all_pass * self._others_less_sure(revealed, [None])
                if size == need:
                    for topped_up in self._topped_up(revealed, passing):
                        chance = chance + topped_up
                yield revealed, chance

    def _topped_up(self, revealed: tuple[int, ...], passing: dict[int, Tensor]) -> Iterator[Tensor]:
        """For each part of `revealed`: the probability that only it passes, and the surest of the
        others make up the number."""
        for n_passed in range(len(revealed)):
            for passed in itertools.combinations(revealed, n_passed):
                others = [i for i in revealed if i not in passed]
                chances = [passing[i] for i in passed] + [1 - passing[i] for i in others]
                yield math.prod(chances) * self._others_less_sure(revealed, others)

    def _others_less_sure(self, revealed: Collection[int], than: Collection[int | None]) -> Tensor:
        """Probability that every blank position not revealed stays, drawing a candidate less sure
        than the tokens at all of `than`; None: any candidate."""
        total = torch.ones((), dtype=torch.float64, device=self.q.device)
        for other in self.blank:
            if other not in revealed:
                less_sure = [self._less_sure(other, i) for i in than]
                # nested events: all of them happen if the least likely one does
                total = total * torch.stack(torch.broadcast_tensors(*less_sure)).amin(0)
        return total

    def _less_sure(self, other: int, position: int | None) -> Tensor:
        """Probability that `other` stays and draws a candidate less sure than the token at
        `position`, by that token; None: any candidate.

        Of equally sure candidates the leftmost wins.
        """
        if (other, position) not in self._known:
            column = self.blank.index(other)
            stays = self.q[:, column] * self.staying[:, column]  # (C, V)
            if position is None:
                found = stays.sum(-1).view(self.shape)
            else:
                mine = self._of(position, self.confidence)[..., None]  # (C, K_i, 1)
                theirs = self.confidence[:, column, None]  # (C, 1, V)
                below = theirs <= mine if other > position else theirs < mine
                found = self._spread((below * stays[:, None]).sum(-1), position)
            self._known[other, position] = found
        return self._known[other, position]

    def _of(self, position: int, values: Tensor) -> Tensor:
        """(C, K_i) of values (C, m, V): those of this position's choices."""
        return values[:, self.blank.index(position)][:, self.world.choices[position]]

    def _at_choices(self, values: Tensor, position: int) -> Tensor:
        return self._spread(self._of(position, values), position)

    def _spread(self, values: Tensor, position: int) -> Tensor:
        """(C, K_i) as an array over positions: the choices become the axis of their position."""
        return values.reshape(*self.shape, -1).movedim(-1, position).squeeze(position + 1)
