"""The truth by enumeration: the exact law of what a decoder writes, on canvases small enough to
count every path.

A canvas is known by the positions that are written and the tokens on them, so probability can be
carried forward from the empty canvas to the finished texts (dynamic programming over subsets of
positions), each canvas forwarded once. The network runs in its own precision; everything after its
logits is float64 and differentiable. Where candidates are ranked the law jumps as two confidences
cross: a gradient is the slope between jumps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..models import encode_prompts
from ..sampler import Gate, Rule, RuleInput, Schedule, Threshold

LIMIT = 2**16  # canvases: several minutes of the tiny model on two cores; 2^12 take six seconds
ANNOUNCE_ABOVE = 5000  # canvases from which on the cost is said before it is paid
CHUNK = 512  # canvases in one forward pass


@dataclass(frozen=True)
class TextDistribution:
    """Texts and their exact probabilities; the probabilities sum to 1 where every text that can be
    written is listed."""

    texts: Tensor  # (M, L) int64
    prob: Tensor  # (M,) float64, differentiable


def exact_logprob(
    lm,
    prompt: str | Tensor,
    tokens: Tensor,
    rule: Rule,
    block_length: int | None = None,
    temperature: float = 1.0,
    anchor: Tensor | None = None,
    score_order: bool = True,
    limit: int = LIMIT,
    verbose: bool | None = None,
) -> Tensor:
    """Log-probability that `denoise` writes exactly this canvas: the sum over every path that leads
    to it.

    Args:
        lm: a `MaskedDiffusionLM`. prompt: a user message, or its token ids (P,) int64.
        tokens: (L,) int64, the whole canvas, tokens after the end of the text included.
        rule, block_length, temperature, anchor (here (L,) int64): as `denoise` takes them; no
        filters, eos "free".
        score_order: False detaches the probability of which positions are revealed: gradient
            through the tokens alone.
        limit: the most canvases to forward; verbose: print the cost before starting (None: if it is
            above 5000).
    Returns:
        float64 scalar, nats, differentiable; -inf for a text that cannot be written.
    Raises:
        ValueError: for a rule without a closed form here (`Factor`, `RunningConfidence`), a cost
            above the limit, or tokens that do not fit.
    """
    if tokens.ndim != 1 or tokens.dtype != torch.long or bool((tokens == lm.mask_id).any()):
        raise ValueError(
            f"tokens must be one finished text, (L,) int64 without masks, got {tokens.dtype} {tokens.tolist()}"
        )
    if (
        anchor is not None
        and anchor.shape == tokens.shape
        and bool(((anchor != lm.mask_id) & (anchor != tokens)).any())
    ):
        return torch.tensor(float("-inf"), dtype=torch.float64, device=tokens.device)
    law = text_distribution(
        lm,
        prompt,
        list(tokens[:, None]),
        rule,
        block_length,
        temperature,
        anchor,
        score_order,
        limit,
        verbose,
    )
    return law.prob[0].log()


def text_distribution(
    lm,
    prompt: str | Tensor,
    choices: list[Tensor],
    rule: Rule,
    block_length: int | None = None,
    temperature: float = 1.0,
    anchor: Tensor | None = None,
    score_order: bool = True,
    limit: int = LIMIT,
    verbose: bool | None = None,
) -> TextDistribution:
    """The exact probability of every text spelled by `choices` under the real decoder; arguments as
    `exact_logprob`.

    choices: L int64 tensors (K_i,), the tokens to follow at each position. Other tokens take part
    in the decoding (they compete for the highest confidence) but the texts with them are not
    followed. Positions that an anchor gives have its token. The cost is at most prod(K_i + 1)
    canvases. Returns prod(K_i) texts, the last position running fastest.

    How: with one canvas's candidates drawn independently, position i with token x wins the
    confidence order with probability p_i(x) times the product over the other positions j of the
    probability that j's candidate is less sure (or as sure and further right). With several tokens
    a step, the product runs over the positions not revealed, each less sure than the least sure one
    revealed; these events are nested, so that is a minimum over the revealed ones.
    """
    world = _World(lm, prompt, choices, rule, block_length, temperature, anchor)
    world.admit(limit, verbose)
    mass = {world.given: torch.ones([1] * world.length, dtype=torch.float64, device=lm.device)}
    for level in range(len(world.given), world.length):
        sets = [s for s in mass if len(s) == level]
        for canvas in world.canvases(sets):
            before = mass.pop(canvas.written)
            for revealed, tokens, chance in canvas.outcomes():
                step = before * tokens * (chance if score_order else chance.detach())
                after = canvas.written | set(revealed)
                mass[after] = mass[after] + step if after in mass else step
    texts = torch.cartesian_prod(*world.choices).view(-1, world.length)
    return TextDistribution(texts, mass[frozenset(range(world.length))].reshape(-1))


def exact_elbo(
    lm,
    prompt: str | Tensor,
    tokens: Tensor,
    block_length: int | None = None,
    temperature: float = 1.0,
    anchor: Tensor | None = None,
    limit: int = LIMIT,
    verbose: bool | None = None,
) -> Tensor:
    """The evidence lower bound of one text: the mean, over all orders, of the path's
    log-probability given its order.

    It equals the integral over t of 1/t times the expected masked cross-entropy, what masked
    diffusion models are trained on, and never exceeds the log-probability of the random-order
    decoder (Jensen). Arguments as `exact_logprob`; orders respect the blocks. Returns a float64
    scalar, nats, differentiable.
    """
    world = _World(
        lm,
        prompt,
        list(tokens[:, None]),
        Schedule(len(tokens), "random"),
        block_length,
        temperature,
        anchor,
    )
    world.admit(limit, verbose)
    visits, elbo = {world.given: 1.0}, torch.zeros((), dtype=torch.float64, device=lm.device)
    for level in range(len(world.given), world.length):
        for canvas in world.canvases([s for s in visits if len(s) == level]):
            share = visits.pop(canvas.written) / len(canvas.active)
            for c, i in enumerate(canvas.active):
                elbo = elbo + share * canvas.logq[0, c, tokens[i]]
                after = canvas.written | {i}
                visits[after] = visits.get(after, 0.0) + share
    return elbo


def expected_reward(law: TextDistribution, rewards: Tensor) -> Tensor:
    """Sum of probability times reward, (M,) each; its gradient by autograd is the exact policy
    gradient.

    A float64 scalar, exact where every text with a reward other than 0 is in the law.
    """
    if rewards.shape != law.prob.shape:
        raise ValueError(
            f"need one reward a text, {tuple(law.prob.shape)}, got {tuple(rewards.shape)}"
        )
    return (law.prob * rewards.double()).sum()


def optimal_policy(law: TextDistribution, rewards: Tensor, beta: float) -> TextDistribution:
    """The law that maximises expected reward minus beta KL(policy || law): proportional to prob *
    exp(reward / beta).

    The highest value is beta * log sum(prob * exp(reward / beta)). Raises ValueError unless beta >
    0.
    """
    if beta <= 0:
        raise ValueError(
            f"beta must be above 0, got {beta}: without a penalty all mass goes to the best texts"
        )
    return TextDistribution(law.texts, (law.prob.log() + rewards.double() / beta).softmax(0))


class _World:
    """What stays the same during one enumeration: model, prompt, decoder, and the tokens followed
    at each position."""

    def __init__(self, lm, prompt, choices, rule, block_length, temperature, anchor):
        self.lm, self.rule, self.temperature = lm, rule, temperature
        self.prompt = (
            encode_prompts(lm.tokenizer, [prompt])[0][0] if isinstance(prompt, str) else prompt
        )
        self.length, self.block_length = len(choices), block_length or len(choices)
        if not isinstance(rule, (Schedule, Gate, Threshold)):
            raise ValueError(
                f"no exact law for {type(rule).__name__}: use Schedule, Threshold or Gate"
            )
        if self.length < 1 or self.length % self.block_length:
            raise ValueError(
                f"block_length {self.block_length} must divide the canvas length {self.length}"
            )
        if anchor is not None and anchor.shape != (self.length,):
            raise ValueError(f"anchor must be of shape ({self.length},), got {tuple(anchor.shape)}")
        self.n_blocks = self.length // self.block_length
        rule.check(self.n_blocks)
        given = (
            torch.zeros(self.length, dtype=torch.bool)
            if anchor is None
            else anchor.cpu() != lm.mask_id
        )
        self.given = frozenset(given.nonzero()[:, 0].tolist())
        self.choices = [
            anchor[i : i + 1].to(lm.device) if i in self.given else c.to(lm.device)
            for i, c in enumerate(choices)
        ]

    def block(self, i: int) -> range:
        """The positions of i's block."""
        return range(i - i % self.block_length, i - i % self.block_length + self.block_length)

    @cached_property
    def cost(self) -> int:
        """The most canvases that can come up: per block, every way to have written it in part."""
        total, before = 0, 1
        for start in range(0, self.length, self.block_length):
            sizes = [len(self.choices[i]) for i in self.block(start) if i not in self.given]
            if isinstance(self.rule, Schedule) and self.rule.order == "left_to_right":
                total += before * sum(math.prod(sizes[:n]) for n in range(len(sizes)))
            else:
                total += before * (math.prod(k + 1 for k in sizes) - math.prod(sizes))
            before *= math.prod(sizes)
        return total

    def admit(self, limit: int, verbose: bool | None) -> None:
        """Refuse what costs more than the limit; say the cost of the rest on request, and where it
        is large."""
        if self.cost > limit:
            raise ValueError(
                f"enumeration needs up to {self.cost:,} canvases, the limit is {limit:,}: anchor more "
                "positions, follow fewer tokens, or raise limit="
            )
        if verbose or (verbose is None and self.cost > ANNOUNCE_ABOVE):
            print(
                f"exact: at most {self.cost:,} canvases of {len(self.prompt) + self.length} tokens, each forwarded once"
            )

    def canvases(self, sets: list[frozenset]) -> Iterator[_Canvas]:
        """A `_Canvas` for each set of written positions; all sets have one size, so one number of
        active positions."""
        active, rows, where, mask = (
            [],
            [],
            [],
            torch.tensor([self.lm.mask_id], device=self.lm.device),
        )
        for written in sets:
            first = min(set(range(self.length)) - written)
            active.append([i for i in self.block(first) if i not in written])
            rows.append(
                torch.cartesian_prod(
                    *[self.choices[i] if i in written else mask for i in range(self.length)]
                ).view(-1, self.length)
            )
            asked = torch.zeros_like(rows[-1], dtype=torch.bool)
            asked[:, active[-1]] = True
            where.append(asked)
        logits = (
            self._logits(torch.cat(rows), torch.cat(where)).split([len(r) for r in rows])
            if rows
            else []
        )
        for written, blank, part in zip(sets, active, logits, strict=True):
            yield _Canvas(self, written, blank, part)

    def _logits(self, rows: Tensor, where: Tensor) -> Tensor:
        """(C, m, V) logits at the m active positions of C canvases; in training, nothing else is
        kept for backward."""

        def forward(ids, asked):
            full = torch.cat([self.prompt.to(ids).expand(len(ids), -1), ids], 1)
            blank = torch.zeros(len(ids), len(self.prompt), dtype=torch.bool, device=ids.device)
            return self.lm(
                full, torch.ones_like(full, dtype=torch.bool), torch.cat([blank, asked], 1)
            )

        parts = [
            checkpoint(forward, r, w, use_reentrant=False, preserve_rng_state=False)
            if torch.is_grad_enabled()
            else forward(r, w)
            for r, w in zip(rows.split(CHUNK), where.split(CHUNK), strict=True)
        ]
        logits = torch.cat(parts)
        return logits.view(len(rows), -1, logits.shape[-1])


class _Canvas:
    """All canvases with one set of written positions: C of them, m active positions, V tokens.

    Probabilities are arrays with one axis a position, of the size of its choices where it is
    written and 1 where not, so that products of different positions broadcast into a table over
    texts.
    """

    def __init__(self, world: _World, written: frozenset, active: list[int], logits: Tensor):
        self.world, self.written, self.active = world, written, active
        self.shape = [len(world.choices[i]) if i in written else 1 for i in range(world.length)]
        if world.temperature == 0:
            best = logits.argmax(-1, keepdim=True)
            self.logq = torch.zeros_like(logits, dtype=torch.float64).scatter(-1, best, 1.0).log()
        else:
            self.logq = (logits.double() / world.temperature).log_softmax(
                -1
            )  # (C, m, V), what candidates are drawn from
        self.q = self.logq.exp()
        self.logits, self.staying, self.known = logits, torch.ones_like(self.q), {}
        self.confidence = (
            logits.detach().float().log_softmax(-1)
        )  # as the sampler compares it, in float32

    def outcomes(self) -> Iterator[tuple[tuple[int, ...], Tensor, Tensor]]:
        """(positions revealed, probability of their tokens, probability that just these positions
        are revealed)."""
        rule = self.world.rule
        found = self._scheduled(rule) if isinstance(rule, Schedule) else self._gated(rule)
        tokens = {i: self._pick(self.q, i) for i in self.active}
        for revealed, chance in found:
            yield revealed, math.prod(tokens[i] for i in revealed), chance

    def _scheduled(self, rule: Schedule) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        seen = self._seen(rule)
        n = int(rule.quota(seen.step_in_block[0], seen.masked_at_start[0], self.world.n_blocks))
        if rule.order == "random":
            for revealed in itertools.combinations(self.active, n):
                yield revealed, self.q.new_tensor(1 / math.comb(len(self.active), n))
        elif rule.order == "confidence":
            for revealed in itertools.combinations(self.active, n):
                yield revealed, self._others_less_sure(revealed, revealed)
        else:  # these orders do not look at the candidates: each canvas has one answer
            chosen = rule.reveal(seen)
            for pattern in chosen.unique(dim=0):
                fits = (chosen == pattern).all(1).double()
                yield tuple(pattern.nonzero()[:, 0].tolist()), fits.view(self.shape)

    def _gated(self, rule: Gate | Threshold) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        confidence = (
            self.logits.double().log_softmax(-1) if isinstance(rule, Gate) else self.confidence
        )
        passing = rule.chance(confidence).double()  # (C, m, V)
        self.staying = 1 - passing
        through = {i: self._pick(passing, i) for i in self.active}
        need = min(rule.n_min, len(self.active))
        for size in range(need, len(self.active) + 1):
            for revealed in itertools.combinations(self.active, size):
                chance = math.prod(through[i] for i in revealed) * self._others_less_sure(
                    revealed, ()
                )
                for fewer in range(
                    need if size == need else 0
                ):  # these pass, the surest of the others make up the number
                    for passed in itertools.combinations(revealed, fewer):
                        topped = tuple(i for i in revealed if i not in passed)
                        factor = math.prod(
                            [through[i] for i in passed] + [1 - through[i] for i in topped]
                        )
                        chance = chance + factor * self._others_less_sure(revealed, topped)
                yield revealed, chance

    def _others_less_sure(self, revealed, than) -> Tensor:
        """Probability that every active position not revealed stays, drawing a candidate less sure
        than those of `than`.

        A candidate stays for itself with probability `staying` (all of them, where a schedule
        counts). With nothing in `than` any candidate will do.
        """
        total = torch.ones((), dtype=torch.float64, device=self.q.device)
        for j in self.active:
            if j not in revealed:
                total = total * (
                    torch.stack(
                        torch.broadcast_tensors(*[self._less_sure(j, i) for i in than])
                    ).amin(0)
                    if len(than) > 1
                    else self._less_sure(j, than[0] if than else None)
                )
        return total

    def _less_sure(self, j: int, i: int | None) -> Tensor:
        """Probability that j stays and its candidate is less sure than i's token, by i's token;
        None: than anything.

        Equally sure candidates: the leftmost wins.
        """
        if (j, i) not in self.known:
            b = self.active.index(j)
            q = self.q[:, b] * self.staying[:, b]  # (C, V)
            if i is None:
                self.known[j, i] = q.sum(-1).view(self.shape)
            else:
                mine = self.confidence[:, self.active.index(i)][
                    :, self.world.choices[i], None
                ]  # (C, K_i, 1)
                other = self.confidence[:, b, None]  # (C, 1, V)
                below = other <= mine if j > i else other < mine
                self.known[j, i] = self._spread((below * q[:, None]).sum(-1), i)
        return self.known[j, i]

    def _pick(self, values: Tensor, i: int) -> Tensor:
        """values (C, m, V) at position i's choices."""
        return self._spread(values[:, self.active.index(i)][:, self.world.choices[i]], i)

    def _spread(self, values: Tensor, i: int) -> Tensor:
        """(C, K_i) as an array over positions."""
        return values.reshape(*self.shape, -1).movedim(-1, i).squeeze(i + 1)

    def _seen(self, rule: Schedule) -> RuleInput:
        """What the sampler's rule would be shown: confidence of candidates left out, they are not
        drawn yet."""
        block = self.world.block(self.active[0])
        start = sum(i not in self.world.given for i in block)
        step, done = 0, 0
        while done < start - len(self.active):
            done += rule.quota(step, start, self.world.n_blocks)
            step += 1
        n, p = len(self.confidence), self.confidence.exp()
        top2 = p.topk(2, -1).values

        def dense(values):
            full = torch.zeros(n, self.world.length, dtype=values.dtype, device=values.device)
            full[:, self.active] = values
            return full

        counts = torch.ones(n, dtype=torch.long, device=p.device)
        return RuleInput(
            dense(torch.ones_like(p[..., 0], dtype=torch.bool)),
            dense(p[..., 0] * 0),
            dense(torch.special.entr(p).sum(-1)),
            dense(top2[..., 0] - top2[..., 1]),
            counts * step,
            counts * start,
            self.world.n_blocks,
            None,
        )
