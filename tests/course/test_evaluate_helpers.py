"""What *Evaluate* draws and prints shows the numbers that it is given; a rewritten prompt leaves
the problems as they are."""

import random
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pytest
from dllm_rl_course.evaluate_helpers import (
    draw_checkpoints,
    draw_frontier,
    draw_pass_at,
    print_completion,
    with_prompt,
    worked_examples,
)

from dllm_rl_lite.evaluation import wilson
from dllm_rl_lite.tasks import load_task


@dataclass
class Made:
    """What the drawings read of a report."""

    mean_forwards: float
    accuracy: float
    low: float
    high: float
    n: int = 100


@pytest.fixture
def ax():
    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def points(line):
    return list(zip(*line.get_data(), strict=True))


def test_a_frontier_has_a_point_and_a_label_for_each_decoder(ax):
    reports = {"t1": Made(16, 0.2, 0.1, 0.3), "L16 p0.8": Made(4, 0.3, 0.2, 0.4)}
    draw_frontier(ax, reports, colour="C0", name="base")
    drawn = [container.lines[0] for container in ax.containers]
    assert [points(line) for line in drawn] == [[(16, 20)], [(4, 30)]]
    assert [line.get_marker() for line in drawn] == ["o", "s"]
    assert [text.get_text() for text in ax.texts] == list(reports)
    assert ax.get_legend_handles_labels()[1] == ["base"], "one entry for all points"


def test_pass_at_k_is_drawn_in_percent(ax):
    curves = {"a": [(0.1, 0.0, 0.2), (0.5, 0.4, 0.6)], "b": [(0.2,) * 3] * 2, "c": [(1,) * 3] * 2}
    draw_pass_at(ax, [1, 2], curves)
    assert points(ax.lines[0]) == [(1, 10), (2, 50)]
    assert [line.get_label() for line in ax.lines] == ["a", "b", "c"]


def test_the_best_checkpoint_of_each_split_has_the_star(ax):
    test = [Made(8, share, 0, 1) for share in (0.2, 0.4, 0.3)]
    shares = zip((0, 2, 4), (0.1, 0.2, 0.5), test, strict=True)
    draw_checkpoints(ax, [{"step": s, "validation": v, "test": t} for s, v, t in shares])
    stars = [points(line) for line in ax.lines if line.get_marker() == "*"]
    assert stars == [[(4, 50)], [(2, 40)]]
    low, high = wilson(20, 100)
    edges = ax.collections[1].get_paths()[0].vertices[:, 1]
    assert edges.min() == pytest.approx(100 * low) and edges.max() > 100 * high


def test_a_completion_is_printed_with_both_rewards(capsys):
    said = "so 2 </answer>" + "<|endoftext|>" * 3
    print_completion(
        "gsm8k 0", {"prompt": "1+1?", "completion": said, "answer": "2"}, ours=1.0, theirs=0.0
    )
    out = capsys.readouterr().out
    assert out.startswith("gsm8k 0: gold 2, reward by our rules 1, by d1's 0\n1+1?\n\nso 2")
    assert "[and 3 tokens <|endoftext|>]" in out


def test_another_prompt_leaves_the_problems_and_the_verifier():
    task = load_task("chain2")
    rewritten = with_prompt(task, lambda prompt: prompt + "=")
    before = task.sample(20, "test", 0)
    after = rewritten.sample(20, "test", 0)
    assert [e.prompt + "=" for e in before] == [e.prompt for e in after]
    assert [e.answer for e in before] == [e.answer for e in after]
    assert [e.columns["bare"] for e in after] == [e.prompt for e in before]
    for old, new in zip(before, after, strict=True):
        text = task.demonstrate(old, random.Random(0), 1.0)
        assert rewritten.shows_habit(new, text) == task.shows_habit(old, text)


def test_worked_examples_are_right_training_problems():
    task = load_task("chain2")
    lines = worked_examples(task, 3, 0.0).splitlines()
    known = {e.prompt: e for e in task.sample(3, "train", 5)}
    assert [line.split(" ")[0] for line in lines] == list(known)
    for line in lines:
        prompt, text = line.split(" ")
        assert task.rewards_of([known[prompt]], [text]) == [1.0]
