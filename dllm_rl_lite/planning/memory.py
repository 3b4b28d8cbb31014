"""How much memory a run needs, from its configuration and the model's config.json alone, before any
weight is read.

Every term is a formula with its reason beside it. `tests/planning/test_memory.py` holds the
formulas against what autograd really saves, and their sum against the measured size of whole runs.
Not counted: Python, CUDA's context and libraries, and what an allocator loses between blocks; on a
GPU leave 2 to 3 GiB for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn

from ..methods import METHODS
from ..models import MaskedDiffusionLM
from ..models.adapters import ALL, lora_targets
from ..models.checkpoints import read_config, resolve_model
from ..models.families import FAMILIES, stock_config
from ..training import TrainConfig
from .passes import scored_tokens

GIB = 2**30
# Float32 copies of the (scored tokens, vocabulary) logits that are alive at once. Sampling: logits,
# their quotient by the temperature, log-probabilities, noise, the sum. Filters sort, with an index
# of 8 bytes a token.
COPIES = {"greedy": 3, "sampled": 5, "filtered": 9}
CHUNK = (
    2**25
)  # bytes of logits at a time whose log-probabilities are taken (`estimators.token_logprobs`)
NF4 = (
    0.5 + 1 / 64 + 4 / (64 * 256)
)  # bytes a weight: 4 bits, a scale of 8 bits for 64, of 32 bits for 256 scales


@dataclass(frozen=True)
class Shape:
    """What of a model decides its memory."""

    family: str
    layers: int
    hidden: int
    vocabulary: int
    max_length: int  # prompt plus completion, tokens
    maps: dict[str, tuple[int, int]]  # linear maps of one layer: inputs, outputs
    outside: int  # parameters outside those maps: embedding, head, norms, biases
    head_norms: bool  # are queries and keys normalised (Qwen3)?

    @property
    def inside(self) -> int:
        """Parameters of the linear maps: what "4bit" packs."""
        return self.layers * sum(i * o for i, o in self.maps.values())

    @property
    def parameters(self) -> int:
        return self.inside + self.outside

    def adapters(self, targets: str, r: int) -> int:
        """Parameters of LoRA adapters of rank r; 0 for no targets."""
        names = lora_targets(self, targets) if targets else ()
        return self.layers * sum(r * sum(self.maps[name]) for name in names)


def model_shape(model: str | MaskedDiffusionLM) -> Shape:
    """The shape of a model, by the name that `load_lm` takes or as it is loaded; no weight is read.

    Raises ValueError as `resolve_model`, `read_config` and `stock_config` do.
    """
    if isinstance(model, str):
        folder = resolve_model(model)
        kind, values = read_config(folder)
        config = stock_config(kind, values, f"{folder}/config.json")
        module = FAMILIES[kind].module
    else:
        config, module = model.backbone.config, type(model.backbone)
    with torch.device("meta"):  # parameters without memory
        backbone = module(config)
    layer = backbone.model.layers[0]
    maps = {
        name.rpartition(".")[2]: (m.in_features, m.out_features)
        for name, m in layer.named_modules()
        if isinstance(m, nn.Linear)
    }
    if set(maps) != set(ALL):
        raise ValueError(
            f"{module.__name__} has the linear maps {sorted(maps)}, and memory is known for "
            f"{sorted(ALL)}"
        )
    every = sum(p.numel() for p in backbone.parameters())  # tied weights once
    inside = config.num_hidden_layers * sum(i * o for i, o in maps.values())
    return Shape(
        getattr(config, "family", config.model_type),
        config.num_hidden_layers,
        config.hidden_size,
        config.vocab_size,
        config.max_position_embeddings,
        maps,
        every - inside,
        hasattr(layer.self_attn, "q_norm"),
    )


@dataclass(frozen=True)
class Workload:
    """What an estimate is made of: a shape, a configuration, and how it is run."""

    shape: Shape
    config: TrainConfig
    prompt_tokens: int  # the longest prompt
    processes: int = 1
    scored: float = 0.0  # tokens of one row that the largest view scores

    @property
    def rows(self) -> int:
        """Rows of one update that fall to a process."""
        n = self.config.resolved()
        return -(-n.prompts * n.group // self.processes)

    @property
    def micro_batch(self) -> int:
        """Rows of one forward-backward pass."""
        return min(self.config.micro_batch or self.rows, self.rows)

    @property
    def rollout_batch(self) -> int:
        """Rows of one rollout call: whole problems, in parts as even as can be."""
        n = self.config.resolved()
        batch = self.config.rollout_batch
        parts = -(-n.prompts * n.group // batch) if batch else self.processes
        return -(-n.prompts // parts) * n.group

    @property
    def eval_batch(self) -> int:
        """Texts of one evaluation call, as `train.held_out` has them."""
        share = -(-self.config.eval_problems // self.processes)
        batch = self.config.rollout_batch or (self.rollout_batch if self.processes > 1 else 128)
        return min(batch, 128, share or 128)


@dataclass(frozen=True)
class Memory:
    """Bytes of one process, by what holds them. `str` is a table."""

    weights: int  # adapters included; of a split model its part and the gathered copy
    reference: int  # the frozen copy of the starting model, where a KL penalty needs one
    optimizer: int  # two float32 moments of every trained parameter
    # float32, of every trained parameter; from the first backward pass of an update to its end
    gradients: int
    activations: (
        int  # what autograd saves of one micro-batch under one view, and what a layer needs on top
    )
    logits: int  # the scored logits of that micro-batch, and their gradient
    scores: (
        int  # old and reference log-probabilities, taken before the first update without gradient
    )
    rollout: int  # one rollout call: a layer's activations, logits, noise
    evaluation: int  # one evaluation call, greedy
    loading: int  # of a model that is split only once it is there
    step: int  # the optimiser's own temporary copy, on a GPU
    workload: Workload = field(repr=False)

    @property
    def update(self) -> int:
        return self.gradients + self.activations + self.logits

    @property
    def phases(self) -> dict[str, int]:
        """What each phase needs beyond weights, reference and optimiser; one phase at a time."""
        return {
            "rollouts": self.rollout,
            "scores": self.scores,
            "update": self.update,
            "evaluation": self.evaluation,
            "optimiser step": self.gradients + self.step,
        }

    @property
    def running(self) -> int:
        """Weights, reference, optimiser, and the largest phase."""
        return self.weights + self.reference + self.optimizer + max(self.phases.values())

    @property
    def largest(self) -> str:
        """The phase that decides."""
        return "loading" if self.loading > self.running else max(self.phases, key=self.phases.get)

    @property
    def total(self) -> int:
        return max(self.loading, self.running)

    def __str__(self) -> str:
        w, (size, unit) = self.workload, (GIB, "GiB") if self.total >= GIB else (2**20, "MiB")
        gradients, activations, logits = (
            f"{x / size:.2f}" for x in (self.gradients, self.activations, self.logits)
        )
        lines = [
            ("weights", self.weights, ""),
            ("reference", self.reference, ""),
            ("optimizer", self.optimizer, ""),
            ("rollouts", self.rollout, f"{w.rollout_batch} rows a call"),
            ("scores", self.scores, f"{w.micro_batch} rows"),
            (
                "update",
                self.update,
                f"{w.micro_batch} rows: gradients {gradients}, activations {activations}, logits "
                f"{logits}",
            ),
            ("evaluation", self.evaluation, f"{w.eval_batch} rows a call"),
            ("loading", self.loading, ""),
        ]
        table = [
            f"{name:<11}{value / size:9.2f}  {note}".rstrip()
            for name, value, note in lines
            if value
        ]
        return "\n".join(
            [
                *table,
                f"{'largest sum':<11}{self.total / size:9.2f}  {unit} a process, in {self.largest}",
            ]
        )


def estimate_memory(
    shape: Shape, config: TrainConfig, prompt_tokens: int, processes: int = 1
) -> Memory:
    """Bytes that one process of a run needs at most.

    Args:
        shape: of the model (`model_shape`). prompt_tokens: the longest prompt, tokens. processes:
            that share the run.
    Returns:
        a `Memory`. Every row is taken to have the longest prompt and no early end, every group to
        be of use.
    Error: within a third of measured runs on a CPU (`tests/planning/test_memory.py`); not measured
    on a GPU.
    """
    workload = Workload(shape, config, prompt_tokens, processes)
    return measure(
        Workload(
            shape, config, prompt_tokens, processes, scored_tokens(config, workload.micro_batch)
        )
    )


def measure(w: Workload) -> Memory:
    """The estimate of one workload, term by term."""
    c, s, n, length = w.config, w.shape, w.config.resolved(), w.config.load_task().length
    b, part = getattr(torch, c.dtype).itemsize, w.processes if c.shard else 1
    adapters = s.adapters(c.lora_targets, c.lora_r)
    trained, frozen = (
        adapters or s.parameters,
        n.kl > 0 and not adapters,
    )  # with adapters, the reference is the base itself
    base = NF4 * s.inside + b * s.outside if c.quantize else b * s.parameters
    own, gathered = (
        (4 * s.parameters / part, b * s.parameters) if c.shard else (base, 0)
    )  # split weights are float32
    # While micro-batches add up, a split model's gradients are whole on every process; then each
    # keeps its part.
    gradients = 4 * trained * (1 + 1 / part if c.shard else 1)
    width, logits = w.prompt_tokens + length, scored_logits(w.micro_batch * w.scored, s)
    scored = n.kl > 0 or (n.inner_updates > 1 and METHODS[c.method].objective.uses_old)
    scores = no_gradient(w.micro_batch, width, logits, s, c) + (
        gathered if frozen else 0
    )  # the reference beside the policy
    drawn = (
        COPIES["filtered" if n.top_p < 1 else "sampled"] * 4 * s.vocabulary * open_tokens(n, length)
    )
    greedy = COPIES["greedy"] * 4 * s.vocabulary * (n.block_length or length)
    cached = (
        2 * b * s.layers * s.maps["k_proj"][1] * w.rollout_batch * width if c.cache else 0
    )  # keys and values
    return Memory(
        weights=round(own + gathered + 4 * adapters),
        reference=round(own) if frozen else 0,
        optimizer=round(8 * trained / part),
        gradients=round(gradients),
        logits=round(logits),
        activations=round(activation_bytes(w.micro_batch, width, logits, s, c)),
        scores=round(scores) if scored else 0,
        rollout=round(no_gradient(w.rollout_batch, width, w.rollout_batch * drawn, s, c) + cached),
        evaluation=round(no_gradient(w.eval_batch, width, w.eval_batch * greedy, s, c)),
        loading=round(4 * s.parameters * (1 + (n.kl > 0))) if c.shard else 0,
        step=0 if c.device == "cpu" else round(4 * trained / part),
        workload=w,
    )


def activation_bytes(rows: int, width: int, logits: float, s: Shape, c: TrainConfig) -> float:
    """Bytes that autograd saves of one micro-batch, and what a layer's turn in the backward pass
    adds beyond the logits.

    The logits (bytes) go before the first layer's turn, so the two are not there at once.
    """
    b, tokens, layer, turn = (
        getattr(torch, c.dtype).itemsize,
        rows * width,
        saved_bytes(s, c),
        passing_bytes(s, c),
    )
    copies = (
        2 * s.adapters(c.lora_targets, c.lora_r) if b == 2 else 0
    )  # adapters are float32, multiplied in bfloat16
    if c.gradient_checkpointing:  # every layer's input, and one layer's own when its turn comes
        kept, turn = tokens * s.layers * b * s.hidden + copies / s.layers, layer + turn
    else:
        kept = tokens * s.layers * layer + copies
    return kept + max(tokens * turn - logits, 0) + mask_bytes(rows, width, b)


def no_gradient(rows: int, width: int, logits: float, s: Shape, c: TrainConfig) -> float:
    """Bytes of a pass without gradient: one layer at a time, then the logits (bytes)."""
    return max(rows * width * passing_bytes(s, c), logits) + mask_bytes(
        rows, width, getattr(torch, c.dtype).itemsize
    )


def scored_logits(tokens: float, s: Shape) -> float:
    """Bytes of the logits of scored tokens and of their gradient (without one: of their quotient by
    a temperature)."""
    one = 4 * tokens * s.vocabulary
    return 2 * one + min(one, CHUNK)


def mask_bytes(rows: int, width: int, itemsize: int) -> int:
    """The (rows, 1, width, width) attention mask that left padding needs, and the booleans it is
    made of."""
    return rows * width * width * (itemsize + 1)


def saved_bytes(s: Shape, c: TrainConfig) -> float:
    """Bytes that autograd saves of one token in one layer."""
    b, learns = getattr(torch, c.dtype).itemsize, not c.lora_targets
    (d, q), (_, kv), (_, f) = s.maps["q_proj"], s.maps["k_proj"], s.maps["up_proj"]
    normed = 2 * d + (q + kv if s.head_norms else 0)
    total = normed * (
        4 + b * learns
    )  # float32 input of every norm; what its weight multiplies, where that learns
    total += b * (
        2 * q + 2 * kv
    )  # queries, keys, values, and attention's output, which o_proj reads
    total += b * 3 * f  # gate, its activation, up
    if learns:
        return total + b * (
            2 * d + f
        )  # what q, k and v read; what gate and up read; what down reads
    names = lora_targets(s, c.lora_targets)
    total += b * c.lora_r * len(names)  # between A and B
    if (
        b == 4 and not c.lora_dropout
    ):  # maps that read the same tensor save it once, and o_proj's is saved already
        shared = {
            "q_proj": "h",
            "k_proj": "h",
            "v_proj": "h",
            "gate_proj": "m",
            "up_proj": "m",
            "down_proj": "p",
        }
        inputs = {shared[name]: s.maps[name][0] for name in names if name in shared}
        return total + b * sum(inputs.values())
    # a copy for every adapter: bfloat16 goes by way of float32, dropout makes a new tensor and
    # keeps its float32 noise
    return total + (b + 4 * (c.lora_dropout > 0)) * sum(s.maps[name][0] for name in names)


def passing_bytes(s: Shape, c: TrainConfig) -> float:
    """Bytes of one token that a layer holds for a moment where most is alive: in the middle of its
    feed-forward part."""
    b, f = getattr(torch, c.dtype).itemsize, s.maps["up_proj"][1]
    adapted = c.lora_targets and "up_proj" in lora_targets(s, c.lora_targets)
    # the residual stream and its norm; the activated gate, up, and their product, or up's adapter
    # twice (scaled, added)
    return b * (2 * s.hidden + 2 * f + (2 * f if adapted else f))


def open_tokens(numbers, length: int) -> float:
    """Masked tokens a row that one pass of a rollout scores at most: the mean over a group, guided
    rows included."""
    plain, guide = numbers.block_length or length, numbers.guide
    if not guide:
        return plain
    guided = guide["block_length"] or length
    return (plain * (numbers.group - guide["rows"]) + guided * guide["rows"]) / numbers.group
