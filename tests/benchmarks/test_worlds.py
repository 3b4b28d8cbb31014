"""The worlds: their base models are made once, and what is measured of them is what it says."""

import random

import pytest
import worlds
from compare import LISTED, SEEDS, jobs, label_of
from studies import AGAINST, BACKWARDS, CORNERS, VARIANTS, WORLDS
from worlds import World, base_of, honesty, model_and_task, parse_world

from dllm_rl_lite.evaluation import read_results, t_interval
from dllm_rl_lite.evaluation.records import results
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.tasks import load_task


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Lessons of two steps, in a folder of their own."""
    monkeypatch.setattr(worlds, "FIRST", {"writers": 2, "three_chains": 2})
    monkeypatch.setattr(worlds, "ROWS", {"writers": 4, "three_chains": 4})
    monkeypatch.setattr(worlds, "BASES", tmp_path)
    return tmp_path


def test_names_of_worlds_are_read_back():
    for name in WORLDS:
        world = parse_world(name)
        assert world.name == name
        assert world.task == "writers" and 0 < world.careful < 1 and world.steps > 0
    assert set(CORNERS) <= set(WORLDS)


def test_a_base_model_is_made_once_and_shares_the_first_lessons(short):
    """Worlds start from the same lessons and differ after their own; what is there is not made
    again; a run is told the model and the task."""
    first = base_of(World("writers", 0.04, 2), short)
    made = (first / "model.safetensors").stat().st_mtime_ns
    second = base_of(World("writers", 0.5, 2), short)
    assert base_of(World("writers", 0.04, 2), short) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, second)]
    assert weights[0] != weights[1]
    assert {path.name for path in short.iterdir()} == {"writers", first.name, second.name}
    assert model_and_task("chain2") == ("tiny", "chain2")
    assert model_and_task("writers_answer 4/2") == (str(first), "writers_answer")
    assert model_and_task("three_chains") == (str(short / "three_chains"), "three_chains")


def test_honesty_is_counted_from_the_rollout(monkeypatch):
    """With completions put in the place of the model's: four free and four guided rows of each of
    two groups."""
    task = load_task("writers")
    kinds = ["x", "x", "x", "c", "c", "c", "c", "b", "x", "x", "x", "x", "c", "b", "b", "b"]

    def texts(tokenizer, tokens):
        problems = task.sample(2, "train", seed=1)
        made = []
        for i, kind in enumerate(kinds):
            example = problems[i // 8]
            right = task.demonstrate(example, random.Random(0), 0.0)
            bent = right.replace(f"={right[4]},", f"={(int(right[4]) + 1) % 10},")
            made.append({"x": "", "c": right, "b": bent}[kind])
        return made

    monkeypatch.setattr(worlds, "decode", texts)
    found = honesty("tiny", "writers", groups=2)
    assert found["free_honest"] == found["free_right"] == 1 / 8
    assert found["dead"] == 0.5
    assert found["guided_right"] == 1.0
    assert found["h"] == 4 / 8 and found["h_low"] < 0.5 < found["h_high"]


def test_listed_stages_ask_for_runs_that_exist(monkeypatch):
    """Known methods and variants, with numbers that the method takes; five seeds at the corners and
    where working is also written backwards, three elsewhere."""
    for stage, runs in LISTED.items():
        for _, label, seeds in runs:
            method, variant = label_of(label)
            METHODS[method].numbers("tiny", **VARIANTS.get(method, {"plain": {}})[variant])
            assert 1 <= seeds <= SEEDS.get(stage, 1)
    best = {label: 2e-4 for label in AGAINST} | {"ag-grpo/AF only": 4e-4}
    monkeypatch.setattr("compare.tuned", lambda path, stage: best)
    wanted = jobs("worlds", [], [], SEEDS["worlds"])
    for world in WORLDS:
        for label in AGAINST:
            method, variant = label_of(label)
            mine = [j for j in wanted if (j.task, j.method, j.variant) == (world, method, variant)]
            assert [j.seed for j in mine] == list(range(5 if world in CORNERS + BACKWARDS else 3))
            assert {j.lr for j in mine} == {4e-4 if variant == "AF only" else 2e-4}


def test_the_shipped_writers_are_the_recorded_world():
    """Half precision changes nothing that thirty groups could show: within four standard errors of
    the recorded honesty, and guided completions are right."""
    rows = read_results(worlds.RESULTS / "worlds.csv")
    recorded = {row["world"]: row for row in rows if row["variant"] == "plain"}
    world = recorded[worlds.SHIPPED_WORLD]
    found = honesty("tiny-writers", "writers", groups=30)
    error = (world["h"] * (1 - world["h"]) / 120) ** 0.5
    assert abs(found["h"] - world["h"]) < 4 * error
    assert found["guided_right"] > 0.95 and found["dead"] > 0.8


def test_the_page_of_results_has_every_world_of_the_record():
    """Death, honesty, both accuracies, the paired gain and the seeds; bold where the interval lies
    above 0."""
    page = (worlds.ROOT / "notebooks/guides/results.md").read_text()
    measured = {
        row["world"]: row
        for row in read_results(worlds.RESULTS / "worlds.csv")
        if row["variant"] == "plain"
    }
    accuracy = {}
    for row in results(worlds.RESULTS, "worlds"):
        accuracy.setdefault((row["task"], row["variant"]), []).append(100 * row["accuracy"])
    for world in WORLDS:
        guided = accuracy[world, "plain"]
        control = accuracy[world, "AF only"]
        mean, half_width = t_interval([a - b for a, b in zip(guided, control, strict=True)])
        gain = f"{mean:+.0f} ± {half_width:.0f}"
        if mean > half_width:
            gain = f"**{gain}**"
        cells = [
            f"`{world}`",
            f"{measured[world]['dead']:.2f}",
            f"{measured[world]['h']:.2f}",
            f"{sum(control) / len(control):.0f}",
            f"{sum(guided) / len(guided):.0f}",
            gain,
            f"{len(guided)}",
        ]
        assert f"| {' | '.join(cells)} |" in page
