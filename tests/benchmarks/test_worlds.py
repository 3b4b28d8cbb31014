"""The worlds: their base models are made once, and what is measured of them is what it says."""

import random
from dataclasses import replace

import pytest
import worlds
from compare import LISTED, SEEDS, jobs, label_of
from studies import AGAINST, CORNERS, VARIANTS, WORLDS
from worlds import World, base_of, honesty, model_and_task, parse_world

from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.tasks.tiny import chain


@pytest.fixture
def short(monkeypatch, tmp_path):
    """Lessons of two steps, in a folder of their own."""
    lesson = replace(worlds.LESSONS["writers"], rows=4, first=2, second=2, third=2, pool=8)
    lessons = {"writers": lesson, "three_chains": lesson}
    monkeypatch.setattr(worlds, "LESSONS", lessons)
    monkeypatch.setattr(worlds, "BASES", tmp_path)
    return tmp_path


def test_names_of_worlds_are_read_back():
    for name in WORLDS:
        world = parse_world(name)
        assert world.name == name
        assert world.task == "writers" and 0 < world.careful and world.careful + world.cheats <= 1
    assert set(CORNERS) <= set(WORLDS)


def test_a_base_model_is_made_once_and_shares_the_first_lesson(short):
    """Worlds start from the same lesson and differ after their own; what is there is not made
    again; a run is told the model and the task."""
    first = base_of(World("writers", 0.05, 0.15), short)
    made = (first / "model.safetensors").stat().st_mtime_ns
    second = base_of(World("writers", 0.4, 0.0), short)
    assert base_of(World("writers", 0.05, 0.15), short) == first
    assert (first / "model.safetensors").stat().st_mtime_ns == made
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, second)]
    assert weights[0] != weights[1]
    before = {"writers_17_50_before", "writers_67_0_before"}
    assert {path.name for path in short.iterdir()} == {"writers", first.name, second.name} | before
    assert model_and_task("chain2") == ("tiny", "chain2")
    assert model_and_task("three_chains") == (str(short / "three_chains"), "three_chains")


def test_demonstrations_have_the_shares_of_their_world():
    """Within five standard errors, told by the two verifiers."""
    task = worlds.demonstrating(load_task("writers"), careful=0.3, cheats=0.2, pool=50)
    rng = random.Random(0)
    examples = [task.make(rng) for _ in range(1500)]
    texts = [task.demonstrate(example, rng, 0.5) for example in examples]
    careful = sum(task.rewards_of(examples, texts)) / 1500
    assert abs(careful - 0.3) < 5 * (0.3 * 0.7 / 1500) ** 0.5
    careless = [task.shows_habit(e, t) for e, t in zip(examples, texts, strict=True)]
    assert abs(sum(careless) / 1500 - 0.5) < 5 * (0.5 * 0.5 / 1500) ** 0.5
    assert len({example.prompt for example in examples}) <= 50


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
            right = chain.demonstrate_as_writer(example, random.Random(0), 0.0, 0.0)
            cheat = chain.demonstrate_as_writer(example, random.Random(0), 0.0, 1.0)
            made.append({"x": "", "c": right, "b": cheat}[kind])
        return made

    monkeypatch.setattr(worlds, "decode", texts)
    found = honesty("tiny", "writers", groups=2)
    assert found["free_honest"] == found["free_right"] == 1 / 8
    assert found["dead"] == 0.5
    assert found["guided_right"] == 1.0
    assert found["h"] == 4 / 8 and found["h_low"] < 0.5 < found["h_high"]


def test_listed_stages_ask_for_runs_that_exist(monkeypatch):
    """Known methods and variants, with numbers that the method takes; five seeds at the corners,
    three elsewhere."""
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
            assert [j.seed for j in mine] == list(range(5 if world in CORNERS else 3))
            assert {j.lr for j in mine} == {4e-4 if variant == "AF only" else 2e-4}
