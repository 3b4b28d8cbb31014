"""How texts are written: one record for rollouts, evaluations and the cards of evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..models.cache import CACHES
from .ranges import check_number, check_whole
from .rules import Rule, Schedule

EOS_POLICIES = ("free", "stop", "block", "forbid")
CONFIDENCES = ("plain", "sampled")
CROSSINGS = ("kept", "dropped")
LOWEST_TEMPERATURE = 0.001  # logits divided by less may overflow
HIGHEST_TEMPERATURE = 100.0  # by then all tokens of any vocabulary are as good as equally likely


@dataclass(frozen=True)
class Decoding:
    """What decides the distribution of the texts that a model writes, beside its prompts."""

    rule: Rule | None = None  # which blanks a pass reveals; None: two per pass, the surest first
    length: int = 0  # tokens of the completion canvas; 0: as many as the task asks for
    block_length: int = 0  # tokens of a semi-autoregressive block; 0: one block
    temperature: float = 0.0  # of the candidates; 0: the likeliest token
    top_k: int = 0  # candidates among the k likeliest tokens; 0: all
    top_p: float = 1.0  # candidates among the likeliest tokens of this share; 1: all
    # The token whose share crosses top_p: "kept", so that at least top_p remains, or "dropped", as
    # AGRPO's release does; the likeliest token always stays.
    top_p_crossing: str = "kept"
    # Confidence, entropy and margin are those of the "plain" distribution (temperature 1,
    # unfiltered; LLaDA, d1), or of the "sampled" one, which candidates are drawn from (MDPO,
    # DiffuCoder). At temperature 0 both are the plain one.
    confidence: str = "plain"
    eos: str = "free"  # what an end-of-sequence token means, see `denoise`
    cache: str = ""  # "prefix" or "dual": key-value cache, faster and another distribution

    def __post_init__(self):
        check_whole("length", self.length, 0)
        check_whole("block_length", self.block_length, 0)
        check_whole("top_k", self.top_k, 0)
        check_number("temperature", self.temperature, 0, HIGHEST_TEMPERATURE)
        if 0 < self.temperature < LOWEST_TEMPERATURE:
            raise ValueError(
                f"temperature must be 0 (the likeliest token) or at least {LOWEST_TEMPERATURE}, "
                f"got {self.temperature}"
            )
        check_number("top_p", self.top_p, 0, 1)
        if self.top_p == 0:
            raise ValueError("top_p must be above 0: no token has a share of 0 (1: all tokens)")
        for name, value, known in (
            ("top_p_crossing", self.top_p_crossing, CROSSINGS),
            ("confidence", self.confidence, CONFIDENCES),
            ("eos policy", self.eos, EOS_POLICIES),
            ("cache", self.cache, CACHES),
        ):
            if value not in known:
                raise ValueError(f"unknown {name} {value!r}: one of {known}")
        if self.rule is None:
            return
        if not isinstance(self.rule, Rule):
            raise ValueError(f"rule must be a Rule, such as Schedule(steps), got {self.rule!r}")
        steps = getattr(self.rule, "steps", 0)
        if self.length and steps > self.length:
            raise ValueError(
                f"steps must be at most {self.length}, the tokens of the canvas (a pass reveals at "
                f"least one), got {steps}"
            )
        if self.cache and self.rule.remasks:
            raise ValueError(
                f"cache {self.cache!r} keeps what was computed of earlier tokens, and {self.rule} "
                "withdraws them: set cache to '', or choose an order that re-masks nothing"
            )

    @property
    def random(self) -> bool:
        """Do two texts of one prompt differ?"""
        return self.temperature > 0 or (self.rule is not None and self.rule.random)

    def for_canvas(self, length: int) -> Decoding:
        """With `length`, and two tokens per pass, where this record leaves them open."""
        length = self.length or length
        return replace(self, length=length, rule=self.rule or Schedule(max(1, length // 2)))
