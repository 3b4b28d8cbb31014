"""What a method is run with: the numbers of its five answers and of its optimiser."""

from dataclasses import dataclass

from ..sampler import ORDERS, Decoding, Gate, Rule, RunningConfidence, Schedule, Threshold
from ..sampler.decoding import CONFIDENCES, CROSSINGS, EOS_POLICIES
from ..values import check_options, check_values, option

# Orders that withdraw tokens -> which confidence they keep.
REMASKING = {"rcr": "latest", "rcr-max": "max"}


@dataclass(frozen=True)
class GateNumbers(Gate):
    """What `Numbers.gate` may hold: the stochastic gate in place of the schedule."""

    test_tau: float = option(
        0.8, "evaluation reveals every candidate at least that sure", least=0, most=1
    )


@dataclass(frozen=True)
class Guide:
    """What `Numbers.guide` may hold: answer-guided rollouts, `guided_denoise`."""

    rows: int = option(3, "guided rows of a group", least=0)
    column: str = option("", "of the examples, to anchor; empty: the answer")
    margin: int | str = option(
        2,
        "end tokens after it; fitted: as many as put it where a demonstration has it",
        least=0,
        choices=("fitted",),
    )
    block_length: int = option(0, "of guided rows; 0: one block", least=0)
    answer_steps: int = option(16, "of the second stage", least=1)
    order: str = option(
        "", "of guided rows in the first stage; empty: as free rows", choices=("", *ORDERS)
    )
    tokens_per_step: int = option(0, "of guided rows in the first stage; 0: as free rows", least=0)
    drafts: int = option(
        1, "drafts of a guided row; the one is kept whose answer is surest", least=1
    )
    repredict: bool = option(True, "False keeps the anchor as the answer")
    importance: float = option(0.0, "cap of the weights of guided texts; 0: none", least=0)


@dataclass(frozen=True)
class Verify:
    """What `Numbers.verify` may hold: how texts are rewarded."""

    fill: bool = option(False, "put the likeliest tokens where masks are left")
    rubric: bool = option(False, "by the task's rubric, in place of the reward function")


@dataclass(frozen=True)
class Numbers:
    """What a method is run with. Every field can be overridden in a `TrainConfig`."""

    prompts: int = option(help="prompts per step", least=1)
    group: int = option(help="rollouts per prompt, compared with each other", least=1)
    inner_updates: int = option(help="optimiser steps on one batch of rollouts (mu)", least=1)
    clip: float = option(help="epsilon of the clipped ratio", least=0)
    kl: float = option(
        help="beta, weight of the KL penalty towards the starting model", least=0, most=100
    )
    lr: float = option(help="AdamW moves a weight by about this much a step", above=0, most=1)
    weight_decay: float = option(
        0.0, "AdamW takes lr times this share of a weight", least=0, most=1
    )
    adam_beta1: float = option(0.9, "memory of AdamW's mean of gradients", least=0, most=0.9999)
    adam_beta2: float = option(0.99, "memory of its mean of squares", least=0, most=0.9999)
    grad_clip: float = option(1.0, "largest gradient norm", above=0)
    rounds: int = option(
        1, "how often problems are drawn, at most, until `prompts` groups are kept", least=1
    )
    warmup: int = option(0, "optimiser steps of linear warm-up", least=0)
    temperature: float = option(
        1.0,
        "of rollouts, as all up to eos: see `Decoding`; at 0 all siblings are equal",
        above=0,
        most=100,
    )
    top_k: int = option(0, "candidates among the k likeliest tokens; 0: all", least=0)
    top_p: float = option(1.0, "candidates among the likeliest of this share", above=0, most=1)
    top_p_crossing: str = option(
        "kept", "whether the token that crosses top_p is a candidate: `Decoding`", choices=CROSSINGS
    )
    confidence: str = option(
        "plain", "of the plain or the sampled distribution: `Decoding`", choices=CONFIDENCES
    )
    tokens_per_step: int = option(2, "tokens revealed in one forward pass", least=1)
    block_length: int = option(0, "tokens of a block; 0: one block", least=0)
    order: str = option(
        "confidence",
        "unmasking order of the fixed schedule; rcr, rcr-max: running-confidence remasking",
        choices=(*ORDERS, *REMASKING),
    )
    eos: str = option("free", "what an end-of-sequence token means", choices=EOS_POLICIES)
    # Of the method's parts; a preset says only what differs from the part's own numbers.
    problems: dict = option({}, "numbers of the choice of problems")
    remember: dict = option({}, "numbers of the memory")
    start: dict = option({}, "numbers of the canvas that rollouts start from")
    given: dict = option({}, "numbers of the given texts")
    dice: dict = option({}, "numbers of the table of dice")
    refine: dict = option({}, "numbers of the choice of rows that are written again")
    views: dict = option({}, "numbers of the view recipe")
    shape: dict = option({}, "numbers of the reward shaping")
    credit: dict = option({}, "numbers of the advantage")
    tokens: dict = option({}, "numbers of the advantage by token")
    groups: dict = option({}, "numbers of the filter of groups")
    rows: dict = option({}, "numbers of the filter of rows")
    loss: dict = option({}, "numbers of the loss")
    verify: dict = option({}, "of `Verify`")
    gate: dict = option({}, "of `GateNumbers`; empty: the schedule")
    guide: dict = option({}, "of `Guide`; empty: no guided rows")
    counted: str = option(
        "scored",
        "tokens that a loss of whole texts counts, and divides by: those that a view scored, or "
        "all of the text up to end-of-sequence",
        choices=("scored", "text"),
    )
    published_quirks: bool = option(
        False,
        "do as the release did where that changed published results: `mask_seeds` and "
        "`batch_divisors` of training/scoring.py",
    )

    def __post_init__(self):
        check_options(self)
        check_values(GateNumbers, self.gate, "gate.")
        check_values(Guide, self.guide, "guide.")
        check_values(Verify, self.verify, "verify.")
        if self.gate:
            self.rule(0)
        if self.guide and self.guide["rows"] > self.group:
            raise ValueError(
                f"guide.rows must be at most {self.group} (group), got {self.guide['rows']}"
            )
        if self.guide and self.order in REMASKING:
            raise ValueError(
                f"order {self.order!r} re-masks, which guided rollouts cannot: "
                f"choose one of {ORDERS}"
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

    def guided_rule(self, length: int) -> Rule | None:
        """The rule of guided rows in stage 1 on a canvas of `length` tokens; None: as free rows."""
        if not self.guide["order"] and not self.guide["tokens_per_step"]:
            return None
        tokens = self.guide["tokens_per_step"] or self.tokens_per_step
        return Schedule(-(-length // tokens), self.guide["order"] or self.order)

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
