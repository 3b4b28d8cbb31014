"""How texts are written: one record for rollouts, evaluations and the cards of evaluations."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ..models.cache import CACHES
from .rules import Rule, Schedule

EOS_POLICIES = ("free", "stop", "forbid")


@dataclass(frozen=True)
class Decoding:
    """What decides the distribution of the texts that a model writes, beside its prompts."""

    rule: Rule | None = None  # which blanks a pass reveals; None: two per pass, the surest first
    length: int = 0  # tokens of the completion canvas; 0: as many as the task asks for
    block_length: int = 0  # tokens of a semi-autoregressive block; 0: one block
    temperature: float = 0.0  # of the candidates; 0: the likeliest token
    top_k: int = 0  # candidates among the k likeliest tokens; 0: all
    top_p: float = 1.0  # candidates among the likeliest tokens of this share; 1: all
    eos: str = "free"  # what an end-of-sequence token means, see `denoise`
    cache: str = ""  # "prefix" or "dual": key-value cache, faster and another distribution

    def __post_init__(self):
        if self.length < 0:
            raise ValueError(f"length must be 0 (the task's own) or more, got {self.length}")
        if self.block_length < 0:
            raise ValueError(f"block_length must be 0 (one block) or more, got {self.block_length}")
        if self.temperature < 0:
            raise ValueError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k < 0 or not 0 < self.top_p <= 1:
            raise ValueError(
                "need top_k >= 0 (0: off) and 0 < top_p <= 1 (1: off), "
                f"got {self.top_k} and {self.top_p}"
            )
        if self.eos not in EOS_POLICIES:
            raise ValueError(f"unknown eos policy {self.eos!r}: one of {EOS_POLICIES}")
        if self.cache not in CACHES:
            raise ValueError(f"unknown cache {self.cache!r}: one of {CACHES}")

    @property
    def random(self) -> bool:
        """Do two texts of one prompt differ?"""
        return self.temperature > 0 or (self.rule is not None and self.rule.random)

    def for_canvas(self, length: int) -> Decoding:
        """With `length`, and two tokens per pass, where this record leaves them open."""
        length = self.length or length
        return replace(self, length=length, rule=self.rule or Schedule(max(1, length // 2)))
