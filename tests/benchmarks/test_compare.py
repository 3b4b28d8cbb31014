"""The comparison of methods: what is run, what is recorded, what survives an interruption."""

import csv
import re
from dataclasses import asdict, replace

import compare
import pytest
from compare import Job, jobs
from dllm_rl_course.recorded_figures import comparison
from studies import HARD_RUN, NEWER_RUN, PROBLEM_RUNS, run_as

from dllm_rl_lite import show
from dllm_rl_lite.evaluation import read_results, records, t_interval
from dllm_rl_lite.evaluation.records import KEY, summary
from dllm_rl_lite.methods import BUDGETS, CORE, METHODS, PATHS, PROBLEMS, STAGES
from dllm_rl_lite.tasks import load_task

# What relatives are compared with in stage "problems".
CONTROLS = ("grpo", "dapo", "grpo-pool", "gated-grpo")


def row(
    method="agrpo",
    stage="final",
    variant="plain",
    task="chain2",
    seed=0,
    lr=2e-4,
    accuracy=0.5,
    **more,
):
    return {
        "stage": stage,
        "method": method,
        "variant": variant,
        "task": task,
        "seed": seed,
        "lr": lr,
        "budget": compare.BUDGET[stage],
        "steps": 10,
        "forwards": 60_000,
        "seconds": 30.0,
        "before": 0.25,
        "accuracy": accuracy,
        "low": 0.4,
        "high": 0.6,
        "habit_share": 0.5,
        "reward": 0.4,
        "computed": 20_000,
        **more,
    }


def tuned_rows(method, *accuracies):
    return [
        row(method, "tune", lr=lr, seed=compare.TUNE_SEED, accuracy=a)
        for lr, a in zip(compare.LEARNING_RATES, accuracies, strict=False)
    ]


@pytest.fixture
def table(tmp_path):
    """A folder with a table in which two methods are tuned and a third is not."""
    compare.append(
        tmp_path / "compare.csv",
        compare.COLUMNS,
        [
            *tuned_rows("agrpo", 0.3, 0.5, 0.5),
            *tuned_rows("wd1", 0.4, 0.3, 0.2),
            *tuned_rows("gdpo", 0.4, 0.5),
        ],
    )
    return tmp_path


def test_the_best_learning_rate_is_the_smaller_of_equals(table):
    """By validation accuracy; a method with a rate untried has none yet."""
    assert compare.tuned(table) == {"agrpo": 2e-4, "wd1": 1e-4}


def test_the_tiny_learning_rates_are_the_tuned_ones():
    """What the records hold is what the recorded tuning found, for every method of the course."""
    found = compare.tuned()
    assert {name: lr for name, lr in found.items() if "/" not in name} == {
        name: m.tiny.lr for name, m in CORE.items() if name not in compare.COMBINED
    }
    assert {METHODS[name].tiny.lr for name in compare.COMBINED} == {found["agrpo"]}
    assert {name for name in found if "/" in name} == set(compare.TUNED_APART)


@pytest.mark.parametrize(
    "stage",
    [
        "final",
        "flag",
        "summit",
        "merged",
        "family tune",
        "family",
        "rates",
        "worlds tune",
        "worlds",
        "guards",
        "stages tune",
        "stages",
        "newer tune",
        "newer",
        "paths tune",
        "paths",
        "problems tune",
        "problems",
        "hard problems tune",
        "hard problems",
        "hard problems early",
        "likelihoods",
        "timed tune",
        "timed",
    ],
)
def test_the_recorded_table_is_complete(stage):
    """Every run that the stage asks for, at one budget and at the tuned rate, and no other."""
    methods = compare.methods_of(stage)
    tasks = compare.TASKS if stage == "final" else [t for own, _ in compare.SUMMIT for t in own]
    wanted = {
        tuple(asdict(j)[k] for k in KEY)
        for j in jobs(stage, methods, tasks, compare.SEEDS.get(stage, 1))
    }
    assert {tuple(r[k] for k in KEY) for r in records.results(compare.RESULTS, stage)} == wanted
    count = "computed" if stage in compare.COMPUTED else "forwards"
    for row in records.results(compare.RESULTS, stage):
        assert row["budget"] == compare.BUDGET[stage] <= row[count]


def test_the_page_of_results_says_what_the_merged_runs_did():
    """Its table and the paired difference, from the record."""
    page = (compare.ROOT / "notebooks/guides/results.md").read_text()
    rows = records.results(compare.RESULTS, "merged")
    for row in records.summary(rows):
        line = rf"\| `{row['method']}` \| [^|]* \| (\d+) \| (\d+) \[(\d+), (\d+)\] \|"
        said = re.findall(line, page)
        kept = [row["steps"], row["mean"], row["low"], row["high"]]
        assert [str(round(x)) for x in kept] in [list(found) for found in said]
    accuracy = {(r["method"], r["seed"]): 100 * r["accuracy"] for r in rows}
    ahead = [accuracy["merged-path", seed] - accuracy["agrpo", seed] for seed in range(5)]
    mean, half_width = t_interval(ahead)
    assert f"ahead by {mean:.0f} ± {half_width:.0f} points" in page
    assert mean - half_width > 3, "as predicted"


def test_every_run_of_these_stages_was_tested_under_every_decoder():
    """And the base model, on every task; passes fall as the threshold does, and a schedule takes
    what it says."""
    rows = read_results(compare.RESULTS / "compare_decoders.csv")
    runs = set()
    for stage, tasks in compare.DECODED_STAGES.items():
        runs |= {("base", "plain", task, 0) for task in tasks}
        for r in records.results(compare.RESULTS, stage):
            runs.add((r["method"], r["variant"], r["task"], r["seed"]))
    found = {(r["method"], r["variant"], r["task"], r["seed"], r["decoder"]): r for r in rows}
    assert set(found) == {(*run, d) for run in runs for d in compare.DECODERS}
    for run in runs:
        thresholds = [
            found[(*run, d)]["forwards"] for d in compare.DECODERS if d.startswith("threshold")
        ]
        assert thresholds == sorted(thresholds), run
        schedules = [found[(*run, f"schedule {n}")]["forwards"] for n in (1, 2, 4)]
        assert schedules == [load_task(run[2]).length // n for n in (1, 2, 4)], run


def test_the_family_is_tuned_and_run_with_four_updates(monkeypatch):
    """Fifteen methods at three rates; then five seeds each at its own best rate, all four updates a
    batch, at a budget of computed passes."""
    tune = jobs("family tune", compare.methods_of("family tune"), ["chain2"], 1)
    assert len(tune) == 45 and {j.lr for j in tune} == set(compare.LEARNING_RATES)
    best = {f"{name}/{compare.FAMILY_VARIANT}": 1e-4 for name in compare.methods_of("family")}
    monkeypatch.setattr(compare, "tuned", lambda path, stage: best if "family" in stage else {})
    final = jobs("family", compare.methods_of("family"), ["chain2"], 5)
    assert len(final) == 75 and {j.lr for j in final} == {1e-4}
    assert {j.variant for j in (*tune, *final)} == {compare.FAMILY_VARIANT}
    assert compare.FAMILY_NUMBERS == {"inner_updates": 4}
    assert {"family", "family tune", "rates"} <= set(compare.COMPUTED)
    rates = jobs("rates", [], [], 5)
    assert {(j.method, j.seed, j.lr, j.budget) for j in rates} == {
        ("grpo", seed, lr, compare.BUDGET["family"]) for seed in range(5) for lr in (1e-4, 2e-4)
    }


def test_paths_are_tuned_and_run_on_their_own_task(monkeypatch):
    """Each relative beside grpo, at equal passes computed, with a learning rate of its own; trees
    part where the texts of the task do."""
    methods = ["grpo", *PATHS]
    late = {"spo-tree", "treepo", "branch-grpo"}
    tune = jobs("paths tune", methods, ["chain2"], 1)
    assert len(tune) == 3 * len(methods) and {j.lr for j in tune} == set(compare.LEARNING_RATES)
    best = {f"{name}/late" if name in late else name: 1e-4 for name in methods}
    monkeypatch.setattr(compare, "tuned", lambda path, stage: best if "paths" in stage else {})
    final = jobs("paths", methods, ["chain2"], compare.SEEDS["paths"])
    assert len(final) == 5 * len(methods)
    assert {j.method for j in tune} == {j.method for j in final} == set(methods)
    for job in (*tune, *final):
        assert (job.task, job.variant) == ("chain", "late" if job.method in late else "plain")
    assert {"paths", "paths tune"} <= set(compare.COMPUTED)


def test_problems_are_run_on_the_task_of_their_claim(tmp_path, monkeypatch):
    """Each relative beside its parent, at equal passes computed; a control on several tasks has a
    learning rate for each."""
    tune = jobs("problems tune", [], [], 1)
    listed = [(task, m) for task, methods in PROBLEM_RUNS.items() for m in methods]
    assert len(tune) == 3 * len(listed) and {j.lr for j in tune} == set(compare.LEARNING_RATES)
    rows = []
    for job in tune:
        best = 4e-4 if job.task == "chain2" else 2e-4
        accuracy = float(job.lr == best)
        rows.append(
            row(
                job.method,
                job.stage,
                variant=job.variant,
                task=job.task,
                seed=job.seed,
                lr=job.lr,
                accuracy=accuracy,
            )
        )
    compare.append(tmp_path / "compare.csv", compare.COLUMNS, rows)
    rates = compare.tuned(tmp_path, "problems tune")
    assert rates["grpo on chain2"] == rates["ada-grpo"] == 4e-4
    assert rates["grpo on sudoku4"] == rates["rgr-style"] == 2e-4
    monkeypatch.setattr(compare, "RESULTS", tmp_path)
    final = jobs("problems", [], [], compare.SEEDS["problems"])
    assert len(final) == 5 * len(listed)
    assert {j.lr for j in final if j.task == "chain2"} == {4e-4}
    assert {j.lr for j in final if j.task != "chain2"} == {2e-4}
    assert {"problems", "problems tune"} <= set(compare.COMPUTED)
    # One task at a time: what is not tuned elsewhere is not asked for.
    monkeypatch.setattr(compare, "tuned", lambda path, stage: {"grpo": 2e-4, "ada-grpo": 4e-4})
    only = jobs("problems", [], [], 5, only=["chain2"])
    assert {(j.method, j.lr) for j in only} == {("grpo", 2e-4), ("ada-grpo", 4e-4)}
    assert len(only) == 10 and {j.task for j in only} == {"chain2"}
    assert len(jobs("problems tune", [], [], 1, only=["chain2"])) == 6
    # A record and its parent have batches of one size, but for the single stream of texts.
    for task, method in listed:
        _, variant = compare.label_of(run_as(method))
        numbers = METHODS[method].numbers(
            "tiny", **compare.VARIANTS.get(method, {}).get(variant, {})
        )
        if task == "sudoku4" and numbers.gate:
            assert numbers.prompts == 16
        elif method == "spo-single":
            assert (numbers.prompts, numbers.group) == (32, 1)
        else:
            assert numbers.prompts == 32 and variant == "plain"
    for task, method in listed:
        if method not in CONTROLS:
            assert (task, METHODS[method].parent) in listed


def test_hard_problems_are_run_on_one_task(monkeypatch):
    """Each relative beside its parent, with batches of one size and, where problems come back, one
    pool; with the other stage every record of problems and budgets is run."""
    tune = jobs("hard problems tune", [], [], 1)
    assert len(tune) == 3 * len(HARD_RUN) and {j.lr for j in tune} == set(compare.LEARNING_RATES)
    best = dict.fromkeys(HARD_RUN, 1e-4)
    monkeypatch.setattr(compare, "tuned", lambda path, stage: best if "hard" in stage else {})
    final = jobs("hard problems", [], [], compare.SEEDS["hard problems"])
    assert len(final) == 5 * len(HARD_RUN)
    assert {j.task for j in (*tune, *final)} == {"writers 15/60"}
    early = jobs("hard problems early", [], [], compare.SEEDS["hard problems early"])
    assert [(j.method, j.seed, j.lr) for j in early] == [(j.method, j.seed, j.lr) for j in final]
    stages = {"hard problems tune", "hard problems", "hard problems early"}
    assert stages <= set(compare.COMPUTED)
    numbers = {}
    for label in HARD_RUN:
        method, variant = compare.label_of(label)
        changes = compare.VARIANTS.get(method, {}).get(variant, {})
        numbers[method] = METHODS[method].numbers("tiny", **changes)
    for method, own in numbers.items():
        assert (own.prompts, own.group, own.inner_updates) == (32, 8, 2)
        if METHODS[method].parent == "grpo-pool" or method == "grpo-pool":
            assert own.problems["pool"] == 256
        if method not in CONTROLS:
            assert METHODS[method].parent in numbers
    elsewhere = {method for methods in PROBLEM_RUNS.values() for method in methods}
    assert numbers.keys() | elsewhere >= set(PROBLEMS) | set(BUDGETS)


def test_stages_are_run_beside_grpo_on_the_same_task(monkeypatch):
    """Tuned once each, grpo too; cpc-style runs on another task, where grpo runs as well, at the
    rate that it was tuned to."""
    methods = {"grpo", *STAGES}
    tune = jobs("stages tune", [], [], 1)
    assert len(tune) == 3 * len(methods) and {j.lr for j in tune} == set(compare.LEARNING_RATES)
    best = dict.fromkeys(methods, 1e-4)
    monkeypatch.setattr(compare, "tuned", lambda path, stage: best if "stages" in stage else {})
    final = jobs("stages", [], [], compare.SEEDS["stages"])
    assert len(final) == 5 * (len(methods) + 1) and {j.lr for j in final} == {1e-4}
    assert {j.method for j in tune} == {j.method for j in final} == methods
    on_countdown = [(j.method, j.seed) for j in final if j.task == "countdown"]
    assert sorted(on_countdown) == [(m, seed) for m in ("cpc-style", "grpo") for seed in range(5)]
    assert {j.task for j in final} == {"chain2", "countdown"}
    assert {"stages", "stages tune"} <= set(compare.COMPUTED)


def test_published_methods_are_run_with_five_seeds(monkeypatch):
    """On one task, at the rates of the stage "tune", counted in passes computed."""
    rates = {method: 2e-4 for method in compare.PUBLISHED} | {"wd1": 4e-4}
    monkeypatch.setattr(compare, "tuned", lambda path, stage: rates if stage == "tune" else {})
    found = jobs("likelihoods", [], [], compare.SEEDS["likelihoods"])
    assert [j.method for j in found] == list(compare.PUBLISHED) * 5
    assert all(j.lr == rates[j.method] and j.task == compare.TUNE_TASK for j in found)
    assert {j.seed for j in found} == set(range(5))
    assert "likelihoods" in compare.COMPUTED


def test_newer_likelihoods_are_run_against_themselves(monkeypatch):
    """Five labels, each at the rate that it was tuned to itself; one segment is diffu-GRPO's view
    and the most are the steps of a text."""
    tune = jobs("newer tune", [], [], 1)
    labels = {(j.method, j.variant) for j in tune}
    assert len(labels) == 5 and len(tune) == 15 and {j.task for j in tune} == {"chain2"}
    rates = {"d2-stepmerge": 1e-4, "d2-stepmerge/every step": 2e-4, "spg": 4e-4}
    rates |= {"d2-stepmerge/one segment": 2e-4, "spg/elbo": 1e-4}
    monkeypatch.setattr(compare, "tuned", lambda path, stage: rates if "newer" in stage else {})
    final = jobs("newer", [], [], compare.SEEDS["newer"])
    assert len(final) == 25 and {(j.method, j.variant) for j in final} == labels
    assert {j.lr for j in final if j.variant == "elbo"} == {1e-4}
    assert {"newer", "newer tune"} <= set(compare.COMPUTED)
    variants = compare.VARIANTS["d2-stepmerge"]
    steps = METHODS["d2-stepmerge"].tiny.rule(load_task("chain2").length).steps
    assert variants["every step"] == {"views": {"n": steps}}
    for label in NEWER_RUN:
        method, variant = compare.label_of(label)
        numbers = METHODS[method].numbers("tiny", **compare.VARIANTS[method][variant])
        assert numbers.kl == 0 and numbers.inner_updates == 2


def test_jobs_are_balanced_and_equal(table, monkeypatch):
    """Tuning tries every rate for every method; the table goes seed by seed, all at one budget and
    at the tuned rates."""
    monkeypatch.setattr(
        compare, "tuned", lambda path=table, stage="tune": {"agrpo": 2e-4, "wd1": 1e-4}
    )
    tune = jobs("tune", ["agrpo", "gdpo"], ["chain2"], 3)
    assert len(tune) == 6 and {j.lr for j in tune if j.method == "gdpo"} == set(
        compare.LEARNING_RATES
    )
    assert {(j.task, j.seed) for j in tune} == {(compare.TUNE_TASK, compare.TUNE_SEED)}
    final = jobs("final", ["agrpo", "wd1"], ["chain2", "sudoku4"], 3)
    assert [j.seed for j in final] == [0] * 4 + [1] * 4 + [2] * 4
    assert {j.budget for j in final} == {compare.BUDGET["final"]} and {
        j.lr for j in final if j.method == "wd1"
    } == {1e-4}
    assert {j.variant for j in jobs("flag", ["agrpo"], [], 1)} == set(compare.VARIANTS["agrpo"])
    assert all(j.seed != compare.TUNE_SEED for j in final)
    rates = {"agrpo": 2e-4, "ag-grpo": 2e-4, "ag-grpo/AF only": 4e-4}
    monkeypatch.setattr(compare, "tuned", lambda path=table, stage="tune": rates)
    assert {j.variant for j in jobs("tune", ["ag-grpo"], [], 1)} == {"plain", "AF only"}
    summit = jobs("summit", ["ag-grpo", "agrpo"], ["chain", "countdown"], 5)
    assert {
        (j.task, j.method, j.variant, j.lr) for j in summit if j.seed == 4 and j.task == "chain"
    } == {
        ("chain", "ag-grpo", "AF only", 4e-4),
        ("chain", "ag-grpo", "plain", 2e-4),
        ("chain", "agrpo", "plain", 2e-4),
    }
    assert [j.variant for j in summit if j.task == "countdown" and j.seed == 4] == [
        "AF only",
        "plain",
        "target only",
    ]
    flags = jobs("flag", ["ag-grpo"], [], 1)
    assert {j.task for j in flags} == {compare.TUNE_TASK} and "target only" not in {
        j.variant for j in flags
    }
    for call, message in (
        (lambda: jobs("final", ["gdpo"], ["chain2"], 1), "gdpo has no learning rate yet"),
        (lambda: jobs("finals", ["agrpo"], [], 1), "did you mean 'final'"),
        (lambda: jobs("tune", ["agrp"], [], 1), "did you mean 'agrpo'"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_variants_are_settings_that_the_methods_know():
    """Every flag of the table resolves to numbers that differ from the plain ones."""
    for method, variants in compare.VARIANTS.items():
        plain = METHODS[method].numbers("tiny")
        assert variants["plain"] == {} and set(compare.VARIANTS) <= set(METHODS)
        for name, changes in variants.items():
            assert (METHODS[method].numbers("tiny", **changes) == plain) == (name == "plain"), (
                method,
                name,
            )


def test_runs_are_recorded_once(tmp_path):
    """Two tiny runs by two processes: a row each, logs that add up; again, nothing runs; a failed
    job loses no other."""
    runs = tmp_path / "runs"
    small = [Job("tune", "wd1", "plain", "chain2", s, 1e-4, 2_000) for s in (0, 1)]
    found = list(compare.finish(small, 2, tmp_path, runs))
    assert sorted(r["seed"] for r in found) == [0, 1]
    again = records.results(tmp_path, "tune")
    assert {tuple(r[k] for k in KEY) for r in again} == {
        tuple(asdict(j)[k] for k in KEY) for j in small
    }
    assert all(
        0 <= r["low"] <= r["accuracy"] <= r["high"] <= 1 and r["forwards"] >= 2_000 for r in again
    )
    seeds = records.curves(tmp_path, "wd1", stage="tune")["wd1"]
    for log, r in zip(
        sorted(seeds, key=lambda log: log[0]["seed"]),
        sorted(again, key=lambda r: r["seed"]),
        strict=True,
    ):
        assert log[-1]["step"] == r["steps"] and log[-1]["forwards"] == pytest.approx(
            r["forwards"] / 1000
        )
    assert list(compare.finish(small, 2, tmp_path, runs)) == []
    bad = replace(small[0], seed=7, task="chain9")
    with pytest.raises(ValueError, match="chain9"):
        list(compare.finish([bad], 1, tmp_path, runs))
    assert len(records.results(tmp_path)) == 2


def test_a_summary_is_means_and_intervals(tmp_path):
    """Mean and t-interval over seeds, the worst seed, collapses; a single seed has no interval; a
    re-run replaces a row."""
    rows = [row(seed=s, accuracy=a) for s, a in enumerate((0.5, 0.6, 0.1))] + [
        row("wd1", accuracy=0.7)
    ]
    first, second = summary(rows)
    assert first["method"] == "wd1" and first["low"] is None and first["seeds"] == 1
    mean, half = t_interval([50.0, 60.0, 10.0])
    assert (second["mean"], second["low"], second["high"]) == pytest.approx(
        (mean, mean - half, mean + half)
    )
    assert (second["worst"], second["collapsed"], second["base"]) == (pytest.approx(10), 1, 25)
    compare.append(
        tmp_path / "compare.csv", compare.COLUMNS, [row(accuracy=0.1), row(accuracy=0.9)]
    )
    assert [r["accuracy"] for r in records.results(tmp_path)] == [0.9]
    assert records.results(tmp_path / "none") == [] and records.curves(tmp_path) == {}
    assert len(list(csv.DictReader(open(tmp_path / "compare.csv")))) == 2


def test_pairs_take_common_luck_out():
    """Seed by seed and task by task; what only one of the two has is left out, and one pair is no
    interval."""
    rows = [row("agrpo", seed=s, accuracy=a) for s, a in enumerate((0.5, 0.6, 0.4))]
    rows += [row("wd1", seed=s, accuracy=a) for s, a in enumerate((0.4, 0.48))]
    mean, half, n = records.paired(rows, "agrpo", "wd1")
    assert (mean, half, n) == (pytest.approx(11), pytest.approx(t_interval([10.0, 12.0])[1]), 2)
    with pytest.raises(ValueError, match="at least 2"):
        records.paired(rows[:1] + rows[3:4], "agrpo", "wd1")


def test_figures_of_the_comparison_draw_what_they_are_given():
    """One panel a column that is there; one row of charts a task, its dots at the means, its curves
    the means over seeds."""
    log = [
        {
            "step": s,
            "reward": 0.1 * s,
            "eval_accuracy": 0.2 + 0.1 * s,
            "forwards_rollout": 100,
            "forwards_update": 50,
        }
        for s in range(4)
    ]
    fig = show.panels({"agrpo": [log]})
    shown = [ax for ax in fig.axes if ax.get_visible()]
    assert [ax.get_title(loc="left") for ax in shown] == [
        "validation accuracy (%)",
        "reward of the rollouts",
        "forward passes (thousands)",
    ]
    assert shown[2].lines[0].get_ydata().tolist() == pytest.approx([0.15, 0.3, 0.45, 0.6])
    with pytest.raises(ValueError, match="no run has any"):
        show.panels({"agrpo": [log]}, columns=["kl"])
    rows = summary(
        [row(seed=s, accuracy=a) for s, a in enumerate((0.5, 0.6))] + [row("wd1", accuracy=0.3)]
    )
    fig = comparison(rows, {"chain2": {"agrpo": [records.with_forwards(log)] * 2}})
    dots, spent, steps = fig.axes
    assert [t.get_text() for t in dots.get_yticklabels()] == ["agrpo", "wd1"]
    assert spent.lines[0].get_xdata().tolist() == pytest.approx([0.15, 0.3, 0.45, 0.6])
    assert steps.lines[0].get_ydata().tolist() == pytest.approx([20, 30, 40, 50])
    with pytest.raises(ValueError, match="no finished runs"):
        comparison([], {})


def test_the_figure_is_drawn_from_the_table(tmp_path):
    """compare.png of the finished runs; nothing where none has finished."""
    assert compare.draw(tmp_path, tmp_path) is None
    compare.append(
        tmp_path / "compare.csv",
        compare.COLUMNS,
        [row(seed=s, accuracy=0.5 + 0.1 * s) for s in range(2)],
    )
    log = [
        {k: 0.3 for k in compare.LOGGED} | {k: row(seed=s)[k] for k in KEY} | {"step": step}
        for s in range(2)
        for step in range(3)
    ]
    compare.append(tmp_path / "compare_curves.csv", (*KEY, *compare.LOGGED), log)
    assert compare.draw(tmp_path, tmp_path).stat().st_size > 10_000
