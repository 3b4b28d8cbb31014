"""Several processes are one process: the same curve and weights, whole or split; a death ends all,
and the run goes on."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.files import locked
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import new_tiny_lm
from dllm_rl_lite.processes import check_agreement, own_part
from dllm_rl_lite.run import run
from dllm_rl_lite.sampler import RunningConfidence, Schedule, denoise, join_rollouts
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, collect, complete_checkpoints, launch

# Sums of float32 numbers in another order differ in the last bits, and Adam divides by the root of
# a mean square that can be as small; over these few steps that came to 2e-6 in weights of size 1
# and 4e-4 of a logged value.
WEIGHTS, LOGGED = 1e-5, 2e-3
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def config(folder, **changes) -> TrainConfig:
    settings = {
        "task": "chain2",
        "steps": 3,
        "run_dir": str(folder),
        "eval_problems": 10,
        "eval_every": 2,
        "checkpoint_every": 2,
        "rollout_batch": 8,
        "method": "diffu-grpo",
        "numbers": {"prompts": 5, "group": 4},
    }
    return TrainConfig(**{**settings, **changes})


def memory(run_dir) -> dict:
    """What the run remembers, in its last checkpoint."""
    newest = complete_checkpoints(Path(run_dir))[-1]
    return json.loads((newest / "state.json").read_text())["memory"]


def weights(run_dir) -> dict[str, torch.Tensor]:
    newest = complete_checkpoints(Path(run_dir))[-1]
    return load_file(next((newest / "model").glob("*model.safetensors"))) | load_file(
        newest / "optimizer.safetensors"
    )


def log(run_dir) -> list[dict]:
    """The log without its clocks, and without the rows computed: equal rows in two processes are
    computed twice."""
    with open(Path(run_dir) / "log.csv") as file:
        return [
            {k: float(v) for k, v in row.items() if v and "second" not in k and "computed" not in k}
            for row in csv.DictReader(file)
        ]


def assert_same(one, other):
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=1e-3, atol=WEIGHTS)
    for x, y in zip(log(one), log(other), strict=True):
        assert x == pytest.approx(y, rel=LOGGED, abs=1e-5)
    assert memory(one) == memory(other)


# name -> what differs from `config`: by token, by text, every step, guided and weighed, timed,
# adapters, fewer live rows
RUNS = {
    "token": {},
    "text": {"method": "gdpo", "micro_batch": 3},
    "every step": {"method": "mdpo", "numbers": {"prompts": 4, "group": 4, "order": "rcr"}},
    "guided": {
        "method": "ag-grpo",
        "numbers": {"prompts": 4, "group": 4, "guide": {"rows": 2, "importance": 2.0}},
    },
    "timed": {"method": "ta-agrpo", "numbers": {"prompts": 4, "group": 4}},
    "adapters": {"lora_targets": "published", "lora_r": 4, "lora_dropout": 0.0, "method": "agrpo"},
    "memory": {
        "method": "spo-single",
        "rollout_batch": 4,
        "numbers": {"prompts": 8, "problems": {"pool": 8}},
    },
    "refills": {"method": "dapo-sampling", "numbers": {"prompts": 4, "group": 4}},
    "quirks": {
        "method": "diffu-grpo",
        "numbers": {"prompts": 4, "group": 4, "published_quirks": True},
    },
}
SPLIT = {
    "split": {},
    "split text": {"method": "gdpo"},
    "split bfloat16": {"method": "agrpo", "dtype": "bfloat16"},
}
WORKER = """
import json, sys
from dllm_rl_lite.processes import exit_processes
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig
for settings in json.loads(sys.argv[1]):
    train(TrainConfig(**settings), say=lambda line: None)
exit_processes()
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Every run by two processes (all of them in one start), to be compared with one process."""
    root = tmp_path_factory.mktemp("pairs")
    runs = [config(root / f"two {name}", **changes) for name, changes in RUNS.items()]
    runs += [config(root / f"two {name}", shard=True, **changes) for name, changes in SPLIT.items()]
    # What is remembered is first read back by two processes too.
    runs = [replace(run, steps=2) for run in runs if run.method == "spo-single"] + runs
    (root / "worker.py").write_text(WORKER)
    done = subprocess.run(
        [*TORCHRUN, str(root / "worker.py"), json.dumps([asdict(c) for c in runs])],
        env=ENV,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return root


@pytest.mark.parametrize("name", RUNS)
def test_two_processes_make_the_run_of_one(pairs, name):
    """The same global batch: loss curve, rewards, evaluations and weights, whatever the method."""
    train(config(pairs / f"one {name}", **RUNS[name]), say=lambda line: None)
    assert_same(pairs / f"one {name}", pairs / f"two {name}")
    first = weights(pairs / f"one {name}")
    start = new_tiny_lm().backbone.state_dict()
    assert "model.norm.weight" not in first or not torch.equal(
        first["model.norm.weight"], start["model.norm.weight"]
    )


@pytest.mark.parametrize("name", ["split", "split text"])
def test_split_weights_make_the_run_of_whole_ones(pairs, name):
    train(config(pairs / f"one {name}", **SPLIT[name]), say=lambda line: None)
    assert_same(pairs / f"one {name}", pairs / f"two {name}")


def test_split_weights_in_bfloat16_are_close_to_float32_and_saved_in_it(pairs):
    """Passes in bfloat16 carry 8 bits: the state is float32 and near the float32 run, neither equal
    to it nor lost."""
    train(config(pairs / "one whole", method="agrpo"), say=lambda line: None)
    half, full = weights(pairs / "two split bfloat16"), weights(pairs / "one whole")
    names = [k for k in full if k.endswith("proj.weight")]
    assert all(half[k].dtype == torch.float32 for k in names)
    start = {k: v for k, v in train_start().items() if k in names}
    moved = torch.cat([(full[k] - start[k]).flatten() for k in names])
    theirs = torch.cat([(half[k] - start[k]).flatten() for k in names])
    cosine = torch.nn.functional.cosine_similarity(moved, theirs, 0)
    assert 0.3 < cosine < 0.9999 and 0.5 < theirs.norm() / moved.norm() < 2


def train_start():
    from dllm_rl_lite.models import load_lm

    return load_lm("tiny").backbone.state_dict()


def test_a_split_run_goes_on_with_whole_weights(pairs):
    """Its checkpoint is an ordinary one."""
    train(config(pairs / "two split", steps=4), say=lambda line: None)
    for steps in (3, 4):
        train(config(pairs / "one more", steps=steps), say=lambda line: None)
    assert_same(pairs / "one more", pairs / "two split")


def launched(tmp_path, name="run", **changes) -> TrainConfig:
    return config(tmp_path / name, **{"steps": 5, **changes})


def left(marker: str) -> list[psutil.Process]:
    """Processes whose settings lie in a folder."""
    return [
        p
        for p in psutil.process_iter(["cmdline"])
        if any(marker in word for word in p.info["cmdline"] or []) and p.pid != os.getpid()
    ]


def test_a_killed_worker_ends_the_run_and_it_goes_on(tmp_path, monkeypatch):
    """One of two workers dies without a word: the other is ended, nothing is torn, and one or two
    go on to the same end."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))  # where the settings lie
    c, said = launched(tmp_path), []

    def kill_one(line: str) -> None:
        said.append(line)
        if line.startswith("step   3"):
            workers = [
                p
                for p in left(str(tmp_path))
                if "torch.distributed.run" not in " ".join(p.cmdline())
            ]
            assert len(workers) == 2
            workers[1].send_signal(signal.SIGKILL)

    with pytest.raises(RuntimeError, match="(?s)process [01] was killed by signal 9 .*goes on in"):
        launch(c, 2, kill_one)
    assert not left(str(tmp_path)), "a worker has outlived the run"
    assert [p.name for p in complete_checkpoints(tmp_path / "run")] == ["step-000002"]
    assert not list((tmp_path / "run").rglob("*.new"))
    (tmp_path / "run").rename(tmp_path / "as it was left")
    train(launched(tmp_path, "whole"), say=lambda line: None)
    for processes in (1, 2):
        shutil.copytree(tmp_path / "as it was left", tmp_path / "run")
        said.clear()
        result = train(c, say=said.append) if processes == 1 else launch(c, 2, said.append)
        assert [r["step"] for r in result.rows] == [0, 1, 2, 3, 4, 5]
        assert f"resuming {tmp_path / 'run'} after step 2" in said
        assert_same(tmp_path / "whole", tmp_path / "run")
        shutil.rmtree(tmp_path / "run")


def test_an_interrupt_or_a_failing_reader_leaves_no_worker(tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def stop(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch(launched(tmp_path), 2, stop)
    assert not left(str(tmp_path))


def test_the_message_of_a_failed_worker_is_its_own(tmp_path, monkeypatch):
    """Both fail on a checkpoint that is damaged, or on a folder that another run holds: the reason
    is said, and not torchrun's page about it."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    c = launched(tmp_path, steps=2)
    train(c, say=lambda line: None)
    state = complete_checkpoints(tmp_path / "run")[-1] / "state.json"
    state.write_text("{")
    with pytest.raises(
        RuntimeError, match=r"error in process \d: the checkpoint .*step-000002 is damaged"
    ):
        launch(replace(c, steps=3), 2, lambda line: None)
    with (
        locked(tmp_path / "run" / "run.lock", "it"),
        pytest.raises(RuntimeError, match=r"error in process \d: run_dir '.*run' is in use"),
    ):
        launch(c, 2, lambda line: None)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        launch(c, 0)


def test_a_shell_starts_them_itself_and_the_batch_of_a_run_is_kept(tmp_path):
    """`processes=2` is torchrun; without a rollout_batch the folder remembers the rows of one
    process, and one goes on."""
    shell = [
        sys.executable,
        "-m",
        "dllm_rl_lite.train",
        "task=chain2",
        "eval_problems=8",
        f"run_dir={tmp_path / 'run'}",
        "numbers.prompts=3",
        "numbers.group=4",
        "checkpoint_every=1",
        "eval_every=1",
    ]
    first = subprocess.run(
        [*shell, "steps=1", "processes=2"], env=ENV, capture_output=True, text=True
    )
    assert first.returncode == 0 and "step   1  reward" in first.stdout, first.stderr
    assert json.loads((tmp_path / "run" / "config.json").read_text())["rollout_batch"] == 8
    second = subprocess.run([*shell, "steps=2"], env=ENV, capture_output=True, text=True)
    assert second.returncode == 0 and "after step 1\nstep   2" in second.stdout, second.stderr
    whole = config(
        tmp_path / "whole",
        steps=2,
        eval_problems=8,
        eval_every=1,
        method="agrpo",
        checkpoint_every=1,
        numbers={"prompts": 3, "group": 4},
    )
    train(whole, say=lambda line: None)
    assert_same(tmp_path / "whole", tmp_path / "run")


def test_the_notebook_starts_two_and_reads_what_they_left(tmp_path, monkeypatch):
    """20_train with `processes=2`: its curves and its trained model are those of one process."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(Path(__file__).parents[2])
    settings = dict(
        method="agrpo",  # what merged-path asks for depends on how groups are shared out
        task="chain2",
        steps=2,
        eval_every=1,
        eval_problems=4,
        rollout_batch=4,
        checkpoint_every=2,
    )
    words = [f"{k}={v}" for k, v in settings.items()] + [
        f"run_dir={tmp_path / 'two'}",
        "processes=2",
        "test_problems=6",
    ]
    found = run("notebooks/20_train.ipynb", None, [*words, "numbers={'prompts': 2, 'group': 4}"])
    alone = TrainConfig(
        **settings, run_dir=str(tmp_path / "one"), numbers={"prompts": 2, "group": 4}
    )
    result = train(alone, say=lambda line: None)
    assert_same(tmp_path / "one", tmp_path / "two")
    after = evaluate(result.lm, "chain2", alone.resolved().test_rule(16), 6)
    assert found["finished"] and found["after"]["accuracy"] == after.accuracy
    assert "step   2  reward" in Path(found["notebook"]).read_text()


def test_what_cannot_be_divided_is_said(tmp_path, monkeypatch):
    task, method = load_task("chain2"), METHODS["agrpo"]
    numbers, two = method.numbers("tiny", prompts=2, group=4), task.sample(2, "train")
    with monkeypatch.context() as m:
        m.setattr("dllm_rl_lite.training.experience.process_count", lambda: 3)
        with pytest.raises(ValueError, match="2 problems in 1 parts are too few for 3 processes"):
            collect(new_tiny_lm(), task, task.reward, method, numbers, two, torch.Generator())
    with pytest.raises(
        ValueError, match="shard splits a model over several processes, and this is one"
    ):
        train(config(tmp_path, shard=True))
    with pytest.raises(ValueError, match="whole groups, a multiple of 4, got 6"):
        config(tmp_path, rollout_batch=6)
    with pytest.raises(ValueError, match="shard splits weights that are trained"):
        config(tmp_path, shard=True, lora_targets="all")


def test_processes_that_differ_are_named(monkeypatch):
    monkeypatch.setattr("dllm_rl_lite.processes.gather", lambda items: [*items, "b", "a"])
    with pytest.raises(
        ValueError, match="process 1 has another model than process 0: 'b', not 'a'"
    ):
        check_agreement("model", "a")


@given(st.integers(0, 50), st.integers(1, 9))
def test_shares_are_everything_once_and_even(n, size):
    shares = []
    with pytest.MonkeyPatch.context() as m:
        m.setattr("dllm_rl_lite.processes.process_count", lambda: size)
        for rank in range(size):
            m.setattr("dllm_rl_lite.processes.process_rank", lambda rank=rank: rank)
            shares.append(own_part(list(range(n))))
    assert [i for share in shares for i in share] == list(range(n))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    assert own_part(list(range(n))) == list(range(n))


@pytest.mark.parametrize("rule", [Schedule(4), RunningConfidence(4, "latest")])
def test_joined_rollouts_are_the_rows_of_their_parts(rule):
    """Prompts of different widths and rollouts of different lengths: every canvas of every row is
    as in its own part."""
    lm, parts = new_tiny_lm().eval(), []
    for prompts, steps in ((["1+2", "3-1"], 4), (["1+2-3+4", "5", "6-1"], 8)):
        rule = replace(rule, steps=steps)
        parts.append(
            denoise(
                lm,
                prompts,
                8,
                rule,
                temperature=1.0,
                generator=torch.Generator().manual_seed(steps),
                record=True,
            )
        )
    joined = join_rollouts(parts)
    assert joined.prompt.shape == (5, parts[1].prompt.shape[1]) and joined.predicted.shape == (
        8,
        5,
        8,
    )
    for first, part in ((0, parts[0]), (2, parts[1])):
        rows = joined.select(torch.arange(first, first + len(part.tokens)))
        for step in range(9):
            assert torch.equal(rows.canvas_at(step), part.canvas_at(step))
        kept = rows.prompt[rows.prompt_mask].tolist()
        assert kept == part.prompt[part.prompt_mask].tolist()
        assert torch.equal(rows.predicted[: len(part.predicted)], part.predicted)
        assert (rows.predicted[len(part.predicted) :] == part.tokens).all() and torch.equal(
            rows.logprob, part.logprob
        )
