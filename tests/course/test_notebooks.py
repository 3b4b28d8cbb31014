"""Every notebook: saved from one clean run, its checked cells tagged, its from-scratch functions
the package's own."""

import ast
import importlib
import inspect
import json
import re
import runpy
import textwrap
from pathlib import Path

import nbformat
import pytest
import torch

from dllm_rl_lite.run import declared

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted([*ROOT.glob("notebooks/*.ipynb"), *ROOT.glob("notebooks/solutions/*.ipynb")])
# From 90 on: to look things up in, without exercises.
CHAPTERS = [p for p in NOTEBOOKS if p.parent.name == "notebooks" and p.name < "90"]
CHECK_OUTPUT = "nbval-check-output"  # the tag of cells whose stored output must come out again


def read(path):
    return nbformat.read(path, as_version=4)


def code(path):
    return [c for c in read(path).cells if c.cell_type == "code" and c.source.strip()]


def name(path):
    return path.stem


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_it_was_saved_from_one_clean_run(path):
    cells = code(path)
    assert [c.execution_count for c in cells] == list(range(1, len(cells) + 1)), (
        "restart, run all, then save"
    )
    outputs = [o for c in cells for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"], "a saved error"
    assert not [o for o in outputs if o.get("name") == "stderr"], (
        "something on stderr: a warning or a progress bar"
    )
    assert read(path).metadata.kernelspec.name == "python3"
    assert not [c for c in cells if "raises-exception" in c.metadata.get("tags", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_it_is_small_and_plain(path):
    assert path.stat().st_size < 1_200_000  # figures of 100 dpi included
    for cell in code(path):
        lines = cell.source.splitlines()
        if "parameters" not in cell.metadata.get("tags", []):
            assert len(lines) <= 30, f"a code cell of {len(lines)} lines: {lines[0]}"
        assert not [x for x in lines if x.lstrip().startswith(("!", "%pip", "pip "))]
    assert not re.search(r"/(work|farm|root|home/\w+)/", path.read_text()), (
        "a path of somebody's machine"
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_cells_to_check_are_tagged_and_have_outputs(path):
    cells = code(path)
    assert not [c for c in cells if "NBVAL_" in c.source], f"use the cell tag {CHECK_OUTPUT}"
    tags = {t for c in cells for t in c.metadata.get("tags", []) if t.startswith("nbval")}
    assert tags <= {CHECK_OUTPUT}, "nbval ignores a tag that it does not know"
    checked = [c for c in cells if CHECK_OUTPUT in c.metadata.get("tags", [])]
    assert all(c.outputs for c in checked), "a checked cell without stored output checks nothing"
    if path in CHAPTERS:
        assert len(checked) >= 2


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_parameters_are_one_cell_of_commented_literals(path):
    cells = [c for c in code(path) if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    for node in ast.parse(cells[0].source).body:
        assert isinstance(node, (ast.Assign, ast.AnnAssign))
        ast.literal_eval(node.value)  # raises on anything computed
    assert all("#" in x for x in cells[0].source.splitlines() if "=" in x), (
        "each parameter says what it is"
    )


@pytest.mark.parametrize("path", CHAPTERS, ids=name)
def test_the_header_says_question_need_and_time(path):
    first = read(path).cells[0].source
    for phrase in ("You will", "You need", "Time and machine"):
        assert phrase in first


def test_live_runs_are_shorter_under_nbval():
    """Each shorter value is of a parameter that its notebook has, and is smaller."""
    for path, values in runpy.run_path(str(ROOT / "conftest.py"))["SHORTER"].items():
        parameters = declared(ROOT / path)
        for name, value in values.items():
            assert 0 < value < parameters[name], f"{path}: {name}"


class Bare(ast.NodeTransformer):
    """A definition without docstring and annotations (comments are gone with parsing)."""

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.returns = None
        if ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node

    def visit_arg(self, node):
        node.annotation = None
        return node


def bare(source, wanted):
    for node in ast.parse(textwrap.dedent(source)).body:
        if getattr(node, "name", None) == wanted:
            return ast.unparse(ast.fix_missing_locations(Bare().visit(node)))
    raise AssertionError(f"no definition of {wanted}")


def tagged(prefix):
    return [
        (p, c.source, t.removeprefix(prefix))
        for p in NOTEBOOKS
        for c in read(p).cells
        for t in c.metadata.get("tags", [])
        if t.startswith(prefix)
    ]


def test_mirrored_cells_hold_the_package_code():
    found = tagged("mirrors:")
    assert found, "no chapter mirrors the package: the test would prove nothing"
    for path, source, target in found:
        module, function = target.rsplit(".", 1)
        package = inspect.getsource(getattr(importlib.import_module(module), function))
        assert bare(source, function) == bare(package, function), (
            f"{path.name}: {target} has drifted"
        )


def agrees_with_denoise(scope):
    """The chapter's sampler and the package's give the same tokens at temperature 0 on real
    problems."""
    from dllm_rl_lite.models import encode_prompts, load_lm
    from dllm_rl_lite.sampler import Schedule, denoise
    from dllm_rl_lite.tasks import load_task

    lm, task = load_lm("tiny"), load_task("chain")
    prompts = [e.prompt for e in task.sample(4, "validation", 3)]
    ids, mask = encode_prompts(lm.tokenizer, prompts)
    for steps in (24, 12, 5):
        wanted = denoise(lm, prompts, task.length, Schedule(steps))
        tokens, unmask_step = scope["sample"](lm, ids, mask, task.length, steps)
        assert torch.equal(tokens, wanted.tokens) and torch.equal(unmask_step, wanted.unmask_step)


def agrees_with_random_subset(scope):
    """Equal generators, equal sets: rows with some positions barred, counts from 0 to all."""
    from dllm_rl_lite.estimators import random_subset

    g = torch.Generator().manual_seed(0)
    allowed = torch.rand(40, 9, generator=g) < 0.8
    count = (torch.rand(40, generator=g) * (allowed.sum(1) + 1)).long()
    mine, package = (
        f(allowed, count, torch.Generator().manual_seed(1))
        for f in (scope["random_subset"], random_subset)
    )
    assert torch.equal(mine, package) and torch.equal(mine.sum(1), count)


def agrees_with_exact_logprob(scope):
    """The chapter's recursion over subsets and the package's give one log-probability, on random
    models and texts."""
    from dllm_rl_lite.estimators import exact_logprob
    from dllm_rl_lite.models import new_tiny_lm
    from dllm_rl_lite.sampler import Schedule

    g = torch.Generator().manual_seed(0)
    for seed, length in enumerate((1, 2, 5, 7)):
        lm = new_tiny_lm(
            hidden=32, layers=2, heads=2, feed_forward=64, max_length=64, seed=seed
        ).eval()
        prompt = torch.randint(8, len(lm.tokenizer), (4,), generator=g)
        tokens = torch.randint(6, len(lm.tokenizer), (length,), generator=g)
        wanted = float(exact_logprob(lm, prompt, tokens, Schedule(length, "random")).detach())
        assert abs(scope["subset_logprob"](lm, prompt, tokens) - wanted) < 1e-4


def agrees_with_path_logprob(scope):
    """The chapter's path log-probability is the package's `estimate` over `all_steps`, value and
    gradient."""
    from dllm_rl_lite.estimators import all_steps, estimate
    from dllm_rl_lite.models import load_lm
    from dllm_rl_lite.sampler import Schedule, denoise
    from dllm_rl_lite.tasks import load_task

    lm, task = load_lm("tiny"), load_task("chain1")
    prompts = [e.prompt for e in task.sample(6, "validation", 3)]
    rollout = denoise(
        lm,
        prompts,
        task.length,
        Schedule(task.length),
        temperature=1.0,
        eos="forbid",
        generator=torch.Generator().manual_seed(0),
    )
    values, weight = [], list(lm.parameters())[3]
    for value in (
        scope["path_logprob"](lm, rollout),
        estimate(lm, rollout, all_steps(rollout)).sum(1),
    ):
        (slope,) = torch.autograd.grad(value.sum(), weight)
        values.append((value.detach(), slope))
    assert torch.allclose(values[0][0], values[1][0], atol=1e-4)
    assert (values[0][1] - values[1][1]).norm() < 1e-4 * values[1][1].norm()


def agrees_with_inner_updates(scope):
    """Two inner updates by the chapter's loop and by the package's, KL penalty included, end in the
    same weights."""
    import copy

    from dllm_rl_lite.methods import METHODS
    from dllm_rl_lite.models import load_lm
    from dllm_rl_lite.sampler import Schedule, denoise
    from dllm_rl_lite.tasks import load_task
    from dllm_rl_lite.training import accumulate_gradients, score_views

    def g(seed):
        return torch.Generator().manual_seed(seed)

    lm, task, method = load_lm("tiny"), load_task("chain1"), METHODS["diffu-grpo"]
    numbers = method.tiny
    prompts = [e.prompt for e in task.sample(6, "validation", 3)]
    rollout = denoise(lm, prompts, task.length, Schedule(5), temperature=1.0, generator=g(0))
    credit = torch.tensor([0.5, -0.5, 0.25, -0.25, 0.5, -0.5])
    mine, package = copy.deepcopy(lm), copy.deepcopy(lm)
    one, two = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (mine, package))
    spread = scope["inner_updates"](mine, lm, rollout, credit, [g(1), g(2)], one, numbers)
    for scored in [score_views(lm, lm, method, numbers, rollout, credit, g(i)) for i in (1, 2)]:
        accumulate_gradients(package, method, numbers, scored, torch.Tensor.backward)
        torch.nn.utils.clip_grad_norm_(package.parameters(), numbers.grad_clip)
        two.step()
        two.zero_grad()
    assert spread[0] < 1e-6 < spread[1]
    pairs = [
        (a.detach(), b.detach(), c.detach())
        for a, b, c in zip(mine.parameters(), package.parameters(), lm.parameters(), strict=True)
    ]
    moved = sum(float((a - c).square().sum()) for a, _, c in pairs)
    assert moved > 1e-6 and sum(float((a - b).square().sum()) for a, b, _ in pairs) < 1e-6 * moved


def agrees_with_rcr(scope):
    """The chapter's remasking loop and the package's give the same tokens, greedy, for both running
    confidences."""
    from dllm_rl_lite.models import new_tiny_lm
    from dllm_rl_lite.sampler import RunningConfidence, denoise

    lm = new_tiny_lm(hidden=32, layers=2, heads=2, feed_forward=64, max_length=64, seed=0).eval()
    ids = torch.randint(8, len(lm.tokenizer), (6, 5), generator=torch.Generator().manual_seed(0))
    mask = torch.arange(5) >= torch.tensor([0, 0, 1, 2, 3, 0])[:, None]
    ids = torch.where(mask, ids, lm.pad_id)
    for keep in ("latest", "max"):
        for length, steps in ((8, 4), (12, 12), (9, 4)):
            wanted = denoise(lm, (ids, mask), length, RunningConfidence(steps, keep)).tokens
            assert torch.equal(scope["rcr_sample"](lm, ids, mask, length, steps, keep), wanted)


def agrees_with_text_pieces(scope):
    """The chapter's two-phase backward and the package's update give one gradient: three views,
    penalty on, ratios off 1."""
    import copy

    from dllm_rl_lite.methods import METHODS
    from dllm_rl_lite.models import new_tiny_lm
    from dllm_rl_lite.sampler import Schedule, denoise
    from dllm_rl_lite.training import accumulate_gradients, score_views, scored_by_any

    g = torch.Generator().manual_seed(0)
    lm = new_tiny_lm(hidden=32, layers=2, heads=2, feed_forward=64, max_length=64).eval()
    later = copy.deepcopy(lm)
    with torch.no_grad():
        for w in later.parameters():
            w.mul_(1 + 0.05 * torch.randn(w.shape, generator=g))
    rollout = denoise(
        lm, ["1+2", "3-4", "5-6", "7+8"], 8, Schedule(4, "random"), temperature=1.0, generator=g
    )
    method, advantage = METHODS["coupled-grpo"], torch.tensor([0.6, -0.9, 0.3, -0.4])
    numbers = method.numbers("tiny", clip=0.1, kl=0.3)
    scored = score_views(lm, lm, method, numbers, rollout, advantage, g)
    tokens, gradients = scored_by_any(scored.views), []

    def loss_of(phi):
        losses = method.objective.losses(
            phi, scored.old[0], scored.ref[0], advantage[:, None], tokens, clip=0.1, kl=0.3
        )
        return losses.sum() / scored.normaliser

    for run in (
        lambda: scope["two_phase"](later, rollout, scored.views, loss_of),
        lambda: accumulate_gradients(later, method, numbers, scored, torch.Tensor.backward),
    ):
        later.zero_grad()
        run()
        gradients.append(torch.cat([w.grad.flatten() for w in later.parameters()]))
    assert gradients[1].norm() > 1e-3
    assert (gradients[0] - gradients[1]).norm() < 1e-4 * gradients[1].norm()


def made_up_scores():
    """(logp, old, ref, advantage, scored) of six texts, the last tokens of some not scored."""
    g = torch.Generator().manual_seed(0)
    logp, old, ref = (-torch.rand(6, 9, generator=g) for _ in range(3))
    scored = torch.arange(9) < torch.tensor([9, 4, 7, 9, 1, 5])[:, None]
    return logp, old, ref, torch.randn(6, 1, generator=g), scored


def agrees_with_diffu_grpos_objective(scope):
    """The chapter's loss of a token is what the record's four parts make, penalty on and off."""
    from dllm_rl_lite.methods import METHODS

    logp, old, ref, advantage, scored = made_up_scores()
    for kl in (0.0, 0.3):
        mine = scope["clipped_k3"](logp, old, ref, advantage, 0.2, kl)
        package = METHODS["diffu-grpo"].objective.losses(
            logp, old, ref, advantage, scored, clip=0.2, kl=kl
        )
        assert torch.equal(mine[scored], package[scored])


def agrees_with_coupled_grpos_objective(scope):
    """The same for estimates; what is not scored has no loss."""
    from dllm_rl_lite.methods import METHODS

    logp, old, ref, advantage, scored = made_up_scores()
    mine = scope["clipped_k3"](logp, old, ref, advantage, scored, 0.2, 0.3)
    package = METHODS["coupled-grpo"].objective.losses(
        logp, old, ref, advantage, scored, clip=0.2, kl=0.3
    )
    assert torch.equal(mine, package)


def agrees_with_gate(scope):
    """The chapter's gate and the package's reveal the same positions: equal numbers, some positions
    barred, n_min 1 to 3."""
    from dllm_rl_lite.sampler import Gate, RuleInput

    g = torch.Generator().manual_seed(0)
    for seed, (tau, kappa, n_min) in enumerate(((0.7, 0.5, 1), (0.5, 1.0, 2), (0.0, 0.3, 3))):
        logprob = torch.rand(60, 9, generator=g).clamp(min=0.01).log()
        masked = torch.rand(60, 9, generator=g) < 0.7
        u = torch.rand(60, 9, generator=torch.Generator().manual_seed(seed))
        seen = RuleInput(
            masked,
            logprob,
            logprob,
            logprob,
            torch.zeros(60).long(),
            masked.sum(1),
            1,
            torch.Generator().manual_seed(seed),
        )
        mine = scope["gate_reveal"](logprob.exp(), masked, u, tau, kappa, n_min)
        assert torch.equal(mine, Gate(tau, kappa, n_min).reveal(seen))


def agrees_with_guided_rollout(scope):
    """Both stages by the chapter and by the package: equal generators, equal tokens and steps,
    answers of many lengths."""
    from dllm_rl_lite.models import load_lm
    from dllm_rl_lite.sampler import Schedule, answer_anchor, guided_denoise
    from dllm_rl_lite.tasks import load_task

    lm = load_lm("tiny")
    for name, steps in (("chain", 12), ("countdown", 14)):
        task = load_task(name)
        examples = task.sample(4, "validation", 3)
        answers = [a for e in examples for a in (None, e.answer)]
        anchor = answer_anchor(lm.tokenizer, answers, task.length, 2)
        arguments = (
            lm,
            [e.prompt for e in examples for _ in range(2)],
            anchor,
            Schedule(steps),
            Schedule(4),
        )
        wanted = guided_denoise(
            *arguments, temperature=1.0, generator=torch.Generator().manual_seed(0)
        )
        tokens, unmask_step = scope["guided_rollout"](*arguments, torch.Generator().manual_seed(0))
        assert torch.equal(tokens, wanted.tokens) and torch.equal(unmask_step, wanted.unmask_step)


AGREES = {
    "dllm_rl_lite.sampler.guided_denoise": agrees_with_guided_rollout,
    "dllm_rl_lite.sampler.Gate": agrees_with_gate,
    "dllm_rl_lite.estimators.estimate": agrees_with_path_logprob,
    "dllm_rl_lite.methods.masked_views.COUPLED_GRPO": agrees_with_coupled_grpos_objective,
    "dllm_rl_lite.methods.masked_views.DIFFU_GRPO": agrees_with_diffu_grpos_objective,
    "dllm_rl_lite.training.accumulate_gradients": agrees_with_inner_updates,
    "dllm_rl_lite.training.update.text_pieces": agrees_with_text_pieces,
    "dllm_rl_lite.sampler.RunningConfidence": agrees_with_rcr,
    "dllm_rl_lite.estimators.exact_logprob": agrees_with_exact_logprob,
    "dllm_rl_lite.sampler.denoise": agrees_with_denoise,
    "dllm_rl_lite.estimators.random_subset": agrees_with_random_subset,
}


def test_slower_versions_agree_with_the_package():
    found = tagged("agrees:")
    assert found, "no chapter agrees with the package: the test would prove nothing"
    for path, source, target in found:
        scope = {"torch": torch}
        for cell in code(path):  # what the cell needs: the chapter's imports
            imports = [
                n
                for n in ast.parse(cell.source).body
                if isinstance(n, (ast.Import, ast.ImportFrom))
            ]
            exec(ast.unparse(ast.Module(imports, [])), scope)
        for other, earlier, _ in found:  # and the functions that agree with the package as well
            if other == path and earlier != source:
                exec(earlier, scope)
        exec(source, scope)
        assert target in AGREES, f"{path.name}: say in AGREES how to compare with {target}"
        AGREES[target](scope)


def test_recorded_results_are_readable():
    """What the chapters draw from: real runs, with their settings."""
    files = sorted((ROOT / "notebooks" / "results").glob("*.json"))
    assert files
    for path in files:
        assert json.loads(path.read_text())
