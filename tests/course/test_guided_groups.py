"""The helpers of *AG-GRPO*: kinds of working, exact distributions, records read, drawings."""

import csv

import pytest
import torch
from dllm_rl_course import guided_drawing, guided_record
from dllm_rl_course.guided_exact import BLANKS, exact_completions, free_probabilities
from dllm_rl_course.guided_groups import minus_lines, percent, roll_groups, stage_one, working
from matplotlib.backends.backend_agg import FigureCanvasAgg

from dllm_rl_lite.models import load_lm
from dllm_rl_lite.tasks import load_task


@pytest.mark.parametrize(
    "text, kind",
    [
        ("9-1=8,8-2=6<answer>6</answer>", "right"),
        ("9-1=0,0-2=8<answer>8</answer>", "habit"),
        ("9-1=8,8-2=0<answer>0</answer>", "habit"),
        ("9-1=0,0-2=6<answer>6</answer>", "bent"),
        ("9-1=8,8-2=6<answer>5</answer>", "miscopied"),
        ("9-1=8<answer>8</answer>", "broken"),
        ("9-1=8,7-2=5<answer>5</answer>", "broken"),
        ("9-1=8,8+2=0<answer>0</answer>", "broken"),
    ],
)
def test_the_kind_of_a_working(text, kind):
    assert working("9-1-2", text) == kind


def test_each_minus_of_a_whole_text_is_judged_by_its_own_line():
    assert list(minus_lines("9-1+2", "9-1=0,0+2=3<answer>3</answer>")) == [(0, False)]
    assert list(minus_lines("9-1-2", "9-1=0,0-2=8<answer>8</answer>")) == [(0, False), (1, True)]
    assert not list(minus_lines("9-1-2", "9-1=0"))
    assert percent(torch.tensor([True, False])).startswith("50 [")
    assert percent(torch.tensor([], dtype=torch.bool)) == "–"


def test_groups_hold_guided_rows_last_and_both_verdicts():
    """The answer's reward is `right`, and whoever is honest is right."""
    lm = load_lm("tiny")
    problems = load_task("chain2").sample(3, "train", 0)
    found = roll_groups(lm, "chain2", problems, torch.Generator().manual_seed(0), group=4, rows=2)
    assert torch.equal(found.rewards == 1, found.right)
    assert bool((found.right | ~found.honest).all())
    assert found.rollout.guided.view(3, 4).tolist() == [[False, False, True, True]] * 3
    film = stage_one(found.rollout, 3, lm.mask_id)
    told = film.anchor != lm.mask_id
    assert torch.equal(film.tokens[told], film.anchor[told])
    assert bool((film.unmask_step[told] == -1).all())


def test_exact_completions_are_distributions_over_the_same_texts():
    lm = load_lm("tiny")
    found = exact_completions(lm, "9-1-2")
    assert len(found.texts) == 64 == len(set(found.texts))
    for prob in (found.free.detach(), found.guided):
        assert 0.999 < float(prob.sum()) < 1 + 1e-6
    kinds = [working("9-1-2", text) for text in found.texts]
    assert found.honest.tolist() == [float(kind == "right") for kind in kinds]
    assert found.right.sum() == 16 and bool((found.right >= found.honest).all())
    assert float(found.posterior(found.right).sum()) == pytest.approx(1)
    with torch.no_grad():
        assert torch.equal(free_probabilities(lm, "9-1-2"), found.free)
    # Given its working, a guided row's answer is the model's own: at most 1 over all answers.
    by_working = {}
    for tokens, prob in zip(found.tokens.tolist(), found.guided.tolist(), strict=True):
        key = tuple(tokens[blank] for blank in BLANKS[:3])
        by_working[key] = by_working.get(key, 0) + prob
    assert len(by_working) == 16 and max(by_working.values()) < 1


def write(path, rows):
    with open(path, "w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def run(task, variant, seed, accuracy):
    """A finished run as compare.csv has it."""
    fixed = {"stage": "worlds", "method": "ag-grpo", "lr": 1e-4, "budget": 1, "before": 0.1}
    return fixed | {"variant": variant, "task": task, "seed": seed, "accuracy": accuracy}


@pytest.fixture
def record(tmp_path):
    """Two worlds of two seeds, both also with working written backwards; one with a single seed."""
    runs = []
    for seed in (0, 1):
        runs.append(run("writers 4/60", "plain", seed, 0.5 + 0.01 * seed))
        runs.append(run("writers 4/60", "AF only", seed, 0.2))
        runs.append(run("writers 4/60", "backwards", seed, 0.4 + 0.01 * seed))
        runs.append(run("writers 4/400 alone", "plain", seed, 0.1))
        runs.append(run("writers 4/400 alone", "AF only", seed, 0.1 - 0.08 * seed))
        runs.append(run("writers 4/400 alone", "backwards", seed, 0.11))
        runs.append(run("writers_answer 4/400 alone", "plain", seed, 0.1))
        runs.append(run("writers_answer 4/400 alone", "AF only", seed, 0.2))
    runs.append(run("writers 50/20", "plain", 0, 0.9))
    runs.append(run("writers 50/20", "AF only", 0, 0.9))
    write(tmp_path / "compare.csv", runs)
    measured = []
    for world, variant, h, d in (
        ("writers 4/60", "plain", 0.45, 0.9),
        ("writers 4/400 alone", "plain", 0.01, 1.0),
        ("writers 4/400 alone", "backwards", 0.2, 1.0),
        ("writers 4/60", "backwards", 0.3, 0.9),
        ("writers 50/20", "plain", 0.8, 0.3),
    ):
        row = {"world": world, "variant": variant, "careful": 0.04, "h": h, "dead": d}
        measured.append(row)
    write(tmp_path / "worlds.csv", measured)
    return tmp_path


def test_gains_are_paired_and_judged_by_what_was_predicted(record):
    rows = {row["world"]: row for row in guided_record.worlds(record)}
    assert list(rows) == ["writers 4/60", "writers 4/400 alone"]  # one seed has no interval
    good, bad = rows.values()
    assert good["gain"].mean == pytest.approx(30.5) and good["gain"].verdict == "better"
    assert good["ag-grpo"] == pytest.approx(50.5) and good["base"] == pytest.approx(10)
    assert good["prediction"] == "10 or more, interval above 0" and good["verdict"] == "held"
    assert bad["gain"].mean == pytest.approx(4) and bad["verdict"] == "held"
    assert guided_record.worlds(record, "sudoku4_worked") == []
    (harmed,) = guided_record.answer_alone(record)
    assert harmed["gain"].mean == pytest.approx(-10) and harmed["verdict"] == "held"
    (variant,) = guided_record.closing_the_gap(record)
    assert variant["gain over plain"].startswith("+1.0") and variant["verdict"] == "not held"
    elsewhere = {row["world"]: row for row in guided_record.backwards(record)}
    assert set(elsewhere) == {"writers 4/60", "writers 4/400 alone"}
    assert elsewhere["writers 4/60"] == {
        "world": "writers 4/60",
        "h": 45,
        "h backwards": 30,
        "over plain": "-10.0 ± 0.0",
        "over AF only": elsewhere["writers 4/60"]["over AF only"],
        "seeds": 2,
    }
    assert elsewhere["writers 4/60"]["over AF only"].startswith("+20.5")
    figure = guided_drawing.draw_dial(list(rows.values()))
    assert len(figure.axes) == 3


def test_predictions_are_those_of_the_studies():
    assert guided_record.predicted(0.5, 0.9) is guided_record.LARGE
    assert guided_record.predicted(0.05, 0.9) is guided_record.SMALL
    assert guided_record.predicted(0.9, 0.3) is guided_record.LEVEL
    assert guided_record.predicted(0.2, 0.9) is None
    assert guided_record.predicted(0.9, 0.6) is None
    unsure = guided_record.Gain(12, 13, 3)
    assert guided_record.LARGE.verdict(unsure) == "not held"


def test_without_a_record_there_is_nothing_to_show(tmp_path):
    assert guided_record.worlds(tmp_path) == []
    assert guided_record.answer_alone(tmp_path) == []
    assert guided_record.closing_the_gap(tmp_path) == []
    assert guided_record.backwards(tmp_path) == []


@pytest.mark.parametrize("draw", [guided_drawing.draw_two_stages, guided_drawing.draw_writers])
def test_every_word_of_a_drawing_is_on_the_page(draw):
    figure = draw()
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox
    for text in figure.axes[0].texts:
        extent = text.get_window_extent(renderer)
        assert page.x0 <= extent.x0 and extent.x1 <= page.x1, text.get_text()
        assert page.y0 <= extent.y0 and extent.y1 <= page.y1, text.get_text()
