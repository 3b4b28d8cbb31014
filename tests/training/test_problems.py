"""Which problems come next, what is learnt from, and what is remembered: rounds, filters and memory
of a run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from updates import graded

from dllm_rl_lite.methods import METHODS, part
from dllm_rl_lite.planning import plan
from dllm_rl_lite.train import train
from dllm_rl_lite.training import (
    TrainConfig,
    collect_step,
    complete_checkpoints,
    prepare,
    update_policy,
)

GRPO = METHODS["grpo"]


@pytest.fixture
def start(monkeypatch, model_folder, tmp_path):
    """Makes a method that differs from GRPO known as "toy", and a run of it."""

    def made(name="run", steps=3, numbers=None, **changes):
        tiny = replace(GRPO.tiny, prompts=2, group=4, tokens_per_step=8, inner_updates=1, lr=1e-3)
        monkeypatch.setitem(METHODS, "toy", replace(GRPO, name="toy", tiny=tiny, **changes))
        return TrainConfig(
            method="toy",
            model=model_folder,
            preset="tiny",
            steps=steps,
            run_dir=str(tmp_path / name),
            eval_every=0,
            eval_problems=1,
            checkpoint_every=1,
            numbers=numbers or {},
        )

    return made


def go(config):
    return train(config, graded, say=lambda line: None)


def ready(config, reward=graded):
    return prepare(config, config.load_task(), reward)


# ---------------------------------------------------------------- memory


def seldom_seen(task, prompts, seed, memory):
    """Of four problems those that were drawn least often."""
    pool = task.sample(4, "train", 0)
    return sorted(pool, key=lambda e: memory.get(e.prompt, {"n": 0})["n"])[:prompts]


def count(memory, examples, rewards, step):
    """How often a problem was drawn, when last, and its mean reward then."""
    memory = dict(memory)
    for example, mean in zip(examples[:: rewards.shape[1]], rewards.mean(1).tolist(), strict=True):
        n = memory.get(example.prompt, {"n": 0})["n"]
        memory[example.prompt] = {"n": n + 1, "mean": mean, "step": step}
    return memory


def above_the_past(rewards, memory, examples, share: float = 1.0):
    """Rewards above a share of the mean that is remembered."""
    past = [memory.get(e.prompt, {"mean": 0.0})["mean"] for e in examples]
    return rewards - share * torch.tensor(past).view_as(rewards)


MEMORY = {
    "problems": seldom_seen,
    "remember": count,
    "shape": lambda rewards, step: rewards * step,
    "advantage": part(above_the_past, share=1.0),
}


def saved(config):
    """The state without its clocks and evaluations, and the weights as bytes."""
    newest = complete_checkpoints(Path(config.run_dir))[-1]
    state = json.loads((newest / "state.json").read_text())
    for row in state["rows"]:
        for name in [name for name in row if "second" in name or "eval" in name]:
            del row[name]
    return state, (newest / "model" / "model.safetensors").read_bytes()


def test_memory_outlives_a_run_that_stops_at_any_step(start):
    """Readable json in the checkpoint; the same bits as in one piece. Three steps of two
    problems see all four and begin anew."""
    whole = start("whole", steps=3, **MEMORY)
    go(whole)
    pieces = start("pieces", steps=3, **MEMORY)
    for steps in range(1, 4):
        go(replace(pieces, steps=steps))
    assert saved(whole) == saved(pieces)
    memory = saved(whole)[0]["memory"]
    assert len(memory) == 4
    assert sorted(seen["n"] for seen in memory.values()) == [1, 1, 2, 2]
    assert {seen["step"] for seen in memory.values()} == {2, 3}


def test_what_is_remembered_changes_the_credit(start):
    """Without its share, another run."""
    with_it = go(start("with", steps=3, **MEMORY)).rows[-1]
    without = go(start("without", steps=3, numbers={"credit": {"share": 0.0}}, **MEMORY)).rows[-1]
    assert with_it["grad_norm"] != without["grad_norm"]


def test_memory_is_what_json_gives_back(start):
    """A tuple comes back as a list in the very run that made it; what json cannot write is an
    error."""
    run = ready(start(remember=lambda memory: {"seen": (1, 2)}))
    collect_step(run, 1)
    assert run.memory == {"seen": [1, 2]}
    run = ready(start(remember=lambda rewards: {"seen": rewards}))
    with pytest.raises(TypeError, match="Tensor is not JSON serializable"):
        collect_step(run, 1)


# ---------------------------------------------------------------- groups and rounds


def first_right(rewards):
    """Groups whose first sibling has more than the last."""
    return rewards[:, 0] > rewards[:, -1]


def every(n):
    """Rewards of which every n-th group of four is kept by `first_right`."""
    seen = []

    def reward(completions, **columns):
        found = []
        for i in range(len(completions)):
            kept = len(seen) // 4 % n == n - 1
            seen.append(i)
            found.append(float(kept and i % 4 < 2))
        return found

    return reward


@pytest.mark.parametrize("keep, rounds, drawn, kept", [(1, 4, 2, 2), (2, 4, 4, 2), (3, 2, 4, 1)])
def test_problems_are_drawn_until_there_are_enough_groups(start, keep, rounds, drawn, kept):
    """Every `keep`-th group is kept, at most `rounds` rounds of two are drawn, and at most two
    groups are learnt from; all passes count."""
    numbers = {"rounds": rounds}
    run = ready(start(groups=first_right, numbers=numbers), every(keep))
    batch = collect_step(run, 1)
    assert (batch.log["drawn_groups"], batch.log["kept_groups"]) == (drawn, kept)
    assert len(batch.rollout.tokens) == len(batch.advantage) == 4 * kept
    assert batch.log["forwards_rollout"] == 4 * drawn * 2
    assert batch.log["reward"] == pytest.approx((drawn // keep) * 2 / (4 * drawn))
    assert (batch.advantage.view(-1, 4)[:, 0] > 0).all()
    assert math.isfinite(update_policy(run, batch, 1)["loss"])


def test_a_batch_keeps_the_first_of_too_many_groups(start):
    """Three rounds of two give three kept groups where every second one is kept; the third is
    trimmed. The first rounds are those of a run that draws less."""
    run = ready(start(groups=first_right, numbers={"rounds": 4, "prompts": 3}), every(2))
    batch = collect_step(run, 1)
    assert (batch.log["drawn_groups"], batch.log["kept_groups"]) == (6, 3)
    plain = collect_step(ready(start(numbers={"prompts": 3}), every(2)), 1)
    kept = plain.rollout.tokens[4:8]
    assert torch.equal(batch.rollout.tokens[:4], kept)


def test_rounds_draw_other_problems_with_other_noise(start):
    run = ready(start(groups=first_right, numbers={"rounds": 2}), every(3))
    seen = []
    own = replace(run, reward=lambda **known: seen.append(known) or run.reward(**known))
    collect_step(own, 1)
    first, second = seen
    assert not set(first["prompts"]) & set(second["prompts"])
    assert first["completions"] != second["completions"]


def test_a_batch_of_nothing_teaches_nothing(start):
    """No group is kept: the weights stay, and the log says so."""
    run = ready(start(groups=lambda rewards: rewards[:, 0] > 9))
    before = {name: p.clone() for name, p in run.lm.named_parameters()}
    batch = collect_step(run, 1)
    row = batch.log | update_policy(run, batch, 1)
    assert row["kept_groups"] == row["forwards_update"] == row["grad_norm"] == 0
    assert all(torch.equal(p, before[name]) for name, p in run.lm.named_parameters())


# ---------------------------------------------------------------- rows


def above_the_others(advantage):
    return advantage > 0


def test_dropped_rows_never_reach_the_update(start):
    """What is kept has the advantage that it has among all siblings, and costs its passes alone."""
    whole = collect_step(ready(start()), 1)
    kept = above_the_others(whole.advantage)
    run = ready(start(rows=above_the_others))
    run.lm.shares_rows = False
    batch = collect_step(run, 1)
    assert torch.equal(batch.advantage, whole.advantage[kept])
    assert torch.equal(batch.rollout.tokens, whole.rollout.tokens[kept])
    assert batch.log["reward"] == whole.log["reward"]
    assert 0 < batch.log["kept_rows"] == kept.sum() < 8
    assert update_policy(run, batch, 1)["forwards_update"] <= 2 * kept.sum()


def test_all_rows_are_no_filter(start):
    """Filters that keep everything are the parent to the bit."""
    go(start("plain"))
    keep = {"groups": lambda rewards: rewards[:, 0] > -1, "rows": lambda advantage: advantage < 99}
    go(start("kept", **keep))
    plain, kept = (saved(start(name)) for name in ("plain", "kept"))
    assert plain[1] == kept[1]
    for row in kept[0]["rows"][1:]:
        assert (row.pop("drawn_groups"), row.pop("kept_groups"), row.pop("kept_rows")) == (2, 2, 8)
    assert plain[0]["rows"] == kept[0]["rows"]


# ---------------------------------------------------------------- around it


def test_the_dry_run_bounds_all_rounds(start):
    """The passes of a step in which no group is kept until the last round."""
    config = start(groups=first_right, rows=above_the_others, numbers={"rounds": 3})
    bound = plan(config, reward=every(5), say=lambda line: None)
    run = ready(config, every(5))
    batch = collect_step(run, 1)
    spent = update_policy(run, batch, 1)
    assert batch.log["drawn_groups"] == 6
    assert bound.rounds * bound.scale * bound.rollouts.passes >= batch.log["forwards_rollout"]
    assert bound.scale * bound.update.passes >= spent["forwards_update"] > 0
    assert "48 of one row per step in rollouts" in " ".join(str(bound).split())


def test_what_cannot_be_filtered_is_named(start):
    with pytest.raises(ValueError, match="rounds must be 1, for grpo keeps every group, got 2"):
        GRPO.numbers("tiny", rounds=2)
    with pytest.raises(ValueError, match="reg-grpo: the loss compares whole groups"):
        replace(METHODS["reg-grpo"], rows=above_the_others)
    with pytest.raises(ValueError, match="known: .*memory.*step"):
        replace(GRPO, groups=lambda rewards, lm: rewards)
