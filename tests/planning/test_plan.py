"""The dry run: passes counted as training logs them, prompts that fit, a plan that reads well and
leaves nothing behind."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from large import run_8b

from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import encode_prompts, load_lm
from dllm_rl_lite.planning import plan
from dllm_rl_lite.planning.dry_run import Probe, number, span
from dllm_rl_lite.planning.guards import Prompts, fit_answers, fit_prompts, measure_prompts
from dllm_rl_lite.planning.memory import GIB
from dllm_rl_lite.planning.passes import count_passes, rule_passes, sketched_views
from dllm_rl_lite.sampler import (
    Gate,
    RunningConfidence,
    Schedule,
    Threshold,
    answer_anchor,
    denoise,
)
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, read_config

ROOT = Path(__file__).parents[2]
DATA = ROOT.parent / "shared" / "data"
RECIPES = sorted(
    p
    for p in (ROOT / "notebooks" / "configs").glob("*.yaml")
    if not p.name.startswith("accelerate")
)
SILENT = {"say": lambda line: None}


def config(tmp_path, **changes) -> TrainConfig:
    base = {
        "task": "chain2",
        "steps": 2,
        "eval_every": 0,
        "eval_problems": 8,
        "run_dir": str(tmp_path / "run"),
    }
    numbers = {"prompts": 2, "group": 4} | changes.pop("numbers", {})
    return TrainConfig(**{**base, **changes, "numbers": numbers})


# Passes


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_rule_takes_the_passes_that_are_counted(lm, data):
    n_blocks = data.draw(st.sampled_from([1, 2, 4]))
    steps = n_blocks * data.draw(st.integers(1, 8 // n_blocks))
    rule = data.draw(
        st.sampled_from(
            [
                Schedule(steps),
                Schedule(steps, "random"),
                Threshold(0.5),
                Threshold(0.0),
                Gate(0.5),
                Gate(0.5, n_min=2),
                RunningConfidence(n_blocks),
            ]
        )
    )
    given_tokens = [[data.draw(st.booleans()) for _ in range(8)] for _ in range(2)]
    if (
        rule.remasks
    ):  # such a rule may withdraw what it wrote earlier: only an empty canvas has a known count
        given_tokens = [[False] * 8] * 2
    anchor = torch.where(torch.tensor(given_tokens), 9, lm.mask_id)
    rollout = denoise(
        lm,
        ["1+2", "3"],
        8,
        rule,
        8 // n_blocks,
        1.0,
        anchor=anchor,
        generator=torch.Generator().manual_seed(data.draw(st.integers(0, 9))),
    )
    counted = rule_passes(anchor == lm.mask_id, rule, 8 // n_blocks)
    if hasattr(rule, "steps"):
        assert torch.equal(rollout.n_forwards, counted)
    else:
        assert (rollout.n_forwards <= counted).all()


def uneven(completions, **columns):
    """Every sibling has another reward, so every row has credit."""
    return [(0.0, 1.0, 3.0, 7.0)[i % 4] + 0.01 * (len(c) % 5) for i, c in enumerate(completions)]


@pytest.mark.parametrize("method", sorted(METHODS))
def test_passes_are_those_that_training_logs(tmp_path, method):
    guide = {"guide": {"rows": 2}} if METHODS[method].tiny.guide else {}
    c = config(tmp_path, method=method, numbers=guide)
    counted = count_passes(c, tokenizer=load_lm("tiny").tokenizer)
    log = train(c, uneven, **SILENT).rows
    for row in log[1:]:
        if counted.exact:
            assert row["forwards_rollout"] == counted.rollout + counted.importance
        else:
            assert (
                METHODS[method].tiny.gate
                and counted.rows <= row["forwards_rollout"] < counted.rollout
            )
        if method in (
            "coupled-grpo",
            "gdsd",
        ):  # their random masks may leave a short text out of a view
            assert 0.9 * counted.update <= row["forwards_update"] <= counted.update
        else:
            assert row["forwards_update"] == counted.update
    evaluated = [8 * row["eval_forwards"] for row in log if "eval_forwards" in row]
    assert len(evaluated) == counted.evaluations
    for passes in evaluated:
        assert passes == counted.evaluation if counted.eval_exact else passes <= counted.evaluation


@pytest.mark.parametrize(
    "guide",
    [
        {"rows": 2, "importance": 2.0},
        {"rows": 4, "repredict": False},
        {"rows": 1, "margin": 3, "block_length": 8},
        {"rows": 0},
    ],
    ids=str,
)
def test_guided_rows_are_counted_by_their_answers(tmp_path, guide):
    c = config(tmp_path, method="ag-grpo", task="chain", steps=1, numbers={"guide": guide})
    tokenizer = load_lm("tiny").tokenizer
    counted = count_passes(c, tokenizer=tokenizer)
    row = train(c, uneven, **SILENT).rows[-1]
    assert counted.exact and row["forwards_rollout"] == counted.rollout + counted.importance
    unknown = count_passes(c)
    assert not unknown.exact and unknown.rollout + unknown.importance >= row["forwards_rollout"]


def test_without_a_penalty_rows_of_no_credit_make_it_less(tmp_path):
    c = config(tmp_path, method="agrpo", steps=1)
    row = train(c, lambda completions, **_: [1.0] * 4 + [0.0, 1.0] * 2, **SILENT).rows[
        -1
    ]  # one group of two is dead
    assert row["forwards_update"] == count_passes(c).update / 2


def test_a_budget_of_passes_ends_the_run_where_it_is_counted(tmp_path):
    c = config(tmp_path, steps=50, forwards=300, eval_every=2)
    counted = count_passes(c)
    rows = train(c, uneven, **SILENT).rows
    assert (counted.steps, counted.evaluations) == (
        rows[-1]["step"],
        sum("eval_accuracy" in r for r in rows),
    )
    assert counted.total == counted.steps * counted.step + counted.evaluations * counted.evaluation


@pytest.mark.parametrize(
    "method, count, most",
    [
        ("diffu-grpo", 1, 16),
        ("coupled-grpo", 3, 16),
        ("gdpo", 3, 14),
        ("agrpo", 4, 2),
        ("mdpo", 4, 16),
        ("gdsd", 2, 16),
    ],
)
def test_views_are_sketched_by_the_recipes_themselves(method, count, most):
    views = sketched_views(TrainConfig(method=method, task="chain2"), 8)
    assert len(views) == count and max(int(v.scored.sum(1).max()) for v in views) <= most
    assert any(int(v.scored.sum(1).max()) == most for v in views) or method == "gdsd"


# Prompts


def counted_lengths(tokenizer, task, split):
    return [len(encode_prompts(tokenizer, [e.prompt])[0][0]) for e in task.read(split)]


@pytest.fixture(scope="module")
def tokenizer():
    return load_lm("tiny").tokenizer


@pytest.fixture
def gsm8k(tmp_path):
    """A GSM8K file of 40 problems whose questions have 10, 20, ... words; how often it was read."""
    rows = [
        {"question": "word " * (10 * i) + f"{i}?", "answer": f"so #### {i}"} for i in range(1, 41)
    ]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return load_task("gsm8k", str(tmp_path))


def test_long_prompts_are_left_out_of_training_alone(gsm8k, tokenizer):
    lengths = counted_lengths(tokenizer, gsm8k, "train")
    limit = sorted(lengths)[len(lengths) // 2]
    task, note = fit_prompts(gsm8k, tokenizer, 3000, limit)
    kept = task.read("train")
    assert [e.prompt for e in kept] == [
        e.prompt for e, n in zip(gsm8k.read("train"), lengths, strict=True) if n <= limit
    ]
    for split in ("validation", "test"):
        assert task.read(split) == gsm8k.read(split)
    assert note.startswith(
        f"{len(lengths) - len(kept)} of {len(lengths)} problems have prompts of more than "
        f"{limit} tokens "
        f"(longest {max(lengths)}) and are left out"
    )
    assert {e.prompt for e in task.sample(5, "train", 3)} <= {e.prompt for e in kept}
    found = measure_prompts(gsm8k, tokenizer, 3000, limit)
    assert found.longest == limit and found.mean == pytest.approx(
        sum(n for n in lengths if n <= limit) / len(kept)
    )


def test_what_fits_is_left_as_it_is_and_read_once(gsm8k, tokenizer):
    reads = []
    task = replace(gsm8k, read=lambda split: reads.append(split) or gsm8k.read(split))
    same, note = fit_prompts(task, tokenizer, 3000)
    assert (
        same is task
        and reads == ["train"]
        and re.fullmatch(r"prompts of \d+ tokens on average, \d+ at most", note)
    )


def test_prompts_that_do_not_fit_stop_the_run(gsm8k, tokenizer):
    lengths = counted_lengths(tokenizer, gsm8k, "train")
    room = max(lengths) - 1
    with pytest.raises(
        ValueError, match=rf"1 of {len(lengths)} problems have prompts of more than {room} tokens"
    ) as caught:
        fit_prompts(gsm8k, tokenizer, room)
    said = str(caught.value)
    assert f"of {max(lengths)}, ends " in said and "word word" in said
    assert (
        f"set max_prompt={room} to leave such problems out or a length of at most "
        f"{gsm8k.length - 1}" in said
    )
    fit_prompts(gsm8k, tokenizer, room, room)
    fit_prompts(replace(gsm8k, length=gsm8k.length - 1), tokenizer, room + 1)
    with pytest.raises(ValueError, match=rf"set max_prompt to 0 or at least {max(lengths)}"):
        fit_prompts(gsm8k, tokenizer, 3000, 3)
    with pytest.raises(ValueError, match="leaves no room for a prompt"):
        fit_prompts(gsm8k, tokenizer, 0)


def test_a_generated_task_is_looked_at_in_a_sample(tokenizer):
    task = load_task("chain2")
    assert fit_prompts(task, tokenizer, 100) == (task, "prompts of 7 tokens on average, 7 at most")
    with pytest.raises(ValueError, match="256 of 256 problems have prompts of more than 6 tokens"):
        fit_prompts(task, tokenizer, 6)
    with pytest.raises(ValueError, match="set max_prompt to 0 or at least 7"):
        fit_prompts(task, tokenizer, 100, 6)


@pytest.mark.skipif(not DATA.is_dir(), reason="no benchmark files")
def test_the_real_gsm8k_in_a_real_vocabulary(tmp_path):
    folder, _ = write_checkpoint(tmp_path / "dream", "Dream")  # its tokenizer knows every byte
    lm = load_lm(str(folder))
    found = measure_prompts(load_task("gsm8k", str(DATA / "gsm8k")), lm.tokenizer, 4000, 400)
    assert (
        re.match(r"\d+ of 7\d\d\d problems have prompts of more than 400 tokens", found.note)
        and found.longest <= 400
    )


# The plan


@pytest.fixture(scope="module")
def fixed():
    """The plan of a run with a fixed schedule and a probe."""
    return plan(
        TrainConfig(
            method="agrpo",
            task="chain2",
            steps=20,
            run_dir="none/of/this",
            eval_problems=32,
            numbers={"prompts": 4, "group": 4},
        ),
        **SILENT,
    )


def test_the_plan_says_what_a_run_would_do(fixed):
    said = str(fixed)
    assert (
        "agrpo on chain2, 20 steps, on cpu" in said
        and "AGRPO, arXiv 2510.04019; tiny numbers" in said
    )
    assert "trains 1,092,992 of 1,092,992 parameters (100.00 %)" in said
    assert "4 prompts x 4 texts of 16 tokens = 16 rows" in said
    assert "rollouts    128 passes a step, 8.0 a text" in said
    assert "at most 64 passes a step, 4 views a text: gradient 64" in said
    assert "evaluation  3 times, 256 passes each" in said
    assert fixed.passes.total == 20 * (128 + 64) + 3 * 256 and "4,608 passes of one row" in said
    assert fixed.tokens == (4608 * 23, 20 * 16 * 16)
    assert fixed.checkpoint == 12 * 1_092_992
    assert re.search(r"free now \S+ GiB a process: fits", said)
    assert max(map(len, said.splitlines())) <= 100
    assert not Path("none").exists(), "a dry run writes nothing"


def test_hours_are_the_passes_times_what_was_measured(fixed):
    low, high = fixed.hours
    assert 0 < low < high < 1
    q = Probe((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (16, 16), 8.0, 1.0, "cpu")
    one = replace(fixed, probe=q)
    rollouts = 20 * 128 + 3 * 256
    assert one.hours == pytest.approx(
        ((rollouts + 20 * 32 * 5) / 3600, 1.25 * (2 * rollouts + 20 * 64 * 6) / 3600)
    )
    assert replace(one, processes=4).hours == pytest.approx(tuple(h / 4 for h in one.hours))
    assert "divided by 4: communication is not in them" in str(replace(one, processes=4)).replace(
        "\n            ", " "
    )
    assert fixed.probe.rows == (16, 16) and fixed.probe.spent > 0


def test_a_gate_is_bounded_and_then_seen():
    p = plan(
        TrainConfig(method="ta-grpo-d", task="chain2", numbers={"prompts": 2, "group": 4}), **SILENT
    )
    assert not p.passes.exact and p.open_ended and 1 <= p.probe.passes < 16
    assert (
        f"at most 128 passes a step, at most 16.0 a text (in the probe {p.probe.passes:.1f})"
        in str(p)
    )
    most = replace(p, probe=replace(p.probe, passes=16.0))
    assert p.hours[0] < most.hours[0]


@pytest.mark.parametrize("method", ["ag-grpo", "mdpo", "gdpo", "ag-ta-grpo", "coupled-grpo"])
def test_every_kind_of_method_can_be_probed(method):
    guide = {"guide": {"rows": 2}} if METHODS[method].tiny.guide else {}
    p = plan(
        TrainConfig(
            method=method,
            task="chain",
            micro_batch=4,
            rollout_batch=4,
            lora_targets="all",
            lora_r=4,
            gradient_checkpointing=True,
            numbers={"prompts": 2, "group": 4, **guide},
        ),
        **SILENT,
    )
    assert p.probe.rows == (4, 4) and 0 < p.hours[0] < p.hours[1]
    assert p.trained == 5 * 4 * (4 * 256 + 3 * 512) and p.parameters == 1_092_992 + p.trained


def test_an_8b_plan_needs_its_config_alone(tmp_path, monkeypatch):
    c = run_8b(tmp_path, task="chain2", length=256, steps=1000, micro_batch=8, rollout_batch=12)
    monkeypatch.setattr(
        "dllm_rl_lite.planning.guards.available_memory", lambda device: 8 * 30 * GIB
    )
    p = plan(c, processes=8, probe=False, **SILENT)
    said = " ".join(str(p).split())
    assert (p.trained, p.parameters) == (167_772_160, 8_015_581_184 + 167_772_160)
    assert (
        "trains 167,772,160 of 8,183,353,344 parameters (2.05 %)" in said
        and "on cpu, 8 processes" in said
    )
    assert "has no tokenizer to count them with" in said and "free now 30.0 GiB a process" in said
    assert p.memory.weights > 14.9 * GIB and p.memory.workload.rows == 12
    assert max(map(len, str(p).splitlines())) <= 100
    assert [f.name for f in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_has_a_plan_and_fits_its_gpus(tmp_path, monkeypatch, path):
    monkeypatch.setattr("dllm_rl_lite.planning.guards.available_memory", lambda device: 79 * GIB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "1")
    tiny = path.stem == "quickstart"
    c, start = read_config(path, {} if tiny else {"model": run_8b(tmp_path).model})
    p = plan(c, start["processes"], probe=False, **SILENT)
    assert not p.obstacle and p.passes.total > 0 and (tiny or p.parameters > 8e9)
    assert max(map(len, str(p).splitlines())) <= 100


def test_what_does_not_fit_is_not_probed_but_advised(tmp_path, monkeypatch):
    monkeypatch.setattr("dllm_rl_lite.planning.guards.available_memory", lambda device: 30 * GIB)
    c = run_8b(
        tmp_path,
        task="chain2",
        length=256,
        rollout_batch=12,
        numbers={"kl": 0.0, "inner_updates": 1},
    )
    p = plan(c, **SILENT)
    said = " ".join(str(p).split())
    assert p.probe is None and p.hours is None and "not measured: it does not fit" in said
    assert re.search(
        r"free now 30.0 GiB a process: the run needs about \S+ GiB a process .*: set micro_batch=",
        said,
    )


def test_a_plan_without_a_probe_loads_nothing(monkeypatch):
    monkeypatch.setattr(
        "dllm_rl_lite.planning.dry_run.load_lm", lambda *a, **k: pytest.fail("a model was loaded")
    )
    p = plan(TrainConfig(), probe=False, **SILENT)
    assert p.hours is None and "not measured: no probe was asked for" in str(p)


@pytest.mark.parametrize(
    "hours, words",
    [
        ((0.0001, 0.0002), "0.36 to 0.72 seconds"),
        ((0.1, 0.2), "6 to 12 minutes"),
        ((1, 3), "1 to 3 hours"),
        ((24, 72), "1 to 3 days"),
    ],
)
def test_hours_are_said_in_the_unit_that_reads_best(hours, words):
    assert span(*hours) == words


@pytest.mark.parametrize(
    "value, words",
    [
        (9_999_999, "9,999,999"),
        (12_345_678, "12.3 million"),
        (5_730_000_000, "5.73 billion"),
        (2 * 10**13, "20 trillion"),
    ],
)
def test_large_numbers_are_words(value, words):
    assert number(value) == words


# Anchored answers


def test_answers_that_leave_no_room_are_left_out_before_the_first_step(gsm8k, tokenizer):
    """The same line as `answer_anchor`, which would stop the run in the step that meets such a
    problem."""
    answers = ["7" * n for n in (1, 5, 9, 10, 30)]
    examples = [replace(e, answer=a) for e, a in zip(gsm8k.read("train"), answers, strict=False)]
    task = replace(gsm8k, length=32, read=lambda split: examples)
    prompts, guide = Prompts(task, "as they are", 9, 9.0), {"rows": 2, "column": "", "margin": 2}
    found = fit_answers(prompts, tokenizer, guide)
    kept = found.task.read("train")
    for example in examples:
        if example in kept:
            assert (
                answer_anchor(tokenizer, [example.answer], 32, 2) != tokenizer.mask_token_id
            ).any()
        else:
            with pytest.raises(ValueError, match="leaves none to reason with"):
                answer_anchor(tokenizer, [example.answer], 32, 2)
    said = (
        f"{5 - len(kept)} of 5 answers leave no token to reason with and are left out; as they are"
    )
    assert 0 < len(kept) < 5 and found.note == said
    assert found.task.read("test") == examples and fit_answers(found, tokenizer, guide) is found
    with pytest.raises(ValueError, match="no anchored answer fits a canvas of 5 tokens"):
        fit_answers(replace(prompts, task=replace(task, length=5)), tokenizer, guide)
