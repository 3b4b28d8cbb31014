"""A run's folder and its checkpoints: one process and one run in it, each checkpoint of one step,
base and data; what is not the run's is left alone; nothing is lost to a full disk or to NaN."""

import contextlib
import json
import random
import resource
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dllm_rl_lite.files import MIB, new_folder
from dllm_rl_lite.models import new_tiny_lm
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig, complete_checkpoints, finished
from dllm_rl_lite.training.checkpoint import damaged, save_checkpoint
from dllm_rl_lite.training.run_dir import data_fingerprint, own_run_dir

LORA = {"lora_targets": "all", "lora_r": 2, "lora_alpha": 4.0}


def reward(completions, **columns) -> list[float]:
    """One that also an untrained model gets now and then."""
    return [float(sum(map(ord, text)) % 3) for text in completions]


def go(config: TrainConfig):
    """Train without printing."""
    return train(config, reward, lambda line: None)


def small_model(folder, seed: int = 0) -> str:
    lm = new_tiny_lm(hidden=32, layers=1, heads=2, feed_forward=32, max_length=512, seed=seed)
    lm.save_pretrained(folder)
    return str(folder)


@pytest.fixture
def config(tmp_path) -> TrainConfig:
    return TrainConfig(
        task="chain2",
        model=small_model(tmp_path / "model"),
        preset="tiny",
        steps=2,
        run_dir=str(tmp_path / "run"),
        eval_problems=2,
        eval_every=0,
        checkpoint_every=1,
        numbers={"prompts": 2, "group": 4, "lr": 1e-3},
    )


class Apart:
    """A run in a process of its own: what it has said so far, line by line."""

    def __init__(self, forks, config: TrainConfig):
        self.lines, writing = forks.Pipe(duplex=False)
        self.process = forks.Process(target=go_apart, args=[config, writing])
        self.process.start()
        writing.close()

    def wait_for(self, start: str) -> None:
        """Until it says a line that starts so."""
        while not self.lines.recv().startswith(start):
            pass

    def last_line(self) -> str:
        """Once it has ended."""
        self.process.join()
        line = ""
        with contextlib.suppress(EOFError):
            while True:
                line = self.lines.recv()
        return line

    def kill(self) -> None:
        self.process.kill()
        self.process.join()


def go_apart(config: TrainConfig, lines) -> None:
    """Its last line is the reason where the run is refused."""
    torch.set_num_threads(1)
    try:
        train(config, reward, lines.send)
    except ValueError as error:
        lines.send(str(error))
        sys.exit(1)


def newest(config: TrainConfig) -> Path:
    return complete_checkpoints(config_dir(config))[-1]


def config_dir(config: TrainConfig) -> Path:
    return Path(config.run_dir)


def contents(folder) -> dict[str, bytes]:
    """Every file of a checkpoint, but for the seconds in its log."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    state = json.loads(found["state.json"])
    for row in state["rows"]:
        for name in [name for name in row if "second" in name]:
            del row[name]
    return found | {"state.json": json.dumps(state)}


def test_two_runs_in_one_folder_at_once(config, forks):
    """While one lives the other refuses, whether it is the same run or another; a killed one gives
    the folder free, and it stays its configuration's from its first step on."""
    long = replace(config, steps=10**6, checkpoint_every=10**6)
    first = Apart(forks, long)
    try:
        first.wait_for("step   0")
        for other in (long, replace(long, seed=1)):
            with pytest.raises(ValueError, match=r"run_dir '.*run' is in use.*choose another"):
                go(other)
    finally:
        first.kill()
    assert not complete_checkpoints(config_dir(config))
    with pytest.raises(ValueError, match=r"holds another run \(seed 0 -> 1\)"):
        go(replace(long, seed=1))
    assert go(config).rows[-1]["step"] == 2


def test_two_runs_that_start_together_end_as_one(config, forks):
    """One has the folder, the other says so: the weights are those of the seed in config.json."""
    pair = [Apart(forks, replace(config, seed=seed)) for seed in (0, 1)]
    last = [one.last_line() for one in pair]
    codes = [one.process.exitcode for one in pair]
    assert sorted(codes) == [0, 1], last
    winner = codes.index(0)
    assert "is in use" in last[1 - winner] or "holds another run" in last[1 - winner]
    assert json.loads((config_dir(config) / "config.json").read_text())["seed"] == winner
    alone = replace(config, seed=winner, run_dir=config.run_dir + " alone")
    go(alone)
    assert contents(newest(alone)) == contents(newest(config))


def test_adapters_killed_at_random_moments_end_bit_for_bit_the_same(config, forks):
    """Also in the middle of a save: every file but for the clock. (test_train.py kills runs of
    whole weights.)"""
    rng = random.Random(17)
    whole = replace(config, steps=3, **LORA)
    go(whole)
    killed = replace(whole, run_dir=config.run_dir + " killed")
    for step in (0, 1):
        apart = Apart(forks, killed)
        apart.wait_for(f"step   {step}")
        time.sleep(rng.random() / 5)
        apart.kill()
    go(killed)
    assert contents(newest(whole)) == contents(newest(killed))
    saved = complete_checkpoints(config_dir(whole))
    two = [load_file(next(f.glob("model/*.safetensors"))) for f in saved]
    assert any(not torch.equal(two[0][name], two[1][name]) for name in two[0]), "nothing was learnt"


def test_a_checkpoint_is_of_one_step_run_base_and_data(config, tmp_path):
    """A changed base is refused with whole weights too: a KL penalty would draw to another one."""
    rows = [{"question": f"{a}+1", "answer": f"so\n#### {a + 1}"} for a in range(9)]
    data = tmp_path / "data"
    data.mkdir()

    def write(rows):
        for split in ("train", "test"):
            text = "\n".join(map(json.dumps, rows))
            (data / f"{split}.jsonl").write_text(text)

    write(rows)
    for adapters in ({}, LORA):
        c = replace(
            config,
            task="gsm8k",
            data=str(data),
            length=16,
            eval_split="test",
            run_dir=f"{config.run_dir} {len(adapters)}",
            **adapters,
        )
        go(replace(c, steps=1))
        checkpoints = config_dir(c) / "checkpoints"
        write([*rows[:-1], rows[-1] | {"answer": "#### 4"}])
        with pytest.raises(ValueError, match=r"of another run \(data file '\w+' -> '\w+'\)"):
            go(c)
        write(rows)
        small_model(tmp_path / "model", seed=1)
        with pytest.raises(ValueError, match=r"of another run \(base model .*bring back"):
            go(c)
        small_model(tmp_path / "model")
        one = newest(c)
        one.rename(checkpoints / "step-000007")
        with pytest.raises(ValueError, match="step-000007 holds step 1: give the folder its old"):
            go(c)
        (checkpoints / "step-000007").rename(one)
        state = json.loads((one / "state.json").read_text())
        state["identity"]["seed"] = 5
        (one / "state.json").write_text(json.dumps(state))
        for read in (lambda c: go(c), finished):
            with pytest.raises(ValueError, match=r"of another run \(seed 5 -> 0\)"):
                read(c)
        del state["identity"]  # as before checkpoints said so: it goes on
        (one / "state.json").write_text(json.dumps(state))
        assert go(c).rows[-1]["step"] == 2
    assert data_fingerprint(config.load_task(), ["train"]) == "generated"


def test_only_what_the_run_made_is_deleted(config):
    """Copies and notes of a person stay, and do not mislead; halves of killed processes go."""
    go(replace(config, steps=1))
    checkpoints = config_dir(config) / "checkpoints"
    shutil.copytree(checkpoints / "step-000001", checkpoints / "step-000001-keep")
    (checkpoints / "step-notes").mkdir()
    (checkpoints / "step-000009.txt").write_text("a good one")
    (checkpoints / "step-000010").write_text("a file")
    for half in ("step-000002.new", "step-000000.old"):
        (checkpoints / half / "model").mkdir(parents=True)
    go(replace(config, steps=4))
    assert sorted(path.name for path in checkpoints.iterdir()) == [
        "step-000001-keep",
        "step-000003",
        "step-000004",
        "step-000009.txt",
        "step-000010",
        "step-notes",
    ]
    assert not (config_dir(config) / "run.lock").exists()


def test_checkpoints_are_ordered_by_their_numbers(tmp_path):
    for step in (1_000_000, 999_999, 7):
        (tmp_path / "checkpoints" / f"step-{step:06d}").mkdir(parents=True)
    found = [path.name for path in complete_checkpoints(tmp_path)]
    assert found == ["step-000007", "step-999999", "step-1000000"]


@pytest.mark.parametrize(
    "name, is_folder, message",
    [
        ("log.csv", True, "log.csv is a folder, where a run writes a file"),
        ("config.json", True, "config.json is a folder"),
        ("checkpoints", False, "checkpoints is a file, where a run has a folder"),
        ("", False, "run is a file"),
        ("config.json", False, "config.json cannot be read"),
    ],
)
def test_a_folder_where_something_else_stands_is_refused(config, name, is_folder, message):
    place = config_dir(config) / name
    place.parent.mkdir(parents=True, exist_ok=True)
    if is_folder:
        place.mkdir()
    else:
        place.write_text("mine")
    with pytest.raises(ValueError, match=message):
        go(config)
    assert place.is_dir() or place.read_text() == "mine"


def test_the_config_of_a_model_is_not_overwritten(config):
    before = (config_dir(config).parent / "model" / "config.json").read_text()
    with pytest.raises(ValueError, match="config.json is not a run's"):
        go(replace(config, run_dir=config.model))
    assert (config_dir(config).parent / "model" / "config.json").read_text() == before


def test_a_start_that_fails_leaves_the_folder_to_others(config):
    """Nothing of the run was done, so nothing is claimed."""
    with pytest.raises(ValueError, match="shard splits a model over several"):
        go(replace(config, shard=True, seed=3))
    assert go(replace(config, steps=1)).rows[-1]["step"] == 1


def test_a_full_disk_loses_nothing_and_says_what_to_free(config):
    """No file may be longer than the weights' half: the limit of the system stands for the disk."""
    go(replace(config, steps=1))
    before = contents(newest(config))
    weights = newest(config) / "model" / "model.safetensors"
    limit = weights.stat().st_size // 2

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RuntimeError) as caught:
            go(config)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    said = str(caught.value).splitlines()
    assert said[0].startswith("step 2 of agrpo on chain2: cannot write") and "MiB left" in said[0]
    assert said[1:] == [f"last good checkpoint: {newest(config)}"]
    needed = float(said[0].partition("it takes ")[2].split()[0])
    assert 2 * limit / MIB < needed < 8 * limit / MIB  # with the optimiser's two moments
    folder = config_dir(config) / "checkpoints"
    assert [path.name for path in folder.iterdir()] == ["step-000001"]
    assert contents(newest(config)) == before
    assert go(config).rows[-1]["step"] == 2


@pytest.mark.parametrize("file", ["model/model.safetensors", "optimizer.safetensors"])
def test_a_checkpoint_of_nan_is_named(config, file):
    go(config)
    path = newest(config) / file
    tensors = load_file(path)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[-1] = float("nan")
    save_file(tensors, path, metadata={"format": "pt"})
    message = f"holds NaN or infinity in .*{name}.*delete this"
    with pytest.raises(ValueError, match=message):
        go(replace(config, steps=3))
    if file.startswith("model"):
        with pytest.raises(ValueError, match=message):
            finished(config)


def test_weights_of_nan_are_not_saved(config, monkeypatch):
    """They are named with the step, and the last good checkpoint stays."""
    go(replace(config, steps=1))

    def spoil(optimizer, *arguments, **named):
        optimizer.param_groups[0]["params"][0].data.view(-1)[-1] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", spoil)
    with pytest.raises(FloatingPointError, match="(?s)step 2 .*is not finite.*lower lr.*000001"):
        go(config)
    assert newest(config).name == "step-000001"


def test_what_may_be_whole_is_not_to_be_deleted(config, monkeypatch, tmp_path):
    """Memory that runs out and missing rights are no damage."""
    go(replace(config, steps=1))

    def full(*arguments):
        raise torch.OutOfMemoryError("no memory left")

    monkeypatch.setattr("dllm_rl_lite.training.checkpoint.load_file", full)
    with pytest.raises(torch.OutOfMemoryError, match="^no memory left$"):
        go(config)
    said = str(damaged(tmp_path, PermissionError(13, "Permission denied")))
    assert "make it readable" in said and "delete" not in said


def test_the_other_processes_hear_why_the_first_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr("dllm_rl_lite.training.run_dir.process_rank", lambda: 1)
    monkeypatch.setattr("dllm_rl_lite.training.run_dir.gather", lambda items: ["it is in use", ""])
    with pytest.raises(ValueError, match="^it is in use$"), own_run_dir(tmp_path / "run"):
        pass
    assert not (tmp_path / "run").exists()


def test_folders_of_one_second_differ(tmp_path, monkeypatch):
    monkeypatch.setattr("time.strftime", lambda form: "20260131-235959")
    names = [new_folder(tmp_path / "runs").name for _ in range(3)]
    assert names == ["20260131-235959", "20260131-235959-2", "20260131-235959-3"]


def test_a_checkpoint_of_the_same_step_is_replaced_whole(tmp_path):
    lm = new_tiny_lm(hidden=32, layers=1, heads=2, feed_forward=32)
    optimizer = torch.optim.AdamW(lm.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1.0)
    for rows in ([{"step": 1}], [{"step": 1, "again": True}]):
        folder = save_checkpoint(
            tmp_path, 1, lm, optimizer, scheduler, rows=rows, identity={"seed": 0}
        )
        assert json.loads((folder / "state.json").read_text())["rows"] == rows
    assert [path.name for path in folder.parent.iterdir()] == ["step-000001"]
