"""Accuracy, its interval, and saved generations that score again."""

import json

import pytest
import torch

from dllm_rl_lite.evaluate import evaluate, rescore, wilson
from dllm_rl_lite.model import new_tiny_lm
from dllm_rl_lite.rules import Threshold

SMALL = {"hidden": 32, "layers": 1, "heads": 2, "feed_forward": 64}


def test_wilson_has_its_coverage():
    """Over all outcomes of n = 40 the interval covers p with probability near 95 %, exactly summed, for several p."""
    n = 40
    for p in (0.1, 0.3, 0.5, 0.9):
        law = torch.distributions.Binomial(n, torch.tensor(p, dtype=torch.float64))
        covered = sum(law.log_prob(torch.tensor(float(k))).exp().item() for k in range(n + 1)
                      if wilson(k, n)[0] <= p <= wilson(k, n)[1])
        assert 0.92 < covered < 0.98
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    with pytest.raises(ValueError, match="0 <= right <= n"):
        wilson(3, 2)


def test_batch_size_does_not_change_a_greedy_evaluation():
    lm = new_tiny_lm(**SMALL).eval()
    one, many = (evaluate(lm, "python", rule=Threshold(0.3), n=12, batch=b) for b in (1, 12))
    assert [g["completion"] for g in one.generations] == [g["completion"] for g in many.generations]
    assert one.mean_forwards == many.mean_forwards


def test_saved_generations_score_again(tmp_path):
    report = evaluate(new_tiny_lm(**SMALL).eval(), "countdown", n=6)
    path = tmp_path / "generations.jsonl"
    report.save(path)
    assert rescore(path) == [g["reward"] for g in report.generations]
    assert rescore(path, lambda completions, **_: [float(len(c)) for c in completions]) \
        == [float(len(g["completion"])) for g in report.generations]
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], '{"prompt": "x"}', *lines[3:]]))
    with pytest.raises(ValueError, match=r"generations.jsonl line 3 .*KeyError: 'answer'"):
        rescore(path)
    with pytest.raises(FileNotFoundError, match="no saved generations"):
        rescore(tmp_path / "none.jsonl")


def test_right_answers_count_and_wrong_ones_do_not(tmp_path):
    """Accuracy from saved texts is the share of right answers: 3 of 4 put in by hand."""
    from dllm_rl_lite.tasks import load_task

    examples = load_task("chain").sample(4, "test", 0)
    path = tmp_path / "g.jsonl"
    rows = [{"task": "chain", "prompt": e.prompt, "answer": e.answer, "columns": e.columns,
             "completion": f"<answer>{e.answer if i else 'x'}</answer>"} for i, e in enumerate(examples)]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert rescore(path) == [0.0, 1.0, 1.0, 1.0]
