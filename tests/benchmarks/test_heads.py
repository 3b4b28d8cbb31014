"""The record of head, depth and causal model: every part makes its rows, once."""

import heads
import pandas as pd
import pytest

from dllm_rl_lite.models import load_lm
from dllm_rl_lite.tasks import load_task


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(heads, "PROBLEMS", {"chain1": 3, "chain2": 3})
    sizes = {"ROWS": 2, "ROLLOUTS": 1, "TUNING": 2, "STEPS": 2, "PAIRED": 1}
    for name, size in sizes.items():
        monkeypatch.setattr(heads, name, size)
    monkeypatch.setattr(heads, "DEPTHS", ((4, 5), (4, 2)))


def test_each_part_is_recorded_once(small, tmp_path, capsys):
    out = tmp_path / "heads.csv"
    heads.main(["--seeds", "0", "--out", str(out)])
    table = pd.read_csv(out)
    assert table.groupby("part").size().to_dict() == {
        "causal": 2,
        "depth": 4,
        "head": 6,
        "result and answer": 2,
        "result and copy": 2,
        "rising depth": 1,
    }
    assert not table.duplicated(list(heads.KEY)).any()
    depth = table[table.part.isin(["depth", "rising depth"])]
    passes = {5: 20, 2: 5 + 4 + 3 + 2}
    assert (depth.layer_passes == depth.least.map(passes)).all()
    assert len(capsys.readouterr().out.splitlines()) == len(table)
    heads.main(["--seeds", "0", "--out", str(out)])
    assert capsys.readouterr().out == ""


def test_valid_texts_have_no_mistake_but_the_habit():
    task = load_task("chain1")
    tokenizer = load_lm("tiny").tokenizer
    examples = task.sample(1, "test", 0)
    a, sign, b = examples[0].prompt
    right = examples[0].answer
    other = str((int(right) + 1) % 10)
    texts = {
        f"{a}{sign}{b}={right}<answer>{right}</answer>": (1, 1),
        f"{a}{sign}{b}={other}<answer>{right}</answer>": (1, 0),
        f"{a}{sign}{b}={other}<answer>{other}</answer>": (0, 0),
    }
    for text, (solved, valid) in texts.items():
        tokens = tokenizer([text], add_special_tokens=False, return_tensors="pt")["input_ids"]
        found = heads.scores(tokenizer, task, examples, tokens)
        assert (found["right"], found["valid"]) == (solved, valid), text
