"""The training loop: resume after a real kill, clear errors that lose nothing, budgets, and one
small learning test."""

import csv
import json
import math
import os
import signal
import sys
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file
from updates import RUN_APART

from dllm_rl_lite.methods import METHODS, Numbers
from dllm_rl_lite.models import ReferencePolicy, load_lm, new_tiny_lm
from dllm_rl_lite.models.adapters import adapter_parameters, count_parameters
from dllm_rl_lite.planning import check_memory
from dllm_rl_lite.seeds import derived_seed
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import main, one_step, train
from dllm_rl_lite.training import TrainConfig, complete_checkpoints, prepare
from dllm_rl_lite.training.calls import Source
from dllm_rl_lite.training.rollouts import roll_out

SMALL = {"prompts": 2, "group": 4, "lr": 1e-3}


def config(tmp_path, name="run", **changes) -> TrainConfig:
    settings = {
        "task": "chain2",
        "steps": 4,
        "run_dir": str(tmp_path / name),
        "eval_problems": 8,
        "checkpoint_every": 2,
        "eval_every": 2,
        "numbers": SMALL,
    }
    return TrainConfig(**{**settings, **changes})


def weights(run_dir):
    return load_file(complete_checkpoints(run_dir)[-1] / "model" / "model.safetensors")


def timeless(path):
    """The log without its clock columns."""
    with open(path) as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def train_until_killed(settings: TrainConfig) -> None:
    """Dies in the fourth step: after the checkpoint of step 2, before that of step 4."""
    torch.set_num_threads(1)  # as here: the last bits of a sum depend on the number of threads
    said = []

    def reward(prompts, completions, **columns):
        if said and said[-1].startswith("step   3"):
            os.kill(os.getpid(), signal.SIGKILL)
        return load_task("chain2").reward(prompts, completions, **columns)

    train(settings, reward, said.append)


@pytest.mark.parametrize("method", sorted(RUN_APART))
def test_a_killed_run_resumes_to_the_same_bits(tmp_path, forks, method):
    guide = {"guide": {"rows": 2}} if METHODS[method].tiny.guide else {}
    more = {
        "method": method,
        "steps": 5,
        "numbers": {"prompts": 4, "group": 4, "lr": 2e-4, **guide},
    }
    whole = train(config(tmp_path, "whole", **more))
    killed = config(tmp_path, "killed", **more)
    process = forks.Process(target=train_until_killed, args=[killed])
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert [p.name for p in complete_checkpoints(tmp_path / "killed")] == ["step-000002"]
    resumed = train(killed)
    a, b = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert timeless(tmp_path / "whole" / "log.csv") == timeless(tmp_path / "killed" / "log.csv")
    assert (
        [r["step"] for r in resumed.rows] == [r["step"] for r in whole.rows] == [0, 1, 2, 3, 4, 5]
    )
    before = load_file(
        tmp_path / "whole" / "checkpoints" / "step-000004" / "model" / "model.safetensors"
    )
    assert any(not torch.equal(a[k], before[k]) for k in a), (
        "the last step must have changed the weights"
    )


def test_a_finished_run_is_not_run_again_but_can_go_on(tmp_path):
    train(config(tmp_path))
    lines = []
    again = train(config(tmp_path), say=lines.append)
    assert lines == [f"resuming {tmp_path / 'run'} after step 4"] and len(again.rows) == 5
    assert train(config(tmp_path, steps=5)).rows[-1]["step"] == 5


def test_a_run_dir_belongs_to_one_configuration(tmp_path):
    train(config(tmp_path, steps=1))
    with pytest.raises(ValueError, match=r"seed 0 -> 7.*choose another run_dir"):
        train(config(tmp_path, steps=1, seed=7))


@pytest.mark.parametrize(
    "bad, message",
    [
        (lambda **_: 1 / 0, "raised ZeroDivisionError"),
        (
            lambda completions, **_: [1.0] * (len(completions) - 1),
            "returned 7 values for 8 completions",
        ),
        (
            lambda completions, **_: [float("nan")] * len(completions),
            "returned nan for completion 0",
        ),
        (lambda completions, **_: ["x"] * len(completions), "returned 'x' for completion 0"),
    ],
)
def test_a_bad_reward_stops_with_everything_named_and_loses_nothing(tmp_path, bad, message):
    calls = []

    def reward(prompts, completions, **columns):
        calls.append(1)
        fine = [float(len(c) % 2) for c in completions]
        return fine if len(calls) < 4 else bad(prompts=prompts, completions=completions, **columns)

    with pytest.raises((ValueError, RuntimeError), match=message) as caught:
        train(config(tmp_path, steps=6), reward)
    assert "step 4 of agrpo on chain2" in str(caught.value)
    assert str(tmp_path / "run" / "checkpoints" / "step-000002") in str(caught.value)
    assert [r["step"] for r in timeless(tmp_path / "run" / "log.csv")] == ["0", "1", "2", "3"]
    assert train(config(tmp_path, steps=3)).rows[-1]["step"] == 3, (
        "the run goes on from the checkpoint"
    )


@pytest.mark.parametrize("file", ["model/model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_truncated_checkpoint_is_named(tmp_path, file):
    train(config(tmp_path, steps=2))
    damaged = complete_checkpoints(tmp_path / "run")[-1]
    data = (damaged / file).read_bytes()
    (damaged / file).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="damaged.*delete this folder") as caught:
        train(config(tmp_path, steps=4))
    assert str(damaged) in str(caught.value)


def test_a_half_written_checkpoint_is_ignored(tmp_path):
    train(config(tmp_path, steps=2))
    (tmp_path / "run" / "checkpoints" / "step-000003.new").mkdir()
    assert [p.name for p in complete_checkpoints(tmp_path / "run")] == ["step-000002"]
    assert train(config(tmp_path, steps=3)).rows[-1]["step"] == 3


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"method": "agrop"}, "unknown method 'agrop'; did you mean 'agrpo'"),
        ({"task": "sudoko4"}, "unknown task 'sudoko4'; did you mean 'sudoku4'"),
        ({"numbers": {"learning_rate": 1}}, "unknown number 'learning_rate'"),
        ({"numbers": {"views": {"kk": 1}}}, "unknown view number of agrpo 'kk'"),
        ({"numbers": {"group": 0}}, "group must be a whole number of at least 1, got 0"),
        ({"numbers": {"lr": 0}}, "lr must be a finite number above 0"),
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"preset": "papre"}, "did you mean 'paper'"),
        ({"device": "gpu"}, "device must be"),
    ],
)
def test_bad_configurations_say_what_is_wrong(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)
    assert not (tmp_path / "run").exists()


def test_a_canvas_that_blocks_or_steps_do_not_fill_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(ValueError, match="block_length 12 must divide the canvas length 16"):
        train(config(tmp_path, numbers={**SMALL, "block_length": 12}))
    with pytest.raises(ValueError, match="tokens_per_step 3 must divide the canvas length 16"):
        train(config(tmp_path, "steps", numbers={**SMALL, "tokens_per_step": 3}))
    with pytest.raises(ValueError, match="lr must be a finite number above 0"):
        config(tmp_path, numbers={"lr": "1e-3"})


def test_what_does_not_fit_is_refused_before_the_folder_is_claimed_and_the_advice_fits(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("dllm_rl_lite.planning.memory.available_memory", lambda device: 10 * 2**20)
    big = config(tmp_path, steps=1, lora_r=4)
    with pytest.raises(
        ValueError, match="alone need .* set lora_targets=all dtype=bfloat16, which needs 3 MiB"
    ):
        train(big)
    assert not (tmp_path / "run").exists()
    advised = replace(big, lora_targets="all", dtype="bfloat16")
    check_memory(advised, 1, 10 * 2**20)
    monkeypatch.undo()  # less than the batches take, and no more is granted than is free
    assert train(advised).rows[-1]["step"] == 1


def test_memory_that_ends_in_a_step_says_what_to_lower(tmp_path, monkeypatch):
    """In rollouts and in updates, with what was saved; lowering `micro_batch` goes on in the same
    folder."""
    c = config(tmp_path, steps=2, checkpoint_every=1, eval_every=0)
    train(replace(c, steps=1))

    def full(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    with monkeypatch.context() as m:
        m.setattr("dllm_rl_lite.training.rollouts.fill_canvas", full)
        with pytest.raises(
            RuntimeError,
            match=r"step 2 .*out of memory in the rollouts.*set rollout_batch=4 \(now all 8",
        ):
            train(c)
    with monkeypatch.context() as m:
        m.setattr("dllm_rl_lite.training.update.token_logprobs", full)
        with pytest.raises(
            RuntimeError, match=r"(?s)in the update.*set micro_batch=4 \(now all 8 .*step-000001"
        ):
            train(c)
    assert train(replace(c, micro_batch=4)).rows[-1]["step"] == 2


@pytest.mark.parametrize(
    "words, said",
    [
        (["stepz=3"], "unknown parameter 'stepz'; did you mean 'steps'"),
        (["numbers.lrr=3"], "unknown number 'lrr'; did you mean 'lr'"),
        (["task=chian2"], "unknown task 'chian2'; did you mean 'chain2'"),
        (["steps=3.5"], "steps must be a whole number of at least 1, got 3.5"),
        (["processes=0"], "processes must be a whole number of at least 1, got 0"),
        (["method==agrpo"], "cannot read 'method==agrpo': write name=value"),
        (["steps", "3"], "cannot read '3': write name=value"),
        (["--steps", "3"], "cannot read '--steps': write name=value"),
        (["--dry-run"], "as in steps=3 dry_run=true"),
        (["missing.yaml"], "no parameter file missing.yaml"),
    ],
)
def test_the_command_line_names_what_it_cannot_read(monkeypatch, words, said):
    monkeypatch.setattr(sys, "argv", ["train", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert said in caught.value.code


def test_unknown_model_is_named(tmp_path):
    with pytest.raises(ValueError, match="no model 'tinny'.*did you mean 'tiny'"):
        train(config(tmp_path, model="tinny"))


@pytest.mark.parametrize("count", ["forwards", "computed"])
def test_the_budget_of_forward_passes_ends_a_run(tmp_path, count):
    """Of those asked for, and of those computed."""
    rows = train(config(tmp_path, steps=100, **{count: 200})).rows
    spent = [r.get(f"{count}_rollout", 0) + r.get(f"{count}_update", 0) for r in rows]
    assert sum(spent) >= 200 > sum(spent[:-1])
    assert "eval_accuracy" in rows[-1]


def test_equal_rewards_change_nothing(tmp_path):
    """Without a KL penalty a group whose siblings tie carries no gradient, and no weight moves."""
    train(
        config(tmp_path, steps=1, checkpoint_every=1),
        lambda completions, **_: [1.0] * len(completions),
    )
    from dllm_rl_lite.models import load_lm

    base, after = load_lm("tiny").backbone.state_dict(), weights(tmp_path / "run")
    assert all(torch.equal(base[k], after[k]) for k in after)


def test_derived_seeds_differ_by_seed_step_and_purpose():
    keys = [
        (s, t, p) for s in range(5) for t in range(50) for p in ("rollout", "views 0", "views 1")
    ]
    assert len({derived_seed(*k) for k in keys}) == len(keys)


def test_paper_numbers_are_the_cards():
    """The numbers of the released recipes, from the method cards."""
    d1, agrpo = METHODS["diffu-grpo"].numbers("paper"), METHODS["agrpo"].numbers("paper")
    assert (d1.group, d1.inner_updates, d1.clip, d1.kl, d1.lr, d1.grad_clip) == (
        6,
        12,
        0.5,
        0.04,
        3e-6,
        0.2,
    )
    assert (agrpo.group, agrpo.inner_updates, agrpo.clip, agrpo.kl, agrpo.views["k"]) == (
        8,
        1,
        0.2,
        0.0,
        24,
    )
    coupled, gdpo, wd1, gdsd, mdpo = (
        METHODS[m].numbers("paper") for m in ("coupled-grpo", "gdpo", "wd1", "gdsd", "mdpo")
    )
    assert (
        coupled.group,
        coupled.inner_updates,
        coupled.clip,
        coupled.kl,
        coupled.lr,
        coupled.top_p,
    ) == (10, 2, 0.5, 0.01, 1e-6, 0.95)
    assert (coupled.temperature, coupled.order, coupled.rule(256).steps) == (1.2, "entropy", 256)
    assert (gdpo.group, gdpo.inner_updates, gdpo.clip, gdpo.kl, gdpo.lr, gdpo.views["nodes"]) == (
        6,
        12,
        0.5,
        0.0,
        3e-7,
        3,
    )
    assert (wd1.inner_updates, wd1.lr, wd1.views["p_mask_prompt"], wd1.credit["psi"]) == (
        12,
        3e-6,
        0.15,
        1.0,
    )
    assert (gdsd.inner_updates, gdsd.clip, gdsd.kl, gdsd.loss["psi"], gdsd.rule(256).steps) == (
        8,
        4e-4,
        1e-3,
        1.0,
        64,
    )
    assert (mdpo.temperature, mdpo.kl, mdpo.lr, mdpo.views["k"], mdpo.rule(512).steps) == (
        0.4,
        0.02,
        7e-7,
        8,
        128,
    )
    assert (
        d1.rule(256).steps == 128
        and agrpo.rule(384).steps == 128
        and agrpo.rule(384).order == "random"
    )
    guided, timed = METHODS["ag-grpo"].numbers("paper"), METHODS["ta-grpo-d"].numbers("paper")
    for n in (guided, timed):
        assert (n.group, n.inner_updates, n.clip, n.kl, n.lr) == (6, 12, 0.5, 0.04, 3e-6)
        assert (n.temperature, n.block_length) == (0.9, 32) and n.views["p_mask_prompt"] == 0.15
    assert (guided.guide["rows"], guided.guide["margin"], guided.guide["block_length"]) == (
        3,
        2,
        0,
    ) and guided.top_p == 1
    assert (
        guided.answer_rule().steps == 16
        and guided.rule(256).steps == 64
        and guided.credit == {"baseline": "shared"}
    )
    assert (
        timed.gate == {"tau": 0.7, "kappa": 0.5, "n_min": 1, "test_tau": 0.8}
        and timed.top_p == 0.95
    )
    guards = {"clamp": False, "right_only": False, "balanced": False, "floor": 0}  # ours: off
    assert timed.tokens == {"delta": 1.0, "form": "factor"} | guards
    with pytest.raises(ValueError, match="tokens_per_step 2 must divide"):
        Numbers(prompts=1, group=2, inner_updates=1, clip=0.2, kl=0.0, lr=1.0).rule(5)


LORA = {"lora_targets": "all", "lora_r": 4, "lora_alpha": 8.0}


def adapters_of(run_dir):
    return load_file(complete_checkpoints(run_dir)[-1] / "model" / "adapter_model.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_targets": "published", "lora_dropout": 0.2},
        {"gradient_checkpointing": True},
        {"dtype": "bfloat16"},
    ],
)
def test_a_run_of_adapters_resumes_to_the_same_bits(tmp_path, changes):
    """With a KL penalty, so with a reference; checkpoints hold adapters alone and go on as if
    nothing had happened."""
    settings = {
        "method": "diffu-grpo",
        "numbers": SMALL | {"kl": 0.1, "inner_updates": 2},
        "steps": 3,
        "eval_every": 1,
        "eval_problems": 4,
        "checkpoint_every": 1,
        **LORA,
        **changes,
    }
    whole = train(config(tmp_path, "whole", **settings))
    train(config(tmp_path, "parts", **settings | {"steps": 1}))
    parts = train(config(tmp_path, "parts", **settings))
    a, b = adapters_of(tmp_path / "whole"), adapters_of(tmp_path / "parts")
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert timeless(tmp_path / "whole" / "log.csv") == timeless(tmp_path / "parts" / "log.csv")
    folder = complete_checkpoints(tmp_path / "whole")[-1]
    assert sum(f.stat().st_size for f in (folder / "model").iterdir()) < 1e6
    assert not (folder / "model" / "model.safetensors").exists()
    assert any(k.endswith("lora_B.weight") and w.any() for k, w in a.items()), (
        "the adapters have learnt something"
    )
    base = load_lm("tiny").backbone.state_dict()  # and nothing else has
    for run in (whole, parts):
        held = {
            k.replace(".base_layer", ""): w
            for k, w in run.lm.backbone.state_dict().items()
            if "lora_" not in k
        }
        assert all(torch.equal(w.float(), base[k].to(w.dtype).float()) for k, w in held.items())
    read = load_lm("tiny", adapters=folder / "model")
    assert torch.equal(
        adapter_parameters(read)["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"],
        a["base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"],
    )


def test_the_reference_of_adapters_is_the_base(tmp_path):
    """The same step as with a frozen copy of the starting model, to the bit, and no copy is
    made."""
    settings = {"method": "diffu-grpo", "numbers": SMALL | {"kl": 0.1}, **LORA}
    found = []
    for reference in (lambda run: run.reference, lambda run: load_lm("tiny")):
        c = config(tmp_path, **settings)
        run = prepare(c, c.load_task())
        assert isinstance(run.reference, ReferencePolicy) and run.reference.lm is run.lm
        with torch.no_grad():
            for parameter in adapter_parameters(run.lm).values():
                parameter.add_(0.02)  # the policy has left its reference
        log = one_step(replace(run, reference=reference(run)), 1)
        found.append({k: v for k, v in log.items() if "second" not in k})
    assert found[0] == found[1] and found[0]["kl"] > 0


def test_only_adapters_are_optimised(tmp_path):
    said = []
    result = train(config(tmp_path, steps=1, **LORA), say=said.append)
    some, every = count_parameters(result.lm)
    assert said[0] == f"trainable {some:,} of {every:,} parameters ({100 * some / every:.2f} %)"
    c = config(tmp_path, steps=1, **LORA)
    run = prepare(c, c.load_task())
    assert (
        sum(p.numel() for group in run.optimizer.param_groups for p in group["params"])
        == some
        < every / 4
    )


def test_gradient_checkpointing_changes_no_run(tmp_path):
    plain = train(config(tmp_path, "plain", steps=2)).rows
    again = train(config(tmp_path, "again", steps=2, gradient_checkpointing=True)).rows
    assert [r.get("grad_norm") for r in plain] == [r.get("grad_norm") for r in again]
    a, b = weights(tmp_path / "plain"), weights(tmp_path / "again")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_a_run_from_before_these_settings_goes_on(tmp_path):
    """config.json of an older run lacks the newer fields: they have their defaults."""
    train(config(tmp_path, steps=2))
    path = tmp_path / "run" / "config.json"
    old = json.loads(path.read_text())
    for name in [
        "data",
        "dtype",
        "quantize",
        "gradient_checkpointing",
        *(n for n in old if n.startswith("lora_")),
    ]:
        del old[name]
    path.write_text(json.dumps(old))
    assert train(config(tmp_path, steps=3)).rows[-1]["step"] == 3
    path.write_text(json.dumps(old))
    with pytest.raises(ValueError, match="lora_targets '' -> 'all'"):
        train(config(tmp_path, steps=3, **LORA))


def test_it_trains_on_a_benchmark(tmp_path):
    """Rows of a file, and all of the held-out ones where asked; the prefilled turn is for
    evaluation alone, as in d1."""
    rows = [
        {"question": f"{a}+{b}", "answer": f"so\n#### {a + b}"} for a in range(9) for b in range(9)
    ]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows[:5])))
    folder = tmp_path / "checkpoint"
    new_tiny_lm(hidden=32, layers=1, heads=2, feed_forward=32, max_length=2048).save_pretrained(
        folder
    )
    c = config(
        tmp_path,
        task="gsm8k",
        data=str(tmp_path),
        model=str(folder),
        preset="tiny",
        steps=1,
        eval_problems=0,
        eval_split="test",
        **LORA,
    )
    seen = []

    def reward(prompts, completions, answer, **_):
        seen.extend(prompts)
        return [float(len(x) % 2) for x in completions]

    result, task = train(c, reward), c.load_task()
    assert len(seen) == 8 and "+" in seen[0] and 0 <= result.rows[-1]["eval_accuracy"] <= 1
    source = Source(result.lm, task, reward, METHODS["agrpo"], c.resolved())
    rollout = roll_out(source, task.sample(2, "train"), torch.Generator().manual_seed(0))
    assert result.lm.tokenizer.decode(rollout.prompt[0]).endswith("<assistant>")
    guide = replace(
        METHODS["ag-grpo"].tiny, guide=METHODS["ag-grpo"].tiny.guide | {"margin": "fitted"}
    )
    with pytest.raises(ValueError, match="gsm8k has no demonstrations to fit the margin to"):
        guided = Source(result.lm, task, reward, METHODS["ag-grpo"], guide)
        roll_out(guided, task.sample(6, "train"), torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="chain2.*reads no data"):
        config(tmp_path, data=str(tmp_path))


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"dtype": "float16"}, "dtype must be 'float32' or 'bfloat16'"),
        ({"dtype": "bfloat16"}, "set lora_targets"),
        ({"quantize": "4bit"}, "set lora_targets"),
        ({"quantize": "8bit"}, "quantize must be"),
        ({"lora_targets": "some"}, "lora_targets must be '', 'all' or 'published', got 'some'"),
        ({"eval_problems": 0}, "eval_problems must be at least 1: 'chain2' is generated"),
        ({"lora_r": 0}, "lora_r must be a whole number of at least 1, got 0"),
        ({"eval_problems": -1}, "eval_problems must be a whole number of at least 0, got -1"),
        (
            {"eval_problems": 10_000_000},
            "eval_problems must be at most 265, what the validation split",
        ),
    ],
)
def test_bad_settings_of_big_models_say_what_is_wrong(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        config(tmp_path, **changes)


def test_four_bits_on_a_cpu_are_refused(tmp_path):
    with pytest.raises(ValueError, match="on a GPU only"):
        train(config(tmp_path, quantize="4bit", **LORA))


def test_the_command_line_has_every_setting(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train", "--help"])
    main()
    lines = capsys.readouterr().out.splitlines()
    for f in fields(TrainConfig):
        assert sum(line.startswith(f"  {f.name}=") for line in lines) == 1


def test_it_learns_to_please_an_arbitrary_reward(tmp_path):
    """Behaviour, last: the reward is 1 where the answer is below five; its mean rises by over four
    standard errors."""

    def reward(completions, **_):
        return [float(c[-10:-9] in "01234" and c.endswith("</answer>")) for c in completions]

    numbers = {"prompts": 16, "group": 8, "lr": 3e-4, "views": {"k": 4}}
    rows = train(
        config(tmp_path, steps=24, numbers=numbers, eval_every=0, checkpoint_every=24), reward
    ).rows[1:]
    before, after = ([r["reward"] for r in part] for part in (rows[:4], rows[-4:]))
    p, q, n = sum(before) / 4, sum(after) / 4, 4 * 128
    error = math.sqrt(p * (1 - p) / n + q * (1 - q) / n + 1e-9)
    assert q - p > 4 * error * math.sqrt(8), (
        p,
        q,
        error,
    )  # siblings share a prompt: at worst 8 rollouts count as one
