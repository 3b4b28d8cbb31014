"""What the tests of updates and of methods share: a batch of rollouts, its credit, a gradient by
parameter name, and a step of a run."""

import math
import weakref
from dataclasses import replace

import torch

from dllm_rl_lite.estimators import all_steps, last_scored_step, reweighted
from dllm_rl_lite.methods import BUDGETS, METHODS, PROBLEMS, STAGES
from dllm_rl_lite.models import decode
from dllm_rl_lite.planning.dry_run import take_step
from dllm_rl_lite.tasks import Example
from dllm_rl_lite.train import train
from dllm_rl_lite.training import (
    accumulate_gradients,
    collect_step,
    prepare,
    score_views,
    update_policy,
)

PROMPTS = [p for p in ("6-4+7-1", "1+2") for _ in range(3)]
ADVANTAGE = torch.tensor([0.6, -0.9, 0.3, -0.4, 0.0, 0.4])


# GRPO's relatives run as it does, and those that change its credit, or what it is given to, alone
# are updated as it is. What needs a reference or given texts is tested in
# tests/methods/test_stage_family.py.
OTHERS = {name: m for name, m in METHODS.items() if name not in STAGES}
ASIDE = PROBLEMS.keys() | BUDGETS.keys()
RUN_APART = [name for name, m in OTHERS.items() if m.parent != "grpo" and name not in ASIDE]
UPDATED_APART = [
    name
    for name, m in OTHERS.items()
    if name in RUN_APART or (name not in PROBLEMS and m.objective != METHODS["grpo"].objective)
]


def compares_siblings(name):
    return METHODS[name].objective.level == "group"


def numbers(name, **overrides):
    base = {"kl": 0.0, "inner_updates": 1, "clip": 0.2}
    if compares_siblings(name):
        base["group"] = len(PROMPTS) // 2
    return replace(METHODS[name].tiny, **{**base, **overrides})


def every_step(rollout):
    """AGRPO's views with every step in them, each row divided by its number of steps."""
    return reweighted(all_steps(rollout), 1 / last_scored_step(rollout))


def credit_of(name, steps=4):
    """(6,), with credit by token (6, 8), by step (6, steps): the same credit, more of it in some
    places than in others."""
    if METHODS[name].token_credit:
        return ADVANTAGE[:, None] * (1 + 0.1 * torch.arange(8.0))
    if METHODS[name].rewarded == "final":
        return ADVANTAGE
    return ADVANTAGE[:, None] * (1 + 0.2 * torch.tensor([3.0, 0, 2, 1])[:steps])


def advantage_of(method, n, rewards, rollout, tokenizer):
    """(N,) or (N, T) credit, with all that a method may look at."""
    known = {"rollout": rollout, "completions": decode(tokenizer, rollout.tokens), "step": 1}
    known |= {"examples": [Example(prompt, "") for prompt in PROMPTS], "memory": {}}
    if method.shape:
        rewards = method.shape(rewards=rewards, **known, **n.shape)
    return method.advantage(rewards=rewards, **known, **n.credit).flatten(0, 1)


def scored_by(name, policy, rollout, n, reference=None, advantage=None, seed=2, method=None):
    g = torch.Generator().manual_seed(seed)
    advantage = credit_of(name) if advantage is None else advantage
    return score_views(policy, reference, method or METHODS[name], n, rollout, advantage, g)


def gradient_of(lm, name, n, scored, micro_batch=0, method=None):
    """Gradient by parameter name (zeros where none flowed), and the log numbers."""
    lm.zero_grad()
    stats = accumulate_gradients(
        lm, method or METHODS[name], n, scored, torch.Tensor.backward, micro_batch
    )
    gradient = {
        k: torch.zeros_like(p) if p.grad is None else p.grad.clone()
        for k, p in lm.named_parameters()
    }
    lm.zero_grad()
    return gradient, stats


def graded(completions, **columns):
    """Rewards of their own for siblings: equal texts equal ones."""
    return [(sum(map(ord, text)) % 7) / 7 for text in completions]


def logged(config):
    """The rows of a run under `graded`, without its times."""
    rows = train(config, graded, say=lambda line: None).rows
    return [{k: v for k, v in row.items() if "second" not in k} for row in rows]


def check_a_step(config, reward=None):
    """A step has a gradient and finite numbers, and takes no more passes than the dry run's, whose
    rows all have an advantage and are computed apart; returns its log."""
    run = prepare(config, config.load_task(), reward)
    run.lm.shares_rows = False
    rollouts, update = take_step(run, 1)
    run.lm.shares_rows = True
    batch = collect_step(run, 2)
    row = batch.log | update_policy(run, batch, 2)
    assert all(math.isfinite(value) for value in row.values())
    assert row["grad_norm"] > 0
    assert row["computed_rollout"] > 0 or METHODS[config.method].given
    assert row["computed_rollout"] <= run.numbers.rounds * rollouts.passes
    assert 0 < row["computed_update"] <= update.passes
    return row


def direct_gradient(lm, loss):
    return dict(
        zip(
            [k for k, _ in lm.named_parameters()],
            torch.autograd.grad(loss, list(lm.parameters())),
            strict=True,
        )
    )


def assert_same(a, b, tolerance=1e-6):
    """Equal to `tolerance` times the largest entry of the whole gradient."""
    size = max(float(v.abs().max()) for v in b.values())
    assert size > 1e-4
    for k in b:
        torch.testing.assert_close(
            a[k], b[k], rtol=0, atol=tolerance * max(size, 1.0), msg=lambda m, k=k: f"{k}: {m}"
        )


def largest(gradient):
    return max(float(v.abs().max()) for v in gradient.values())


class SavedBytes:
    """What autograd keeps for backward: bytes alive now, and the most there ever were."""

    def __init__(self):
        self.now = self.peak = 0

    def pack(self, tensor):
        kept = Kept(tensor)
        size = tensor.numel() * tensor.element_size()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(kept, self.free, size)
        return kept

    def free(self, size):
        self.now -= size


class Kept:
    def __init__(self, tensor):
        self.tensor = tensor
