"""Accuracy and its interval; texts that are saved, resumed and scored again; the protocol card; two
runs compared."""

import codecs
import errno
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st

import dllm_rl_lite.evaluate as evaluation
import dllm_rl_lite.evaluation.saved as saved
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
from dllm_rl_lite.evaluation.report import make_report
from dllm_rl_lite.models import fingerprint, new_tiny_lm
from dllm_rl_lite.sampler import Decoding, Schedule, Threshold
from dllm_rl_lite.tasks import load_task

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
    """Ten problems, half of them nearly always solved: eight texts of each tell hardly more about
    the problems than one text does."""
    mean, low, high = accuracy_interval([7 / 8] * 5 + [1 / 8] * 5)
    alone = wilson(5, 10)
    naive = wilson(40, 80)
    assert mean == 0.5
    assert high - low > 1.5 * (naive[1] - naive[0])
    assert high - low == pytest.approx(alone[1] - alone[0], rel=0.5)
    assert accuracy_interval([1, 0, 1, 1]) == (0.75, *wilson(3, 4))
    for share in (0.5, 1.0):  # a width even where all shares are equal
        assert accuracy_interval([share] * 6) == (share, *wilson(round(6 * share), 6))
    for bad in ([], [1.5], [float("nan")]):
        with pytest.raises(ValueError, match="at least one problem and shares within 0..1"):
            accuracy_interval(bad)


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
    assert not {"top_k", "cache", "left_out"} & report.card.keys()  # only if they are used
    hot = Decoding(temperature=1.0, top_k=5, cache="dual", block_length=4)
    card = evaluate(lm, "chain2", hot, n=2).card
    assert (card["top_k"], card["cache"], card["batch"]) == (5, "dual", 128)
    assert format_card({"a_b": 1, "c": {"x": "2"}}) == "  a b  1\n  c    x 2"
    changed = new_tiny_lm(**SMALL).eval()
    assert fingerprint(changed) == fingerprint(lm)
    with torch.no_grad():
        changed.backbone.lm_head.weight[0, 0] += 1
    assert fingerprint(changed) != fingerprint(lm)


def test_several_texts_a_problem(lm):
    with pytest.raises(ValueError, match="4 times the same text"):
        evaluate(lm, "chain2", n=2, samples=4)
    with pytest.raises(ValueError, match="samples must be a whole number of at least 1, got 0"):
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
    with pytest.raises(ValueError, match=r"generations.jsonl line 3 .*it has no column 'answer'"):
        rescore(path)
    with pytest.raises(FileNotFoundError, match="no saved generations"):
        rescore(tmp_path / "none.jsonl")


def test_right_answers_count_and_wrong_ones_do_not(tmp_path):
    """Accuracy from saved texts is the share of right answers: 3 of 4 put in by hand."""
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


def test_a_file_of_several_texts_a_problem_has_one_interval(lm, tmp_path):
    """`rescore` and `evaluate` say the same of it: an interval over problems, not over texts. Half
    a file has one too, although its last problem has fewer texts."""
    path = tmp_path / "texts.jsonl"
    report = evaluate(lm, "chain2", WARM, n=12, samples=4, batch=6, save=path)
    rewards = [[0.0, 0.0, 1.0, 1.0]] * 6 + [[0.0] * 4] * 3 + [[1.0] * 4] * 3
    lines = path.read_text().splitlines()
    examples = [json.loads(line) for line in lines[1:]]
    for row, reward in zip(examples, itertools.chain(*rewards), strict=True):
        row["completion"] = f"<answer>{row['answer'] if reward else 'x'}</answer>"
    path.write_text("\n".join([lines[0], *map(json.dumps, examples)]))
    mean, low, high = accuracy_interval([0.5] * 6 + [0.0] * 3 + [1.0] * 3)
    said = str(rescored(path))
    assert f"24 of 48 texts right, 50.00 % [{100 * low:.2f}, {100 * high:.2f}] over 12 p" in said
    assert high - low > 1.4 * (wilson(24, 48)[1] - wilson(24, 48)[0])
    pairs = zip(report.generations, rescore(path), strict=True)
    right = [row | {"reward": reward} for row, reward in pairs]
    task = load_task("chain2")
    evaluated = make_report(task, task.sample(12, "test", 0), right, report.card)
    assert (evaluated.accuracy, evaluated.low, evaluated.high) == (mean, low, high)
    path.write_text("\n".join(path.read_text().splitlines()[: 1 + 30]))
    shares = [0.5] * 6 + [0.0] + [0.0]
    percent = [100 * value for value in accuracy_interval(shares)]
    assert "{:.2f} % [{:.2f}, {:.2f}] over 8 p".format(*percent) in str(rescored(path))


def test_two_evaluations_cannot_share_a_save_file(lm, tmp_path):
    """The second is refused while the first runs, whose file is then what it would have been."""
    path = tmp_path / "texts.jsonl"
    refused = []

    def start_another(line):
        with pytest.raises(ValueError, match="texts.jsonl is in use: another process works on it"):
            evaluate(lm, "chain2", n=8, batch=4, save=path)
        refused.append(line)

    report = evaluate(lm, "chain2", n=8, batch=4, save=path, say=start_another)
    assert len(refused) == 2 and len(read_run(path)[1]) == len(report.generations) == 8
    assert list(tmp_path.iterdir()) == [path]


def test_texts_that_two_evaluations_mixed_are_refused(lm, tmp_path):
    path = tmp_path / "texts.jsonl"
    evaluate(lm, "chain2", n=8, save=path)
    lines = path.read_text().splitlines(keepends=True)
    for mixed in (lines + lines[1:], lines[:1] + lines[2:], lines[:1] + lines[:0:-1]):
        path.write_text("".join(mixed))
        with pytest.raises(ValueError, match="does not hold the texts of this evaluation in their"):
            evaluate(lm, "chain2", n=8, save=path)
        assert path.read_text() == "".join(mixed)


def test_a_file_without_a_text_blocks_nobody(lm, tmp_path):
    """Empty, or begun by an evaluation that failed before its first batch."""
    path = tmp_path / "texts.jsonl"
    evaluate(lm, "chain2", n=4, save=path)
    whole = path.read_text()
    card = whole.splitlines()[0]
    other = json.dumps({"protocol": {"task": "sudoku4"}})
    for begun in ("", "\n", card, card[:40], other + "\n", other):
        path.write_text(begun)
        evaluate(lm, "chain2", n=4, save=path)
        card_and_texts, rows = read_run(path)
        assert card_and_texts == json.loads(card)["protocol"] and len(rows) == 4


@pytest.mark.parametrize("text", ["hello", "# notes\n", "[1]", '{"a": 1}\n', "x\ny\n"])
def test_a_file_of_something_else_is_never_overwritten(lm, tmp_path, text):
    path = tmp_path / "notes.md"
    path.write_text(text)
    with pytest.raises(ValueError, match="notes.md line 1 is not a saved generation"):
        evaluate(lm, "chain2", n=4, save=path)
    assert path.read_text() == text and list(tmp_path.iterdir()) == [path]


def test_an_evaluation_that_fails_leaves_its_texts_and_the_next_goes_on(lm, tmp_path, monkeypatch):
    """A disk that is full at the second batch: what to do is said, and nothing is lost."""
    path = tmp_path / "texts.jsonl"
    whole = evaluate(lm, "chain2", n=8, batch=4)
    append = evaluation.append_rows
    calls = []

    def full(*arguments):
        calls.append(1)
        if len(calls) > 1:
            monkeypatch.setattr(saved, "open", raise_full, raising=False)
        append(*arguments)

    def raise_full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(evaluation, "append_rows", full)
    with pytest.raises(RuntimeError, match="No space left on device.: make room, then the same"):
        evaluate(lm, "chain2", n=8, batch=4, save=path)
    monkeypatch.undo()
    assert len(read_run(path)[1]) == 4
    again = evaluate(lm, "chain2", n=8, batch=4, save=path)
    wanted = [g["completion"] for g in whole.generations]
    assert [g["completion"] for g in again.generations] == wanted


def test_prompts_that_do_not_fit_are_found_before_the_first_pass(tmp_path, monkeypatch):
    """One long prompt, the last: an error that counts, or a report without it that says so."""
    lm = new_tiny_lm(**SMALL, max_length=40).eval()
    plain = load_task("chain2")
    examples = plain.sample(5, "test", 0)
    long = replace(examples[-1], prompt="1" * 60)
    monkeypatch.setattr(type(plain), "sample", lambda *_: [*examples[:-1], long])
    passes = []
    lm.backbone.model.register_forward_hook(lambda *_: passes.append(1))
    path = tmp_path / "texts.jsonl"
    ask = partial(evaluate, lm, plain, Decoding(length=12), n=5, batch=2, save=path)
    with pytest.raises(
        ValueError,
        match="1 of 5 problems do not fit: a canvas of 12 leaves 28 of "
        "the model's 40 tokens, and the longest prompt has 62; .*skip_long=true",
    ):
        ask()
    assert not passes and not path.exists()
    report = ask(skip_long=True)
    assert (report.n, report.card["problems"], report.card["left_out"]) == (4, 4, 1)
    assert "of 4 (1 left out, their prompts are too long)" in str(report)
    assert "1 left out" in str(rescored(path))
    with pytest.raises(ValueError, match=r"5 of 5 problems do not fit: .*of 40 leaves 0 "):
        evaluate(lm, plain, Decoding(length=40), n=5, skip_long=True)
    monkeypatch.undo()
    assert "left_out" not in evaluate(lm, plain, Decoding(length=12), n=4, skip_long=True).card


ODD = [
    *[({name: odd}, name) for name in ("n", "seed") for odd in (-1, 1.5, "3", None, True)],
    *[({name: odd}, name) for name in ("samples", "batch") for odd in (0, -1, 1.5, "3", None)],
    ({"save": ""}, "save must name a file"),
    ({"save": "."}, "save must name a file"),
    ({"decoding": Decoding(top_p=0.9)}, "top_p 0.9 .* no effect at temperature 0"),
    ({"decoding": Decoding(top_k=3)}, "top_k 3 have no effect at temperature 0"),
]


@pytest.mark.parametrize("arguments, named", ODD, ids=str)
def test_arguments_that_cannot_be_are_named_in_one_line(lm, tmp_path, arguments, named):
    with pytest.raises(ValueError, match=named) as error:
        evaluate(lm, "chain2", **({"n": 4} | arguments))
    assert "\n" not in str(error.value)


def saved_rows(tmp_path, task="chain2"):
    examples = load_task(task).sample(3, "test", 0)
    return [
        {"task": task, "prompt": e.prompt, "completion": f"\u2028{e.answer}\x85 <answer>{e.answer}"
         "</answer> \u2029\x0b\x0c\x1c", "answer": e.answer, "columns": e.columns}
        for e in examples
    ]  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n \n"])
@pytest.mark.parametrize("start", [b"", codecs.BOM_UTF8, b"\n \n", codecs.BOM_UTF8 + b"\r\n"])
def test_lines_end_at_line_feeds_alone(tmp_path, start, end):
    """Blank lines, a byte-order mark, and in a row what Unicode calls an end of a line."""
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) + end for row in saved_rows(tmp_path)]
    path.write_bytes(start + "".join(lines).encode())
    assert rescore(path) == [1.0] * 3


def test_files_are_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = [json.dumps(row, ensure_ascii=False) for row in saved_rows(tmp_path)]
    path.write_text("\n".join(lines), encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    words = [sys.executable, "-m", "dllm_rl_lite.evaluate", "rescore", str(path)]
    done = subprocess.run(words, capture_output=True, text=True, env=os.environ | locale)
    assert "3 of 3 texts right" in done.stdout


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "line, said",
    [
        ('{"protocol": null}', "column 'protocol' should be dict, found NoneType"),
        ('{"protocol": [1]}', "column 'protocol' should be dict, found list"),
        ('{"protocol": 3}', "column 'protocol' should be dict, found int"),
        ("3", "it should be an object, found int"),
        ("[1, 2]", "it should be an object, found list"),
        ("null", "it should be an object, found NoneType"),
        ('"protocol"', "it should be an object, found str"),
        (DEEP, "RecursionError"),
        ('{"completion": ' + DEEP, "RecursionError"),
        ({"columns": [1]}, "column 'columns' should be dict, found list"),
        ({"completion": None}, "column 'completion' should be str, found NoneType"),
        ({"answer": 3}, "column 'answer' should be str, found int"),
        ({"task": ["chain2"]}, "column 'task' should be str, found list"),
        ({"item": [1]}, "column 'item' should be int, found list"),
        ({"reward": "x"}, "column 'reward' should be float, found str"),
        (b"\xff\xfe{", "UnicodeDecodeError"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_damaged_line_is_named(tmp_path, line, said):
    path = tmp_path / "texts.jsonl"
    rows = saved_rows(tmp_path)
    if isinstance(line, dict):
        line = json.dumps(rows[1] | line)
    if isinstance(line, str):
        line = line.encode()
    lines = [json.dumps(rows[0]).encode(), line, json.dumps(rows[2]).encode()]
    path.write_bytes(b"\n".join(lines))
    for read in (rescored, rescore, read_run):
        with pytest.raises(ValueError, match=f"texts.jsonl line 2 is not a saved gen.*{said}"):
            read(path)


@pytest.mark.parametrize("text", [DEEP, "[1]", "3", "null", "[]", '{"generations": 3}', ""])
def test_a_damaged_file_of_d1s_is_named(tmp_path, text):
    path = tmp_path / "texts.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="texts.json (is not|should hold|has no|item 1 should)"):
        rescored(path, "gsm8k")


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=12))
def test_intervals_hold_their_point_and_stay_inside(counts):
    shares = [count / 4 for count in counts]
    for mean, low, high in (accuracy_interval(shares), pass_at(counts, 4, 2)):
        assert 0 <= low <= mean <= high <= 1


DATA = Path(__file__).parents[2].parent / "shared" / "data" / "llada_generations"


@pytest.fixture
def command(monkeypatch, capsys):
    """A function: runs the program with these words, returns what it printed."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["evaluate", *words])
        main()
        return capsys.readouterr().out

    return run


def test_the_command_line_evaluates_resumes_rescores_and_compares(tmp_path, command):
    files = [str(tmp_path / f"{n}.jsonl") for n in (1, 2)]
    for file, steps in zip(files, ("8", "2"), strict=True):
        first = command("run", "tiny", "chain2", "problems=12", f"steps={steps}", f"save={file}")
        assert "12 of 12 texts" in first and f"Schedule(steps={steps}" in first
    again = command("run", "tiny", "chain2", "problems=12", "steps=2", f"save={files[1]}")
    assert "12 of 12 texts" not in again  # nothing left to do
    assert "of 12 texts right" in command("rescore", files[0])
    pair = command("compare", *files)
    assert "rule  Schedule(steps=8" in pair and "over 12 shared problems" in pair
    with pytest.raises(SystemExit, match="holds another evaluation .problems 12 -> 13"):
        command("run", "tiny", "chain2", "problems=13", "steps=2", f"save={files[1]}")
    with pytest.raises(SystemExit, match="did you mean 'chain2'"):
        command("run", "tiny", "chian2", f"save={files[0]}")


@pytest.mark.parametrize("word", ["steps=4", "order=random"])
def test_a_threshold_takes_the_place_of_a_schedule(tmp_path, command, word):
    with pytest.raises(SystemExit, match="leave out steps and order"):
        command("run", "tiny", "chain2", "threshold=0.9", word, f"save={tmp_path / 'x.jsonl'}")
    assert not list(tmp_path.iterdir())


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
    path.write_bytes(codecs.BOM_UTF8 + b"\n" + json.dumps(row).encode() + b"\r\n\n")
    with pytest.raises(ValueError, match="pass task="):
        rescored(path)
    assert rescored(path, "gsm8k").values == [1.0]
    with pytest.raises(ValueError, match="known: countdown, gsm8k, math500, sudoku4"):
        rescored(path, "mbpp")


@pytest.mark.parametrize("kind", ["llada", "Dream"])
def test_a_published_checkpoint_is_evaluated_on_a_benchmark(kind, tmp_path, command):
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
    done = command(
        "run",
        str(tmp_path / "model"),
        "gsm8k",
        f"data={tmp_path / 'gsm8k_test.jsonl'}",
        "length=16",
        "steps=4",
        "block_length=8",
        f"save={save}",
    )
    assert "3 of 3 texts" in done
    made, texts = read_run(save)
    assert (
        made["prefill"] == "<reasoning>"
        and made["rule"].startswith("Schedule(steps=4")
        and made["block_length"] == 8
    )
    assert made["model"] == str(tmp_path / "model") and len(texts) == 3
    assert "0 of 3 texts right" in command("rescore", save)
