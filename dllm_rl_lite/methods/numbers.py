"""What a method is run with: the numbers of its five answers and of its optimiser."""

from dataclasses import dataclass, field, fields

from ..names import unknown
from ..sampler import ORDERS, Decoding, Gate, Rule, RunningConfidence, Schedule, Threshold

# Orders that withdraw tokens -> which confidence they keep.
REMASKING = {"rcr": "latest", "rcr-max": "max"}


@dataclass(frozen=True)
class Numbers:
    """What a method is run with. Every field can be overridden in a `TrainConfig`."""

    prompts: int  # prompts per step
    group: int  # rollouts per prompt
    inner_updates: int  # optimiser steps on one batch of rollouts (mu)
    clip: float  # epsilon of the clipped ratio
    kl: float  # beta, weight of the KL penalty towards the starting model
    lr: float  # AdamW learning rate
    weight_decay: float = 0.0
    adam_beta1: float = 0.9  # memory of AdamW's mean of gradients, in [0, 1)
    adam_beta2: float = 0.99  # memory of its mean of squares, in [0, 1)
    grad_clip: float = 1.0  # largest gradient norm
    warmup: int = 0  # optimiser steps of linear warm-up
    temperature: float = 1.0  # of the rollouts, as all up to eos: see `Decoding`
    top_k: int = 0
    top_p: float = 1.0
    top_p_crossing: str = "kept"
    confidence: str = "plain"
    tokens_per_step: int = 2  # tokens revealed in one forward pass
    block_length: int = 0
    # Unmasking order of the fixed schedule, or "rcr", "rcr-max": running-confidence remasking.
    order: str = "confidence"
    eos: str = "free"
    views: dict = field(default_factory=dict)  # keyword arguments of the view recipe
    credit: dict = field(default_factory=dict)  # keyword arguments of the advantage
    tokens: dict = field(default_factory=dict)  # keyword arguments of the advantage by token
    verify: dict = field(default_factory=dict)  # further keyword arguments of `training.verify`
    # The stochastic gate in place of the schedule: tau, kappa, n_min of `sampler.Gate`, and
    # test_tau: evaluation reveals every candidate at least that sure (`sampler.Threshold`).
    gate: dict = field(default_factory=dict)
    # Answer-guided rollouts (`guided_denoise`): rows of a group; column of the examples to anchor
    # ("": the answer); margin, end tokens after it, or "fitted": as many as put it where a
    # demonstration has it; block_length of guided rows (0: one block); answer_steps of the second
    # stage; repredict; importance, cap of the weights of guided texts (0: none).
    guide: dict = field(default_factory=dict)
    loss: dict = field(default_factory=dict)  # keyword arguments of the loss
    # Which tokens a loss of whole texts counts, and divides by: those that a view "scored", or all
    # of the "text" up to end-of-sequence.
    counted: str = "scored"
    # Do as the release did where that changed published results: `mask_seeds` and `batch_divisors`
    # of training/update.py.
    published_quirks: bool = False

    def __post_init__(self):
        for f in fields(self):
            self._check_type(f.name, f.type)
        for name in ("prompts", "group", "inner_updates", "tokens_per_step"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.group < 2:
            raise ValueError(
                f"group must be at least 2, got {self.group}: siblings are compared with each other"
            )
        if self.lr <= 0 or self.clip < 0 or self.kl < 0 or self.temperature <= 0:
            raise ValueError(
                "need lr, temperature > 0 (at 0 all siblings are equal) and clip, kl >= 0, "
                f"got {self}"
            )
        if self.order not in (*ORDERS, *REMASKING):
            raise ValueError(unknown("order", self.order, [*ORDERS, *REMASKING]))
        if self.guide and not 0 <= self.guide["rows"] <= self.group:
            raise ValueError(
                f"guide rows must be in 0..{self.group} (group), got {self.guide['rows']}"
            )
        if self.guide and self.order in REMASKING:
            raise ValueError(
                f"order {self.order!r} re-masks, which guided rollouts cannot: "
                f"choose one of {ORDERS}"
            )

    def _check_type(self, name: str, wanted: type) -> None:
        value = getattr(self, name)
        accepted = (int, float) if wanted is float else wanted
        is_flag = isinstance(value, bool)
        if not isinstance(value, accepted) or is_flag != (wanted is bool):
            raise ValueError(
                f"{name}={value!r} must be a {wanted.__name__}, not {type(value).__name__}"
            )

    def rule(self, length: int) -> Rule:
        """The unmasking rule of rollouts, for a canvas of `length` tokens."""
        if self.gate:
            gate = dict(self.gate)
            gate.pop("test_tau", None)
            return Gate(**gate)
        if length % self.tokens_per_step:
            raise ValueError(
                f"tokens_per_step {self.tokens_per_step} must divide the canvas length {length}"
            )
        steps = length // self.tokens_per_step
        if self.order in REMASKING:
            return RunningConfidence(steps, REMASKING[self.order])
        return Schedule(steps, self.order)

    def answer_rule(self) -> Rule:
        """The rule that predicts a guided row's answer again: the gate, or `answer_steps` steps of
        the schedule's order."""
        if self.gate:
            return self.rule(0)
        return Schedule(self.guide["answer_steps"], self.order)

    def test_rule(self, length: int) -> Rule:
        """The rule of evaluations: that of the rollouts, or of a gated method the deterministic
        threshold."""
        if self.gate:
            return Threshold(self.gate["test_tau"])
        return self.rule(length)

    def decoding(self, length: int, cache: str = "") -> Decoding:
        """How rollouts are written on a canvas of `length` tokens."""
        return Decoding(
            rule=self.rule(length),
            length=length,
            block_length=self.block_length,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            top_p_crossing=self.top_p_crossing,
            confidence=self.confidence,
            eos=self.eos,
            cache=cache,
        )

    def test_decoding(self, length: int) -> Decoding:
        """How evaluations are written: greedy, by `test_rule`."""
        return Decoding(
            rule=self.test_rule(length),
            length=length,
            block_length=self.block_length,
            eos=self.eos,
        )


D1 = Numbers(
    prompts=16,
    group=6,
    inner_updates=12,
    clip=0.5,
    kl=0.04,
    lr=3e-6,
    weight_decay=0.1,
    grad_clip=0.2,
    temperature=0.9,
    block_length=32,
)  # the recipe that four releases start from
TINY = Numbers(prompts=32, group=8, inner_updates=2, clip=0.5, kl=0.0, lr=2e-4, grad_clip=0.2)
