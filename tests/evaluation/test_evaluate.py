"""Accuracy and its interval; texts that are saved, resumed and scored again; the protocol card; two
runs compared."""

import itertools
import json
import math
import statistics
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.evaluate import RunOptions, ScoringOptions, evaluate, main
from dllm_rl_lite.evaluation import (
    accuracy_interval,
    differences,
    paired_comparison,
    pass_at,
    pass_at_k,
    read_run,
    rescore,
    rescored,
    wilson,
)
from dllm_rl_lite.evaluation.cards import format_card
from dllm_rl_lite.models import fingerprint, new_tiny_lm
from dllm_rl_lite.sampler import Decoding, Schedule, Threshold

WARM = Decoding(temperature=1.0)
SMALL = {"hidden": 32, "layers": 1, "heads": 2, "feed_forward": 64}


@pytest.fixture(scope="module")
def lm():
    return new_tiny_lm(**SMALL).eval()


def test_wilson_has_its_coverage():
    """Over all outcomes of n = 40 the interval covers p with probability near 95 %, exactly summed,
    for several p."""
    n = 40
    for p in (0.1, 0.3, 0.5, 0.9):
        law = torch.distributions.Binomial(n, torch.tensor(p, dtype=torch.float64))
        covered = sum(
            law.log_prob(torch.tensor(float(k))).exp().item()
            for k in range(n + 1)
            if wilson(k, n)[0] <= p <= wilson(k, n)[1]
        )
        assert 0.92 < covered < 0.98
    assert wilson(0, 10)[0] == 0 and wilson(10, 10)[1] == 1
    with pytest.raises(ValueError, match="0 <= right <= n"):
        wilson(3, 2)


@given(
    st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n)))
)
def test_pass_at_k_is_the_share_of_subsets_with_a_right_text(nck):
    n, right, k = nck
    subsets = list(itertools.combinations(range(n), k))
    assert pass_at_k(right, n, k) == pytest.approx(
        sum(min(s) < right for s in subsets) / len(subsets)
    )


def test_pass_at_k_is_unbiased():
    """Summed exactly over the binomial law of the count, the estimate is 1 - (1 - p)^k."""
    n, p = 7, 0.3
    for k in range(1, n + 1):
        mean = sum(
            math.comb(n, c) * p**c * (1 - p) ** (n - c) * pass_at_k(c, n, k) for c in range(n + 1)
        )
        assert mean == pytest.approx(1 - (1 - p) ** k, abs=1e-12)
    with pytest.raises(ValueError, match="1 <= k <= samples"):
        pass_at_k(1, 4, 5)


def test_texts_of_one_problem_are_not_independent():
    """Ten problems, half of them always solved: eight texts of each tell no more about the problems
    than one text does."""
    mean, low, high = accuracy_interval([8] * 5 + [0] * 5, samples=8)
    alone = wilson(5, 10)
    naive = wilson(40, 80)
    assert mean == 0.5
    assert high - low > 1.5 * (naive[1] - naive[0])
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.5)
    assert accuracy_interval([1, 0, 1, 1], samples=1) == (0.75, *wilson(3, 4))
    assert accuracy_interval([8] * 6, samples=8) == (
        1.0,
        *wilson(6, 6),
    )  # a width even where all shares are equal
    with pytest.raises(ValueError, match="counts within"):
        accuracy_interval([3], samples=2)


def test_the_sign_test_and_the_paired_interval_by_hand():
    first = {"a": 1.0, "b": 0.0, "c": 0.0, "d": 0.0, "e": 1.0, "only first": 1.0}
    second = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 0.0, "e": 0.0, "only second": 1.0}
    found = paired_comparison(first, second)
    assert (found.n, found.both, found.first_only, found.second_only, found.neither) == (
        5,
        1,
        1,
        2,
        1,
    )
    differences_ = [0, 1, 1, 0, -1]
    half = 2.7764 * statistics.stdev(differences_) / math.sqrt(5)
    assert found.difference == pytest.approx(0.2)
    assert (found.low, found.high) == (pytest.approx(0.2 - half), pytest.approx(0.2 + half))
    assert found.p == pytest.approx(1.0)  # 1 of 3 heads: 2 (1 + 3) / 8, capped
    six = {str(i): 1.0 for i in range(6)}
    assert paired_comparison({k: 0.0 for k in six}, six).p == pytest.approx(2 / 2**6)
    with pytest.raises(ValueError, match="share 0 problems"):
        paired_comparison({"a": 1.0}, {"b": 1.0})


def test_batch_size_does_not_change_a_greedy_evaluation(lm):
    one, many = (evaluate(lm, "python", Threshold(0.3), n=12, batch=b) for b in (1, 12))
    assert [g["completion"] for g in one.generations] == [g["completion"] for g in many.generations]
    assert one.mean_forwards == many.mean_forwards
    assert not differences(one.card, many.card)


def test_a_stopped_evaluation_goes_on_to_the_same_texts(lm, tmp_path):
    """Sampled texts, three a problem, killed at every kind of place: the file ends as it would
    have."""
    path = tmp_path / "run.jsonl"

    def run():
        return evaluate(lm, "chain2", WARM, n=5, samples=3, batch=4, save=path)

    whole = run()
    wanted = [g["completion"] for g in whole.generations]
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 1 + 15
    for kept in (
        "".join(lines),
        "".join(lines[:6]),
        "".join(lines[:5]),
        "".join(lines[:9]) + lines[9][:20],
        lines[0],
    ):
        path.write_text(kept)
        again = run()
        assert [g["completion"] for g in again.generations] == wanted
        assert [g["completion"] for g in read_run(path)[1]] == wanted
        assert (again.accuracy, again.pass_at) == (whole.accuracy, whole.pass_at)
    calls = []
    evaluate(lm, "chain2", WARM, n=5, samples=3, batch=4, save=path, say=calls.append)
    assert not calls  # nothing was left to do


def test_a_save_file_of_another_evaluation_is_refused(lm, tmp_path):
    path = tmp_path / "run.jsonl"
    evaluate(lm, "chain2", n=4, save=path)
    before = path.read_text()
    for other, named in (
        ({"seed": 1}, "problem_seed"),
        ({"n": 5}, "problems"),
        ({"decoding": Decoding(length=12)}, "length"),
        ({"decoding": Schedule(4)}, "rule"),
    ):
        with pytest.raises(ValueError, match=rf"another evaluation .*{named}"):
            evaluate(lm, "chain2", **({"n": 4} | other), save=path)
    with pytest.raises(ValueError, match="weights"):
        evaluate(new_tiny_lm(**SMALL, seed=1).eval(), "chain2", n=4, save=path)
    assert path.read_text() == before


def test_the_card_names_what_decides_a_number(lm):
    report = evaluate(lm, "sudoku4", n=3, split="validation", checkpoint_rule="last")
    text = report.describe()
    for part in (
        str(report),
        "split ",
        "validation",
        "Schedule(steps=10",
        "temperature",
        "eos ",
        "problem seed",
        "checkpoint rule",
        "last",
        fingerprint(lm),
        "transformers",
        "shots",
        "published quirks",
    ):
        assert part in text
    json.dumps(report.card)
    assert format_card({"a_b": 1, "c": {"x": "2"}}) == "  a b  1\n  c    x 2"
    changed = new_tiny_lm(**SMALL).eval()
    assert fingerprint(changed) == fingerprint(lm)
    with torch.no_grad():
        changed.backbone.lm_head.weight[0, 0] += 1
    assert fingerprint(changed) != fingerprint(lm)


def test_several_texts_a_problem(lm):
    with pytest.raises(ValueError, match="4 times the same text"):
        evaluate(lm, "chain2", n=2, samples=4)
    with pytest.raises(ValueError, match="samples must be at least 1, got 0"):
        evaluate(lm, "chain2", n=2, samples=0)
    report = evaluate(lm, "python", WARM, n=6, samples=4)
    assert len(report.generations) == 24 and sorted(report.pass_at) == [1, 2, 4]
    by_problem = [[g["reward"] for g in report.generations if g["item"] == i] for i in range(6)]
    assert report.pass_at[4][0] == pytest.approx(statistics.fmean(max(r) == 1 for r in by_problem))
    assert report.pass_at[1][0] == pytest.approx(report.accuracy)
    assert report.pass_at == {
        k: pass_at([int(sum(r)) for r in by_problem], 4, k) for k in (1, 2, 4)
    }


def test_length_is_the_canvas(lm):
    report = evaluate(lm, "chain2", Decoding(length=12), n=2)
    assert report.card["length"] == 12 and report.mean_forwards == 6


def test_saved_generations_score_again(lm, tmp_path):
    report = evaluate(lm, "countdown", n=6)
    path = tmp_path / "generations.jsonl"
    report.save(path)
    assert rescore(path) == [g["reward"] for g in report.generations]
    assert rescore(path, lambda completions, **_: [float(len(c)) for c in completions]) == [
        float(len(g["completion"])) for g in report.generations
    ]
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join(
            [*lines[:2], '{"prompt": "x", "task": "countdown", "completion": ""}', *lines[3:]]
        )
    )
    with pytest.raises(ValueError, match=r"generations.jsonl line 3 .*KeyError: 'answer'"):
        rescore(path)
    with pytest.raises(FileNotFoundError, match="no saved generations"):
        rescore(tmp_path / "none.jsonl")


def test_right_answers_count_and_wrong_ones_do_not(tmp_path):
    """Accuracy from saved texts is the share of right answers: 3 of 4 put in by hand."""
    from dllm_rl_lite.tasks import load_task

    examples = load_task("chain").sample(4, "test", 0)
    path = tmp_path / "g.jsonl"
    rows = [
        {
            "task": "chain",
            "prompt": e.prompt,
            "answer": e.answer,
            "columns": e.columns,
            "completion": f"<answer>{e.answer if i else 'x'}</answer>",
        }
        for i, e in enumerate(examples)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    assert rescore(path) == [0.0, 1.0, 1.0, 1.0]


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12))
def test_intervals_hold_their_point_and_stay_inside(counts):
    for mean, low, high in (accuracy_interval(counts, 4), pass_at(counts, 4, 2)):
        assert 0 <= low <= mean <= high <= 1


DATA = Path(__file__).parents[2].parent / "shared" / "data" / "llada_generations"


def shell(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "dllm_rl_lite.evaluate", *words], capture_output=True, text=True
    )


def test_the_command_line_evaluates_resumes_rescores_and_compares(tmp_path):
    files = [str(tmp_path / f"{n}.jsonl") for n in (1, 2)]
    for file, steps in zip(files, ("8", "2"), strict=True):
        first = shell("run", "tiny", "chain2", "problems=12", f"steps={steps}", f"save={file}")
        assert (
            first.returncode == 0
            and "12 of 12 texts" in first.stdout
            and f"Schedule(steps={steps}" in first.stdout
        )
    again = shell("run", "tiny", "chain2", "problems=12", "steps=2", f"save={files[1]}")
    assert again.returncode == 0 and "12 of 12 texts" not in again.stdout  # nothing left to do
    assert "of 12 texts right" in shell("rescore", files[0]).stdout
    pair = shell("compare", *files).stdout
    assert "rule  Schedule(steps=8" in pair and "over 12 shared problems" in pair
    other = shell("run", "tiny", "chain2", "problems=13", "steps=2", f"save={files[1]}")
    assert other.returncode == 1 and "holds another evaluation (problems 12 -> 13" in other.stderr
    unknown = shell("run", "tiny", "chian2", f"save={files[0]}")
    assert unknown.returncode == 1 and "did you mean 'chain2'" in unknown.stderr
    assert "Traceback" not in other.stderr + unknown.stderr


@pytest.mark.parametrize(
    "words, said",
    [
        (
            ["run", "tiny", "chain2", "problmes=3"],
            "unknown parameter 'problmes'; did you mean 'pro",
        ),
        (["run", "tiny", "chain2", "problems=3"], "give save=FILE"),
        (["run", "tiny", "problems=3"], "run takes 2 names before name=value, got ['tiny']"),
        (["run", "tiny", "chain2", "--problems", "3"], "write name=value"),
        (["evaluate", "tiny", "chain2"], "unknown command 'evaluate'"),
    ],
)
def test_the_command_line_names_what_it_cannot_read(monkeypatch, words, said):
    monkeypatch.setattr(sys, "argv", ["evaluate", *words])
    with pytest.raises(SystemExit) as caught:
        main()
    assert said in caught.value.code


def test_the_command_line_lists_every_option(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["evaluate"])
    main()
    shown = capsys.readouterr().out
    assert all(f"\n  {f.name}=" in shown for f in (*fields(RunOptions), *fields(ScoringOptions)))


@pytest.mark.skipif(not DATA.is_dir(), reason="the stored LLaDA generations are not here")
@pytest.mark.parametrize(
    "file, task, figure",
    [
        ("gsm8k", "gsm8k", "783 of 1130 texts right, 69.29 %"),
        ("countdown", "countdown", "53 of 256 texts right, 20.70 %"),
        ("math500", "math500", "130 of 500 texts right, 26.00 %"),
        ("sudoku", "sudoku4", "mean score 11.72 %"),
    ],
)
def test_stored_llada_texts_rescore_to_the_published_figures(file, task, figure):
    assert figure in str(rescored(DATA / f"{file}_128_64.jsonl", task, published_quirks=True))


def test_foreign_generations_need_their_task(tmp_path):
    path = tmp_path / "d1.jsonl"
    row = {"question": "1+1?", "generations": "<answer>\\boxed{2}</answer>", "ground_truth": 2.0}
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(ValueError, match="pass task="):
        rescored(path)
    assert rescored(path, "gsm8k").values == [1.0]
    with pytest.raises(ValueError, match="known: countdown, gsm8k, math500, sudoku4"):
        rescored(path, "mbpp")


@pytest.mark.parametrize("kind", ["llada", "Dream"])
def test_a_published_checkpoint_is_evaluated_on_a_benchmark_from_the_shell(kind, tmp_path):
    """A folder in the family's own layout (random weights) and a GSM8K file: the README's
    command."""
    write_checkpoint(
        tmp_path / "model", kind, max_sequence_length=2048, max_position_embeddings=2048
    )
    rows = [
        {
            "question": f"What is {n} + {n}?",
            "answer": f"It is <<{n}+{n}={2 * n}>>{2 * n}.\n#### {2 * n}",
        }
        for n in range(3)
    ]
    (tmp_path / "gsm8k_test.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    save = str(tmp_path / "runs" / "texts.jsonl")
    done = shell(
        "run",
        str(tmp_path / "model"),
        "gsm8k",
        f"data={tmp_path / 'gsm8k_test.jsonl'}",
        "length=16",
        "steps=4",
        "block_length=8",
        f"save={save}",
    )
    assert done.returncode == 0, done.stderr
    assert "3 of 3 texts" in done.stdout
    made, texts = read_run(save)
    assert (
        made["prefill"] == "<reasoning>"
        and made["rule"].startswith("Schedule(steps=4")
        and made["block_length"] == 8
    )
    assert made["model"] == str(tmp_path / "model") and len(texts) == 3
    assert "0 of 3 texts right" in shell("rescore", save).stdout
