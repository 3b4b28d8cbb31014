"""The published benchmarks: their files, prompts, splits, gold answers, and d1's figures to the
digit."""

import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite import rewards
from dllm_rl_lite.evaluation.generations import read_generations
from dllm_rl_lite.rewards import latex as equivalence
from dllm_rl_lite.tasks import BENCHMARKS, Benchmark, Example, GeneratedTask, load_task
from dllm_rl_lite.tasks.published import puzzles
from dllm_rl_lite.tasks.published import word_problems as mathematics
from dllm_rl_lite.tasks.published.puzzles import solve
from dllm_rl_lite.tasks.published.splits import leave_out
from dllm_rl_lite.tasks.tiny.sudoku4_worked import forced_cells
from dllm_rl_lite.training import TrainConfig

DATA = Path(__file__).parents[2].parent / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason="the public benchmark files are not here")
FOUR = ["gsm8k", "math500", "countdown", "sudoku4"]


def examples_and_texts(saved: list[dict]) -> tuple[list[Example], list[str]]:
    examples = [Example(row["prompt"], row["answer"], row["columns"]) for row in saved]
    return examples, [row["completion"] for row in saved]


def lines(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def small(tmp_path):
    """A folder with forty train rows and two test rows of each benchmark."""

    def rows(name, split, n):
        if name == "gsm8k":
            return [
                {"question": f"{split} {i}?", "answer": f"Half is <<{i}/2>>{i / 2}.\n#### 1,{i:03}"}
                for i in range(n)
            ]
        if name == "math500":
            return [
                {"problem": f"{split} {i}?", "solution": f"It is $\\boxed{{{i}}}$."}
                for i in range(n)
            ]
        if name == "countdown":
            return [{"nums": [i + 1, 2, 3], "target": i + 6} for i in range(n)] + [
                {"nums": [1, 2, 3, 4], "target": 10}
            ]
        return [{"Puzzle": "0234341221434321", "Solution": "1234341221434321"}] * n

    for name in FOUR:
        folder = tmp_path / name
        folder.mkdir()
        for split, n in (("train", 40), ("test", 2)):
            lines(folder / f"{split}.jsonl", rows(name, split, n))
    return tmp_path


# ---------------------------------------------------------------- loading


@pytest.mark.parametrize("name", FOUR)
def test_a_benchmark_answers_to_the_names_of_a_task(small, name):
    """Splits, sampling, reward, rule, weights and protocol; every column can be saved as JSON."""
    task = load_task(name, str(small / name))
    assert (
        isinstance(task, Benchmark)
        and task.name == name
        and task.length == 256
        and task.prefill == "<reasoning>"
    )
    test = task.sample(0, "test")
    assert len(test) == 2 and task.sample(1, "test", 3) == task.sample(1, "test", 3)
    texts = [
        f"<reasoning>\nx\n</reasoning>\n<answer>\n\\boxed{{{e.answer}}}\n</answer>" for e in test
    ]
    assert task.solved(test, texts) == [1.0, 1.0] and all(
        v > 0 for v in task.rewards_of(test, texts)
    )
    assert task.solved(test, ["", "no"]) == [0.0, 0.0]
    assert all(json.loads(json.dumps(e.columns)) == e.columns for e in test)
    card = task.card_entry()
    assert (
        card["source"] == str(small / name)
        and card["shots"] == 0
        and card["published_quirks"] is False
    )
    with pytest.raises(ValueError, match="holds 2 problems, not 3"):
        task.sample(3, "test")
    with pytest.raises(ValueError, match="unknown split 'tset'; did you mean 'test'"):
        task.sample(1, "tset")


@pytest.mark.parametrize("name", ["gsm8k", "math500", "countdown"])
def test_train_and_validation_are_disjoint_and_prompted_apart(small, name):
    """Together they are the train file; train has the training prompt, validation the evaluation
    prompt."""
    task = load_task(name, str(small / name))
    train, validation, test = (task.read(s) for s in ("train", "validation", "test"))
    assert len(train) + len(validation) == 40 and 0 < len(validation) < 10
    heads = [Counter(e.prompt[:60] for e in s) for s in (train, validation, test)]
    assert (
        len(heads[0]) == 1 and set(heads[1]) == set(heads[2]) and not set(heads[0]) & set(heads[1])
    )
    answers = [e.columns.get("numbers") or e.answer for e in train + validation]
    assert len(set(map(str, answers))) == 40


def test_load_task_says_what_it_cannot_do():
    assert isinstance(load_task("sudoku4"), GeneratedTask) and isinstance(
        load_task("gsm8k"), Benchmark
    )
    assert set(BENCHMARKS) == {*FOUR, "humaneval", "mbpp", "kodcode"}
    for arguments, message in [
        (("gsm8", None), "unknown task 'gsm8'; did you mean 'gsm8k'"),
        (("chain", "x.jsonl"), "'chain' is generated and reads no data"),
        (("sudoku4", None, 3), "pass data= for the published benchmark"),
        (("chain", None, 0, True), "has neither shots nor published_quirks"),
        (("countdown", "x.jsonl", 2), "zero-shot benchmark"),
        (("sudoku4", "x.csv", 4), "shots must be 0 to 3"),
    ]:
        with pytest.raises(ValueError, match=message):
            load_task(*arguments)


def test_the_quirks_of_ta_grpo_d_have_its_name(small):
    """Its MATH reward and its Countdown evaluation, prompt included; d1's for all else."""
    tasks = {}
    for quirks in (True, "ta-grpo-d"):
        for name in FOUR:
            tasks[name, quirks] = load_task(name, str(small / name), 0, quirks)
            assert tasks[name, quirks].card_entry()["published_quirks"] == quirks
    for name in FOUR:
        d1, timed = tasks[name, True], tasks[name, "ta-grpo-d"]
        assert d1.read("train") == timed.read("train")
        examples = d1.read("test")
        assert (examples == timed.read("test")) == (name != "countdown")
        boxed = [f"<answer>\\boxed{{{e.answer}}}</answer>" for e in examples]
        bare = [f"<answer>{e.answer}</answer>" for e in examples]
        scores = [
            [task.rewards_of(examples, texts)[0] for texts in (boxed, bare)] for task in (d1, timed)
        ]
        assert scores[1] == ([3.0, 0.75] if name == "math500" else scores[0])
        verdicts = [
            [task.solved(examples, texts)[0] for texts in (boxed, bare)] for task in (d1, timed)
        ]
        assert verdicts[1] == ([0.0, 1.0] if name == "countdown" else verdicts[0])
    assert "<answer>...</answer>{} tags" in tasks["countdown", "ta-grpo-d"].read("test")[0].prompt
    with pytest.raises(
        ValueError, match="published_quirks must be false, true or 'ta-grpo-d', got 'wd1'"
    ):
        load_task("gsm8k", str(small / "gsm8k"), 0, "wd1")


def test_a_run_of_ta_grpo_d_with_quirks_scores_as_its_release(small):
    for method, quirks in (("ta-grpo-d", "ta-grpo-d"), ("diffu-grpo", True)):
        config = TrainConfig(
            method=method,
            task="math500",
            data=str(small / "math500"),
            numbers={"published_quirks": True},
        )
        assert config.load_task().published_quirks == quirks


def test_nested_tags_in_sudokus_training_reward(small):
    """Ours reads the inner pair, the release from the outer tag on."""
    text = "<answer>2 <answer>1234341221434321</answer>"
    for quirks, wanted in ((False, 1.0), (True, 0.0)):
        task = load_task("sudoku4", str(small / "sudoku4"), 0, quirks)
        assert task.rewards_of(task.read("test")[:1], [text]) == [wanted]


def test_the_hub_is_asked_for_what_d1_asks_for(monkeypatch):
    """Without data: the ids, configurations and splits that reach `datasets`."""
    import datasets

    asked = []

    def fake(name, configuration, split):
        asked.append((name, configuration, split))
        return [{"question": "?", "answer": "#### 1", "problem": "?", "solution": "\\boxed{1}"}]

    monkeypatch.setattr(datasets, "load_dataset", fake)
    for name in ("gsm8k", "math500"):
        for split in ("train", "validation", "test"):
            load_task(name).read(split)
    assert asked == [
        ("openai/gsm8k", "main", "train"),
        ("openai/gsm8k", "main", "train"),
        ("openai/gsm8k", "main", "test"),
        ("ankner/math-500", None, "train"),
        ("ankner/math-500", None, "train"),
        ("HuggingFaceH4/MATH-500", None, "test"),
    ]


@pytest.mark.parametrize(
    "name, row, message",
    [
        (
            "gsm8k",
            {"question": "?", "answer": "18"},
            "line 2: the answer should end in '#### number'",
        ),
        (
            "gsm8k",
            {"question": "?", "answer": "#### many"},
            "line 2: the answer should end in '#### number'",
        ),
        (
            "gsm8k",
            {"query": "?", "answer": "#### 1"},
            "line 2 has no column 'question'; it has 'query', 'answer'",
        ),
        ("math500", {"problem": "?", "solution": "none"}, "line 2: no answer"),
        ("math500", {"problem": "?", "answer": " "}, "line 2: no answer"),
        (
            "math500",
            {"problem": "?", "answer": 3},
            "line 2: column 'answer' should be str, found int 3",
        ),
        (
            "countdown",
            {"input": "1,2,x", "output": "3"},
            "line 2: the numbers should be whole and not negative",
        ),
        (
            "countdown",
            {"nums": [1, 2, 2.5], "target": 3},
            "line 2: the numbers should be whole and not negative",
        ),
        ("countdown", {"input": "1,2,3", "output": "x"}, "line 2: column 'output' should be int"),
        (
            "sudoku4",
            {"Puzzle": "1234", "Solution": "1234341221434321"},
            "line 2: Puzzle '1234' and Solution",
        ),
        (
            "sudoku4",
            {"Puzzle": "2000000000000000", "Solution": "1234341221434321"},
            "no 4x4 Sudoku",
        ),
        ("sudoku4", {"Puzzle": "0" * 16, "Solution": "1234123412341234"}, "no 4x4 Sudoku"),
    ],
)
def test_a_malformed_row_is_named(tmp_path, name, row, message):
    good = {
        "gsm8k": {"question": "?", "answer": "#### 1"},
        "math500": {"problem": "?", "answer": "1"},
        "countdown": {"input": "1,2,3", "output": "6"},
        "sudoku4": {"Puzzle": "0" * 16, "Solution": "1234341221434321"},
    }[name]
    path = lines(tmp_path / "test.jsonl", [good, row])
    with pytest.raises(
        ValueError, match="test.jsonl " + message if message.startswith("line") else message
    ):
        load_task(name, path).read("test")


# ---------------------------------------------------------------- prompts


@pytest.mark.parametrize(
    "text, digest",
    [
        (mathematics.GSM8K_PROMPTS[0], "b572620952d6664f"),
        (mathematics.GSM8K_PROMPTS[1], "eba85d27b988984b"),
        (mathematics.MATH_PROMPTS[0], "8df86e3c601dbdd7"),
        (mathematics.MATH_PROMPTS[1], "02dbe3668eec1841"),
        (puzzles.COUNTDOWN_TRAINING, "5a3700a32ccf0d4b"),
        (puzzles.COUNTDOWN_EVALUATION, "acc220dd4d10e33e"),
        (puzzles.TIMED_COUNTDOWN_EVALUATION, "a5d23c95b9b9d83a"),
        (puzzles.SUDOKU, "62871aec2a525734"),
    ],
)
def test_prompts_are_the_published_ones_to_the_letter(text, digest):
    """The digests were taken from the releases' own strings; a changed letter changes what is
    measured."""
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == digest


def test_a_countdown_prompt_in_full(small):
    task = load_task("countdown", str(small / "countdown"))
    train, test = task.read("train")[0], task.read("test")[0]
    assert train.prompt.startswith(
        "\nRespond in the following format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n"
        "</answer>\n\nUsing only the numbers [1, 2, 3], create an arithmetic expression that "
        "evaluates to exactly 6."
    )
    assert test.prompt.endswith("</answer>\n\nNumbers: [1, 2, 3]\nTarget: 6")


@pytest.mark.parametrize("name", ["gsm8k", "math500"])
def test_shots_are_fixed_come_from_train_and_leave_it(small, name):
    """The same worked examples before every question, in the format asked for, and no longer
    problems to train on."""
    task, again = (load_task(name, str(small / name), shots=2) for _ in range(2))
    plain = load_task(name, str(small / name))
    test = task.read("test")
    assert test == again.read("test") and len(task.read("train")) == len(plain.read("train")) - 2
    prompt = test[0].prompt
    assert prompt.count("Question: ") == 3 and prompt.endswith("Question: test 0?\nAnswer:\n")
    assert (
        prompt.count("Question: train ") == 2
        and prompt.count("<answer>\n\\boxed{") == 3
        and "<<" not in prompt
    )
    assert ("<answer>\n\\boxed{" in task.read("train")[0].prompt) == (name == "math500")
    shown = set(re.findall(r"Question: (train \d+\?)", prompt))
    assert all(
        e.prompt.split("Question: ")[-1].split("\n")[0] not in shown for e in task.read("train")
    )
    assert task.card_entry()["shots"] == 2 and "2 worked examples" in task.card_entry()["prompt"]
    with pytest.raises(ValueError, match="shots must be 0 to "):
        load_task(name, str(small / name), shots=99).read("test")


def test_sudoku_shots_are_valid_puzzles(small):
    for puzzle in puzzles.SUDOKU_SHOTS:
        forced = forced_cells(puzzle)
        assert len(forced) == puzzle.count("0") == 8
        solution = "".join(forced.get(i, given) for i, given in enumerate(puzzle))
        assert rewards.sudoku_correct(f"\\boxed{{{solution}}}", puzzle, solution) == 1.0
        assert puzzles.units_hold(solution, puzzles.ROWS_AND_COLUMNS + puzzles.BOXES)
    prompt = load_task("sudoku4", str(small / "sudoku4"), shots=3).read("test")[0].prompt
    assert prompt.count("Solve the following Sudoku puzzle: ") == 4
    assert prompt.endswith(
        "\n\nQuestion: Solve the following Sudoku puzzle: 0234341221434321\n\nAnswer:\n"
    )


# ---------------------------------------------------------------- splits and solutions


def test_leave_out_is_d1s_split():
    """The last 500 of what `datasets` shuffles with seed 42; a twentieth of a small set."""
    from datasets import Dataset

    examples = [Example(str(i), "") for i in range(12_000)]
    last = set(list(Dataset.from_dict({"i": list(range(12_000))}).shuffle(seed=42)["i"])[-500:])
    assert {int(e.prompt) for e in leave_out(examples, "validation")} == last
    assert leave_out(examples, "train") == [e for e in examples if int(e.prompt) not in last]
    assert (
        len(leave_out(examples[:100], "validation")) == 5
        and len(leave_out(examples[:100], "train")) == 95
    )
    assert leave_out(examples[:3], "validation") == []


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 99), min_size=1, max_size=4), st.integers(1, 99))
def test_solve_gives_a_right_expression(numbers, target):
    """Whatever it finds has the target's value and uses each number once."""
    text = solve(numbers, target)
    if text:
        value, used = rewards.evaluate_expression(text)
        assert value == target and used == Counter(numbers)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=3, max_size=3),
    st.permutations([0, 1, 2]),
    st.lists(st.sampled_from("+-*/"), min_size=2, max_size=2),
    st.booleans(),
)
def test_solve_misses_nothing(numbers, order, signs, left):
    """Any target that some expression of three numbers reaches is reached."""
    a, b, c = (numbers[i] for i in order)
    text = (
        f"({a} {signs[0]} {b}) {signs[1]} {c}" if left else f"{a} {signs[0]} ({b} {signs[1]} {c})"
    )
    found = rewards.evaluate_expression(text)
    if found is not None:
        assert solve(numbers, found[0]) != ""


def test_solve_by_hand():
    assert (
        solve([1, 1, 1], 50) == ""
        and solve([8, 3, 3], 1) != ""
        and solve([2, 3, 4], 2) == solve([2, 3, 4], 2)
    )
    assert (
        solve([1, 2, 3], 6) == "1 + 2 + 3" and solve([10, 4, 2], 3) == "(10 - 4) / 2"
    )  # brackets where they are needed


# ---------------------------------------------------------------- the real files


@real
@pytest.mark.parametrize("split, n", [("train", 7092), ("validation", 381), ("test", 1319)])
def test_gold_answers_of_gsm8k_earn_full_marks(split, n):
    """All 8792, boxed after a prefill, and in tags with reasoning on two lines for the training
    reward."""
    task = load_task("gsm8k", str(DATA / "gsm8k"))
    examples = task.read(split)
    assert len(examples) == n
    boxed = [
        f"\nx\n</reasoning>\n<answer>\n\\boxed{{{e.answer}}}\n</answer><|eot_id|>" for e in examples
    ]
    tagged = [f"<reasoning>\nx\ny\n</reasoning>\n<answer>\n{e.answer}\n</answer>" for e in examples]
    assert set(task.solved(examples, boxed)) == set(task.solved(examples, tagged)) == {1.0}
    assert set(task.rewards_of(examples, tagged)) == {4.0}


@real
def test_gold_answers_of_gsm8k_by_the_published_rule():
    """98 of 8792 cannot be right by it: 93 with thousands separators, 5 below zero. Two lines of
    working cost the format."""
    task = load_task("gsm8k", str(DATA / "gsm8k"), published_quirks=True)
    examples = [e for split in ("train", "validation", "test") for e in task.read(split)]
    right = task.solved(examples, [f"\\boxed{{{e.answer}}}" for e in examples])
    wrong = [e.answer for e, is_right in zip(examples, right, strict=True) if not is_right]
    assert (
        len(wrong) == 98
        and sum("," in a for a in wrong) == 93
        and sum(a[0] == "-" for a in wrong) == 5
    )
    tagged = [
        f"<reasoning>\nx\ny\n</reasoning>\n<answer>\n{e.answer}\n</answer>\n" for e in examples
    ]
    assert Counter(task.rewards_of(examples, tagged)) == {3.0: 8694, 2.5: 98}


@real
def test_gold_answers_of_math500_earn_full_marks():
    """All 500 by both rules and rewards; and math-verify itself reads each of them, not only the
    comparison of strings."""
    default, quirks = (
        load_task("math500", str(DATA / "math500"), published_quirks=q) for q in (False, True)
    )
    examples = default.read("test")
    texts = [
        f"<reasoning>\nx\n</reasoning>\n<answer>\n\\boxed{{{e.answer}}}\n</answer>"
        for e in examples
    ]
    assert len(examples) == 500 and set(default.solved(examples, texts)) == set(
        quirks.solved(examples, texts)
    ) == {1.0}
    assert set(default.rewards_of(examples, texts)) == {3.0} and set(
        quirks.rewards_of(examples, texts)
    ) == {2.75}
    assert all(equivalence._child([(e.answer, e.answer) for e in examples]))
    moved = texts[1:61]  # another problem's answer is wrong, but where two in a row agree
    agree = [
        float(a.answer == b.answer) for a, b in zip(examples[:60], examples[1:61], strict=True)
    ]
    assert default.solved(examples[:60], moved) == agree


@real
@pytest.mark.parametrize("quirks", [False, True])
def test_gold_answers_of_the_puzzles_earn_full_marks(quirks):
    """500 valid Sudokus with eight blanks; 256 Countdown problems, each with a solution."""
    for name, n, reward in (("sudoku4", 500, 1.0), ("countdown", 256, 1.0)):
        task = load_task(name, str(DATA / name), published_quirks=quirks)
        examples = task.read("test")
        texts = [f"<reasoning>\nx\n</reasoning>\n<answer>\n{e.answer}\n</answer>" for e in examples]
        assert len(examples) == n and set(task.rewards_of(examples, texts)) == {reward}
        boxed = texts if name == "sudoku4" else [f"\\boxed{{{e.answer}}}" for e in examples]
        assert set(task.solved(examples, boxed)) == {1.0}
        assert {task.weigh(e) for e in examples} == {8.0 if name == "sudoku4" else 1.0}


FIGURES = {  # rows, d1's figure, the default rule's, rows where the default is higher and lower
    "gsm8k": (1130, 783 / 1130, 786 / 1130, 3, 0),
    "math500": (500, 130 / 500, 145 / 500, 15, 0),
    "countdown": (256, 53 / 256, 54 / 256, 1, 0),
    "sudoku4": (256, 240 / 2048, 32 / 2048, 0, 101),
}


@real
@pytest.mark.parametrize("name", FOUR)
def test_lladas_saved_generations_score_as_published(name):
    """69.29, 26.0, 20.70 and 11.72 % by d1's rules; the default rules differ in as many rows as
    stated."""
    n, published, default, higher, lower = FIGURES[name]
    path = DATA / "llada_generations" / f"{name.removesuffix('4')}_128_64.jsonl"
    examples, texts = examples_and_texts(read_generations(path, name))
    scores, means = [], []
    for quirks in (True, False):
        task = load_task(name, str(DATA / name), published_quirks=quirks)
        scores.append(task.solved(examples, texts))
        weights = [task.weigh(e) for e in examples]
        means.append(np.dot(scores[-1], weights) / sum(weights))
    assert len(examples) == n and means == pytest.approx([published, default], abs=1e-12)
    differs = np.sign(np.array(scores[1]) - np.array(scores[0]))
    assert ((differs > 0).sum(), (differs < 0).sum()) == (higher, lower)


@real
def test_d1_keeps_no_negative_gold_answer():
    """Two of its 1130 GSM8K rows have none; both texts are right by the data set's own answer."""
    test = load_task("gsm8k", str(DATA / "gsm8k")).read("test")
    gold = {e.prompt.removeprefix(mathematics.GSM8K_PROMPTS[1]): e for e in test}
    saved = read_generations(DATA / "llada_generations" / "gsm8k_128_64.jsonl", "gsm8k")
    examples, texts = examples_and_texts(saved)
    without = [
        (gold[e.prompt].answer, t) for e, t in zip(examples, texts, strict=True) if not e.answer
    ]
    assert len(without) == 2 and all(
        a.startswith("-") and rewards.gsm8k_correct(t, a) for a, t in without
    )
    assert all(
        rewards.number(e.answer) == rewards.number(gold[e.prompt].answer)
        for e in examples
        if e.answer
    )


# ---------------------------------------------------------------- generations of other people

D1 = {
    "gsm8k": {"question": "q", "generations": "t<|eot_id|>", "ground_truth": 18.0},
    "math500": {"question": "q", "generations": "t", "ground_truth": "\\frac{1}{2}"},
    "countdown": {"question": "q", "generations": "t", "ground_truth": [[1, 2, 3], 6]},
    "sudoku4": {
        "question": "Solve the following Sudoku puzzle: 0234341221434321\n",
        "generations": "t",
        "ground_truth": "1234341221434321",
    },
}
EXAMPLES = {
    "gsm8k": Example("q", "18"),
    "math500": Example("q", "\\frac{1}{2}"),
    "countdown": Example("q", "1 + 2 + 3", {"numbers": [1, 2, 3], "target": 6}),
    "sudoku4": Example(
        D1["sudoku4"]["question"], "1234341221434321", {"puzzle": "0234341221434321"}
    ),
}


@pytest.mark.parametrize("name", FOUR)
def test_d1s_rows_become_examples(tmp_path, name):
    """From jsonl and from its evaluator's json; the text as it was saved, special tokens
    included."""
    plain = lines(tmp_path / "a.jsonl", [D1[name]] * 2)
    whole = tmp_path / "a.json"
    whole.write_text(json.dumps({"generations": [D1[name]] * 2, "metrics": {}}))
    saved = read_generations(plain, name)
    assert read_generations(whole, name) == saved and {row["task"] for row in saved} == {name}
    assert examples_and_texts(saved) == ([EXAMPLES[name]] * 2, [D1[name]["generations"]] * 2)


@pytest.mark.parametrize(
    "name, change, message",
    [
        ("gsm8k", {"ground_truth": "many"}, "line 2: column 'ground_truth' should be float"),
        ("gsm8k", {"generations": None}, "line 2: column 'generations' should be str"),
        ("math500", {"ground_truth": 3}, "line 2: column 'ground_truth' should be str"),
        (
            "countdown",
            {"ground_truth": [1, 2]},
            r"line 2: ground_truth should be \[\[numbers\], target\]",
        ),
        (
            "countdown",
            {"ground_truth": [[1, "2"], 3]},
            r"line 2: ground_truth should be \[\[numbers\], target\]",
        ),
        ("sudoku4", {"question": "Solve 0234"}, "line 2: the question should hold a puzzle"),
        (
            "sudoku4",
            {"ground_truth": "1234"},
            "line 2: the question should hold a puzzle and ground_truth its solution",
        ),
    ],
)
def test_a_malformed_generation_is_named(tmp_path, name, change, message):
    path = lines(tmp_path / "a.jsonl", [D1[name], D1[name] | change])
    with pytest.raises(ValueError, match="a.jsonl " + message):
        read_generations(path, name)


def test_files_that_are_no_generations(tmp_path):
    with pytest.raises(FileNotFoundError, match="no saved generations at"):
        read_generations(tmp_path / "missing.jsonl", "gsm8k")
    with pytest.raises(ValueError, match="unknown task of d1's generations 'humaneval'"):
        read_generations(lines(tmp_path / "a.jsonl", [D1["gsm8k"]]), "humaneval")
    for text, message in [
        ("{", "is not JSON"),
        ('{"metrics": 1}', "should hold a list"),
        ("[]", "has no rows"),
        ("[1]", "item 1 should be an object"),
    ]:
        (tmp_path / "a.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read_generations(tmp_path / "a.json", "gsm8k")


def test_a_csv_keeps_the_leading_zeros_of_a_puzzle(tmp_path):
    with open(tmp_path / "test.csv", "w", newline="") as file:
        csv.writer(file).writerows(
            [["Puzzle", "Solution"], ["0034341221434321", "1234341221434321"]]
        )
    (example,) = load_task("sudoku4", str(tmp_path)).read("test")
    assert (
        example.columns["puzzle"] == "0034341221434321"
        and load_task("sudoku4", str(tmp_path)).weigh(example) == 2.0
    )
