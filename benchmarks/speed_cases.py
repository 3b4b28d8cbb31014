"""What `speed.py` measures: models of four shapes, and rollouts and updates with both sides and a
comparison of outputs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace

import restatement
import torch
from accelerate import init_empty_weights
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count
from transformers import LlamaConfig, LlamaForCausalLM

from dllm_rl_lite.estimators import View
from dllm_rl_lite.methods import METHODS, Method, Numbers
from dllm_rl_lite.models import MaskedDiffusionLM, add_adapters, load_lm, reference_policy
from dllm_rl_lite.sampler import Rollout, Schedule, denoise
from dllm_rl_lite.training import UpdateBatch, accumulate_gradients, score_views

MID = dict(
    hidden_size=384,
    intermediate_size=1024,
    num_hidden_layers=4,
    num_attention_heads=6,
    num_key_value_heads=6,
)
LLADA_8B = dict(
    hidden_size=4096,
    intermediate_size=12288,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=32,
)
# The head takes 7.5 % of a pass that scores every token, attention apart, as in LLADA_8B (6.9 %).
# In MID, whose vocabulary is as large and whose body is small, it takes 87 %.
BODY = dict(
    hidden_size=512,
    intermediate_size=1408,
    num_hidden_layers=8,
    num_attention_heads=8,
    num_key_value_heads=8,
    vocab_size=4096,
)
SHAPES = {"tiny": None, "mid": MID, "body": BODY, "8b": LLADA_8B}
VOCABULARY = 126464  # LLaDA's, where a shape names no other
UPDATES = {
    "diffu-grpo": {},
    "ag-grpo": {},
    "gdpo 1 view": {"nodes": 1},
    "gdpo 3 views": {"nodes": 3},
    "gdpo 6 views": {"nodes": 3, "n": 2},
}
# The largest differences that pass: of a log-probability in nats, and of a gradient relative to its
# norm (of a loss, as it is). In bfloat16 a logit near 20 comes in steps of 0.125, and either side
# is as far from float32 as from the other: at 8B, of 1536 log-probabilities on an H100, ours by
# 0.18 (root mean square; the largest 0.57), the restatement by 0.18 (0.59), and from each other by
# 0.15 (0.60).
TOLERANCE = {torch.float32: (1e-3, 1e-4), torch.bfloat16: (1.0, 0.3)}


def random_llama(shape: dict, device: str, dtype: torch.dtype, seed: int = 0) -> MaskedDiffusionLM:
    """A Llama with random weights, and LLaDA's vocabulary unless the shape names another, made on
    the device, so sharp that its choices are seldom close."""
    shape = {"vocab_size": VOCABULARY} | shape
    config = LlamaConfig(max_position_embeddings=4096, tie_word_embeddings=False, **shape)
    config.dtype, config.family = (
        dtype,
        "llada",
    )  # the family decides which maps the released adapters sit on
    with init_empty_weights(include_buffers=False):
        backbone = LlamaForCausalLM(config)
    g = torch.Generator(device).manual_seed(seed)
    for name, p in list(backbone.named_parameters()):
        module, _, leaf = name.rpartition(".")
        weight = torch.ones(p.shape, dtype=dtype, device=device)
        if "norm" not in name:
            scale = (
                0.04
                if "embed" in name
                else (3.0 if "lm_head" in name else 1.4) / config.hidden_size**0.5
            )
            weight.normal_(0, scale, generator=g)
        setattr(backbone.get_submodule(module), leaf, nn.Parameter(weight))
    # As far from the end of the vocabulary as LLaDA's.
    mask, end = config.vocab_size - 128, config.vocab_size - 383
    ids = SimpleNamespace(mask_token_id=mask, eos_token_id=end, pad_token_id=end)
    return MaskedDiffusionLM(backbone.to(device), ids, name="random").eval()


def build(o: argparse.Namespace) -> MaskedDiffusionLM:
    """The model that the options name; with adapters, r 128 and alpha 64, on the maps that the
    releases really adapt."""
    shape, dtype = SHAPES[o.model], getattr(torch, o.dtype)
    lm = load_lm("tiny", o.device, dtype) if shape is None else random_llama(shape, o.device, dtype)
    lm.shares_rows = False  # both sides compute every row: greedy siblings would all be equal
    return add_adapters(lm, "published", r=128, alpha=64) if o.adapters else lm


def nudge(lm: MaskedDiffusionLM, seed: int) -> None:
    """Move what is trained a little, as an update would, so that policies differ and no ratio is
    1."""
    g = torch.Generator(lm.device).manual_seed(seed)
    with torch.no_grad():
        for name, p in lm.named_parameters():
            if p.requires_grad:
                size = 0.003 if "lora_B" in name else 0.01 * float(p.std())  # those start at zero
                p.add_(
                    torch.randn(p.shape, generator=g, device=p.device, dtype=p.dtype), alpha=size
                )


def counted(f: Callable) -> tuple[object, float]:
    """What a function returns, and its floating-point operations in matrix products and
    attention."""
    # The counter knows attention on GPUs only.
    forward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward
    known = {
        forward: lambda q, k, v, *rest, **kw: sdpa_flop_count(q, k, v),
        backward: lambda grad, q, k, v, *rest, **kw: sdpa_backward_flop_count(grad, q, k, v),
    }
    with FlopCounterMode(display=False, custom_mapping=known) as counter:
        result = f()
    return result, float(counter.get_total_flops())


def within(value: float, limit: float, what: str, unit: str) -> float:
    """The value. Raises RuntimeError where it is above the limit, or no number."""
    if not value <= limit:
        raise RuntimeError(
            f"{what} differ by {value:.3g} {unit}, more than {limit:g}: "
            "the sides compute different things"
        )
    return value


@dataclass(frozen=True)
class Check:
    """What a comparison of outputs found, and the floating-point operations that both sides
    needed."""

    # the largest, in nats (rollouts) or of the gradients relative to their norm (updates)
    difference: float
    same_tokens: float  # share of tokens that are the same and came at the same step
    flops: dict[str, float]


@dataclass(frozen=True)
class Rollouts:
    """Rollouts of one group: `ours` and `theirs` return the forward passes of one row that they
    took."""

    lm: MaskedDiffusionLM
    o: argparse.Namespace
    temperature: float

    @property
    def name(self) -> str:
        return f"temperature {self.temperature:g}"

    @property
    def rule(self) -> Schedule:
        return Schedule(self.o.length // self.o.tokens_per_step)

    def denoised(self) -> Rollout:
        o, g = self.o, torch.Generator(self.lm.device).manual_seed(2)
        return denoise(
            self.lm,
            prompts(self.lm, o),
            o.length,
            self.rule,
            o.block,
            self.temperature,
            generator=g,
        )

    def generated(self, noise: Callable = restatement.uniform_noise) -> tuple[Tensor, Tensor]:
        o, (ids, _) = self.o, prompts(self.lm, self.o)
        return restatement.generate(
            self.lm, ids, o.length, self.rule.steps, o.block, self.temperature, noise
        )

    def ours(self) -> int:
        return int(self.denoised().n_forwards.sum())

    def theirs(self) -> int:
        self.generated()
        return self.rule.steps * self.o.rows

    def check(self) -> Check:
        """Same tokens and steps from the same noise in float32; same law of each token, to
        tolerance, in any precision.

        In bfloat16 one near-tie that falls differently changes all that follows, so tokens are
        counted, not demanded.
        """
        fed = our_noise(self.lm.mask_id, torch.Generator(self.lm.device).manual_seed(2))
        (rollout, a), ((tokens, steps), b) = (
            counted(self.denoised),
            counted(lambda: self.generated(fed)),
        )
        same = float(((rollout.tokens == tokens) & (rollout.unmask_step == steps)).float().mean())
        if same < 1 and self.lm.backbone.dtype == torch.float32:
            raise RuntimeError(
                f"{self.name}: {100 - 100 * same:.1f} % of the tokens differ from the restatement's"
            )
        return Check(law_difference(self.lm, rollout), same, {"ours": a, "theirs": b})


def prompts(lm: MaskedDiffusionLM, o: argparse.Namespace) -> tuple[Tensor, Tensor]:
    """One random prompt for all rows, as a group has it, and its mask."""
    one = torch.randint(
        10, 100, (1, o.prompt), generator=torch.Generator().manual_seed(1)
    )  # ids that every model has
    ids = one.expand(o.rows, -1).contiguous().to(lm.device)
    return ids, torch.ones_like(ids).bool()


def our_noise(mask_id: int, g: torch.Generator) -> Callable[[Tensor, int, int], Tensor]:
    """Noise for the restatement: ours where ours draws any, one elsewhere."""

    def noise(x: Tensor, end: int, vocabulary: int) -> Tensor:
        active = x == mask_id
        active[:, end:] = False
        drawn = torch.empty(int(active.sum()), vocabulary, device=x.device).exponential_(
            generator=g
        )
        filled = torch.ones(*x.shape, vocabulary, dtype=torch.float64, device=x.device)
        filled[active] = drawn.clamp(min=torch.finfo(drawn.dtype).tiny).double()
        return filled

    return noise


@torch.no_grad()
def law_difference(lm: MaskedDiffusionLM, rollout: Rollout) -> float:
    """Largest difference, in nats, between recorded log-probabilities and the restatement's, at
    four steps of a rollout."""
    last, worst = int(rollout.n_forwards.max()) - 1, 0.0
    for step in sorted({0, last // 3, 2 * last // 3, last}):
        now = rollout.unmask_step == step
        logits = restatement.full_logits(
            lm, torch.cat([rollout.prompt, rollout.canvas_at(step)], 1)
        )
        logp = (
            logits[:, -now.shape[1] :]
            .float()
            .log_softmax(-1)
            .gather(-1, rollout.tokens[..., None])[..., 0]
        )
        worst = max(worst, float((logp - rollout.logprob)[now].abs().max()))
    return within(
        worst, TOLERANCE[lm.backbone.dtype][0], "log-probabilities of the rollout", "nats"
    )


@dataclass(frozen=True)
class Update:
    """One update of one group: views, old and reference scores, gradient; `ours` and `theirs` as in
    `Rollouts`."""

    name: str
    lm: MaskedDiffusionLM
    reference: Callable
    method: Method
    numbers: Numbers
    rollout: Rollout
    advantage: Tensor  # (N,)
    micro_batch: int  # rows of one backward pass of ours; the releases have a whole group in one

    def scored(self) -> UpdateBatch:
        clear_gradient(self.lm)
        return score_views(
            self.lm,
            self.reference,
            self.method,
            self.numbers,
            self.rollout,
            self.advantage,
            torch.Generator(self.lm.device).manual_seed(4),
        )

    def learned(self, scored: UpdateBatch) -> dict[str, float]:
        return accumulate_gradients(
            self.lm, self.method, self.numbers, scored, Tensor.backward, self.micro_batch
        )

    def ours(self) -> int:
        scored = self.scored()
        return scored.passes.asked + int(self.learned(scored)["forwards"])

    def restated(self) -> tuple[list[View], list[Tensor] | None, list[Tensor] | None]:
        clear_gradient(self.lm)
        views = self.method.views(
            rollout=self.rollout,
            generator=torch.Generator(self.lm.device).manual_seed(4),
            **self.numbers.views,
        )
        return views, *restatement.old_and_reference(
            self.lm, self.reference, self.method, self.numbers, self.rollout, views
        )

    def relearned(
        self, views: list[View], old: list[Tensor] | None, ref: list[Tensor] | None
    ) -> float:
        return restatement.accumulate(
            self.lm, self.method, self.numbers, self.rollout, views, self.advantage, old, ref
        )

    def theirs(self) -> int:
        views, old, ref = self.restated()
        self.relearned(views, old, ref)
        return len(views) * len(self.advantage) * (1 + (old is not None) + (ref is not None))

    def check(self) -> Check:
        """Same old and reference scores; after the weights have moved, same loss and gradient, to
        tolerance."""
        nats, share = TOLERANCE[self.lm.backbone.dtype]
        (scored, a1), ((views, old, ref), b1) = counted(self.scored), counted(self.restated)
        shown = [v.scored for v in views]
        weight = 1.0
        if self.method.objective.level != "view":  # one estimate from all views, each with a weight
            shown = [torch.ones_like(views[0].scored)]
            weight = float(torch.stack([v.weight for v in views]).sum(0).max())
        for mine, other in ((scored.old, old), (scored.ref, ref)):
            for x, y, where in zip(mine, other or (), shown, strict=False):
                within(
                    float((x - y)[where].abs().max()) / weight,
                    nats,
                    f"{self.name}: scores before the update",
                    "nats",
                )
        nudge(self.lm, seed=5)
        stats, a2 = counted(lambda: self.learned(scored))
        mine = taken_gradient(self.lm)
        loss, b2 = counted(lambda: self.relearned(views, old, ref))
        other = taken_gradient(self.lm)
        within(abs(stats["loss"] - loss), share, f"{self.name}: losses", "")
        apart = sum(float((mine[k] - other[k]).square().sum()) for k in other)
        size = sum(float(v.square().sum()) for v in other.values())
        return Check(
            within((apart / size) ** 0.5, share, f"{self.name}: gradients", "of their norm"),
            1.0,
            {"ours": a1 + a2, "theirs": b1 + b2},
        )


def clear_gradient(lm: MaskedDiffusionLM) -> None:
    """Zero, in memory that is there already, as between the micro-batches of a larger update."""
    for p in lm.parameters():
        if p.requires_grad and p.grad is None:
            p.grad = torch.zeros_like(p)
    lm.zero_grad(set_to_none=False)


def taken_gradient(lm: MaskedDiffusionLM) -> dict[str, Tensor]:
    """The gradient by parameter name, which the parameters then no longer have."""
    gradient = {name: p.grad for name, p in lm.named_parameters() if p.grad is not None}
    lm.zero_grad(set_to_none=True)
    clear_gradient(lm)
    return gradient


def update_case(
    lm: MaskedDiffusionLM, reference: Callable, o: argparse.Namespace, name: str
) -> Update:
    """An update on texts that the model wrote and none of which ends early; credit as of one right
    text in three."""
    method = METHODS[name.split()[0]]
    numbers = method.numbers("paper", group=o.rows, views=UPDATES[name], counted="scored")
    g = torch.Generator(lm.device).manual_seed(3)
    rollout = denoise(
        lm,
        prompts(lm, o),
        o.length,
        Schedule(4, "random"),
        temperature=1.0,
        eos="forbid",
        generator=g,
    )
    if (
        numbers.guide
    ):  # which rows are guided, and by what, makes no difference to what an update computes
        last = torch.arange(o.length, device=lm.device) >= o.length - 4
        guided = torch.arange(o.rows, device=lm.device)[:, None] >= o.rows - numbers.guide["rows"]
        rollout = replace(rollout, anchor=torch.where(guided & last, rollout.tokens, lm.mask_id))
    advantage = torch.where(torch.arange(o.rows, device=lm.device) % 3 == 0, 2 / 3, -1 / 3)
    return Update(name, lm, reference, method, numbers, rollout, advantage, o.micro_batch)


def cases(lm: MaskedDiffusionLM, o: argparse.Namespace) -> list[Rollouts | Update]:
    """All that the options ask for."""
    if o.what == "rollouts":
        return [Rollouts(lm, o, t) for t in o.temperatures]
    reference = reference_policy(lm)
    nudge(lm, seed=6)  # a policy that has left its reference behind
    clear_gradient(lm)
    return [update_case(lm, reference, o, name) for name in o.updates]
