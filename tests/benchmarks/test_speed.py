"""What `benchmarks/speed.py` compares is the same computation, done in two ways; and it stops where
it is not."""

import csv
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cache_seconds
import pytest
import restatement
import result_tables
import speed
import speed_cases as cases
import torch

from dllm_rl_lite.estimators.views import _TargetLogprob
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import reference_policy
from dllm_rl_lite.sampler import Decoding, Schedule, denoise
from dllm_rl_lite.sampler.candidates import candidates_of

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def options(*arguments):
    return speed.options([*arguments, "--quick"])


def updates(new_lm, *arguments):
    """The cases of `updates` on a small model, whose policy has left its reference."""
    o, lm = options("updates", *arguments), new_lm(seed=3)
    reference = reference_policy(lm)
    cases.nudge(lm, 6)
    return [cases.update_case(lm, reference, o, name) for name in o.updates]


# exact: the same tokens, steps, losses and gradients


@pytest.mark.parametrize("steps, block", [(8, 8), (4, 4), (2, 8), (6, 4)])
def test_at_temperature_0_the_restatement_writes_our_tokens_at_our_steps(lm, steps, block):
    """Different prompts in the rows; schedules with one, two and four tokens a step, and uneven
    ones (6 steps for 8)."""
    ids = torch.randint(10, 100, (5, 7), generator=torch.Generator().manual_seed(0))
    ours = denoise(lm, (ids, torch.ones_like(ids).bool()), 8, Schedule(steps), block)
    tokens, revealed = restatement.generate(lm, ids, 8, steps, block)
    assert torch.equal(tokens, ours.tokens) and torch.equal(revealed, ours.unmask_step)
    assert len(set(map(tuple, tokens.tolist()))) > 1 and tokens.unique().numel() > 4


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_with_our_noise_the_restatement_draws_our_tokens(lm, temperature):
    """The check of the benchmark itself, and that the noise decides: another seed gives other
    tokens."""
    case = cases.Rollouts(lm, options("rollouts"), temperature)
    found = case.check()
    assert found.same_tokens == 1 and found.difference < 1e-5
    other = cases.our_noise(lm.mask_id, torch.Generator().manual_seed(9))
    assert not torch.equal(case.generated(other)[0], case.denoised().tokens)


@pytest.mark.parametrize("micro_batch", [0, 1, 2])
def test_updates_have_the_same_scores_loss_and_gradient(new_lm, micro_batch):
    """diffu-GRPO, AG-GRPO and GDPO with 1, 3 and 6 views, after the weights have moved: gradients
    to 1e-5 of their norm."""
    found = {case.name: case.check() for case in updates(new_lm, "--micro-batch", str(micro_batch))}
    assert list(found) == list(cases.UPDATES)
    assert all(0 < check.difference < 1e-5 for check in found.values()), found


def test_the_restated_update_has_all_views_in_one_graph(new_lm, monkeypatch):
    """GDPO with three views: one backward pass and three graphs alive at once there, three backward
    passes in ours."""
    calls = []
    backward = torch.Tensor.backward
    monkeypatch.setattr(
        torch.Tensor, "backward", lambda self, *a: (calls.append(1), backward(self, *a))[1]
    )
    (case,) = updates(new_lm, "--updates", "gdpo 3 views")
    assert case.theirs() == 3 * 3 * 2 and len(calls) == 1  # old and new
    calls.clear()
    assert case.ours() == 3 * 3 * 3 and len(calls) == 3  # old, the estimate before the slope, new


# the restatement's own noise, and what it refuses


def test_the_restatement_samples_the_tempered_law(lm):
    """Its own float64 noise: 6 000 draws of one token at temperature 0.7, each frequency within 5
    standard errors."""
    n, t = 6000, 0.7
    ids = torch.randint(10, 100, (1, 5), generator=torch.Generator().manual_seed(0))
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        tokens, _ = restatement.generate(lm, ids.expand(n, -1), 1, 1, 1, temperature=t)
        logits = restatement.full_logits(lm, torch.cat([ids, torch.tensor([[lm.mask_id]])], 1))[
            0, -1
        ]
    p = (logits.double() / t).softmax(0)
    share = torch.bincount(tokens[:, 0], minlength=len(p)) / n
    error = (p * (1 - p) / n).sqrt()
    assert ((share - p).abs() <= 5 * error + 1 / n).all() and p.max() < 0.9


def test_another_method_and_padding_are_refused(new_lm):
    """The restatement knows three methods, and passes no attention mask."""
    (case,) = updates(new_lm, "--updates", "diffu-grpo")
    views, old, ref = case.restated()
    with pytest.raises(ValueError, match="wd1 is not restated here"):
        replace(case, method=METHODS["wd1"]).relearned(views, old, ref)
    padded = replace(
        case.rollout,
        prompt_mask=case.rollout.prompt_mask.clone().index_fill_(1, torch.tensor([0]), False),
    )
    with pytest.raises(ValueError, match="prompts of one length"):
        replace(case, rollout=padded).relearned(views, old, ref)


# a benchmark whose outputs differ stops


def test_other_tokens_stop_the_run(lm, monkeypatch):
    """A restatement that reveals the least sure."""
    monkeypatch.setattr(
        torch.Tensor, "topk", lambda x, k: torch.topk(x.masked_fill(x.isinf(), 9), k, largest=False)
    )
    with pytest.raises(RuntimeError, match="tokens differ from the restatement's"):
        cases.Rollouts(lm, options("rollouts"), 0.0).check()


def test_another_law_stops_the_run(lm, monkeypatch):
    """Logits that are 1 % too large: the same tokens at temperature 0, other log-probabilities."""
    whole = restatement.full_logits
    monkeypatch.setattr(restatement, "full_logits", lambda model, ids: 1.01 * whole(model, ids))
    with pytest.raises(RuntimeError, match="log-probabilities of the rollout differ"):
        cases.law_difference(lm, cases.Rollouts(lm, options("rollouts"), 0.0).denoised())


@pytest.mark.parametrize(
    "name, part", [("gdpo 3 views", "text_loss"), ("diffu-grpo", "token_loss")]
)
def test_another_loss_or_gradient_stops_the_run(new_lm, monkeypatch, name, part):
    """A loss that is 0.01 larger, the right loss with twice the gradient, other scores before the
    update."""
    (case,) = updates(new_lm, "--updates", name)
    right = getattr(restatement, part)
    monkeypatch.setattr(restatement, part, lambda *a: right(*a) + 0.01)
    with pytest.raises(RuntimeError, match="losses differ"):
        case.check()
    monkeypatch.setattr(restatement, part, lambda *a: 2 * right(*a) - right(*a).detach())
    with pytest.raises(RuntimeError, match="gradients differ by 0.5 of their norm"):
        case.check()
    monkeypatch.setattr(restatement, part, right)
    scores = restatement.scores
    monkeypatch.setattr(restatement, "scores", lambda *a: [s + 0.01 for s in scores(*a)])
    with pytest.raises(RuntimeError, match="scores before the update differ"):
        case.check()


def test_no_number_is_not_within_any_limit():
    """NaN compares as false with everything, so the comparison is written for that."""
    assert cases.within(0.1, 0.2, "things", "m") == 0.1
    for value in (0.3, float("nan")):
        with pytest.raises(RuntimeError, match="things differ"):
            cases.within(value, 0.2, "things", "m")


# what is measured


def test_arithmetic_is_counted_forward_backward_and_in_attention():
    """A 3 x 4 by 4 x 5 product: 120 operations, twice that backward. 2 heads, 6 tokens, 8 wide: 4 *
    2 * 36 * 8."""
    a, b = torch.ones(3, 4, requires_grad=True), torch.ones(4, 5, requires_grad=True)
    assert cases.counted(lambda: a @ b)[1] == 120
    assert cases.counted(lambda: (a @ b).sum().backward())[1] == 360
    q = torch.randn(1, 2, 6, 8, requires_grad=True)
    attention, size = torch.nn.functional.scaled_dot_product_attention, 4 * 2 * 36 * 8
    assert cases.counted(lambda: attention(q, q, q))[1] == size
    assert cases.counted(lambda: attention(q, q, q).sum().backward())[1] > 2 * size


def test_ours_computes_the_head_where_it_is_asked_for_only(lm, monkeypatch):
    """Four passes over 14 positions in the restatement; in ours 4 and 2 masked tokens of each of
    the two blocks."""
    monkeypatch.setattr(lm, "shares_rows", False)
    found = cases.Rollouts(lm, options("rollouts"), 0.0).check()
    saved = 4 * 14 - 2 * (4 + 2)
    head = 2 * lm.backbone.config.hidden_size * len(lm.tokenizer)
    assert found.flops["theirs"] - found.flops["ours"] == 3 * saved * head


# On a machine for models only: importing these fails.
FRESH = """
import sys
for name in ("datasets", "papermill", "math_verify", "matplotlib"):
    sys.modules[name] = None
from types import SimpleNamespace
import speed, torch
print(len(speed.options(["updates"]).updates))
torch.ones(64 << 20)
case = SimpleNamespace(lm=None, ours=lambda: torch.ones(16 << 20).sum())
print(speed.peak_bytes(case, "ours", "cpu") if speed.CLEAR.exists() else "")
"""


def test_a_fresh_process_starts_where_packages_are_missing_and_measures_its_peak():
    """It starts without data sets, papermill, math_verify and matplotlib. Peak memory is what a
    run takes beyond what is there: a side that fills 64 MB and frees them, after a peak of 256 MB
    that is not its own; where /proc tells resident memory. In a process of its own, as `peaks`
    measures: memory that other tests freed may still be resident."""
    command = [sys.executable, "-c", FRESH]
    child = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=300)
    assert not child.returncode, child.stderr[-2000:]
    updates, peak = child.stdout.split("\n")[:2]
    assert updates == "5"
    assert not peak or 63e6 < float(peak) < 90e6


def test_a_table_keeps_other_settings_and_replaces_the_same(tmp_path):
    """Two settings, one of them measured again."""
    path, row = tmp_path / "speed.csv", dict.fromkeys(speed.KEY, "x") | {"ratio": 2.0}
    result_tables.record([row, row | {"case": "y"}], path, speed.KEY)
    result_tables.record([row | {"ratio": 3.14159}], path, speed.KEY)
    assert [(r["case"], r["ratio"]) for r in csv.DictReader(path.open())] == [
        ("x", "3.142"),
        ("y", "2"),
    ]


@pytest.mark.parametrize("what, n", [("rollouts", 2), ("updates", 5)])
def test_the_command_runs_and_quick_records_nothing(what, n, capsys):
    """Each case once on the shipped model; ratios are those of the seconds."""
    before = speed.OUT.read_text() if speed.OUT.exists() else None
    rows = speed.main([what, "--quick", "--threads", "1"])
    assert len(rows) == n == len(capsys.readouterr().out.splitlines())
    for row in rows:
        assert (
            row["ratio"] == pytest.approx(row["seconds_theirs"] / row["seconds_ours"])
            and row["memory_ratio"] == ""
        )
        assert row["tokens_per_second_ours"] == pytest.approx(24 / row["seconds_ours"])
    assert (speed.OUT.read_text() if speed.OUT.exists() else None) == before


def test_the_head_is_below_a_tenth_of_the_body_shape_as_at_8b():
    """Counted for a pass that scores every token; and so much for the shape with a large head."""
    lm = cases.build(options("rollouts", "--model", "body"))
    ids = torch.full((1, 16), 10)
    everywhere = torch.ones_like(ids).bool()
    whole = cases.counted(lambda: lm(ids, everywhere, everywhere))[1]
    states = lm(ids, everywhere, everywhere, states=True)
    head = cases.counted(lambda: lm.head(states))[1]
    assert 0.05 < head / whole < 0.1
    mid = cases.SHAPES["mid"]
    layer = 4 * mid["hidden_size"] ** 2 + 3 * mid["hidden_size"] * mid["intermediate_size"]
    assert cases.VOCABULARY * mid["hidden_size"] > 5 * mid["num_hidden_layers"] * layer


def test_the_body_shape_runs(capsys):
    (row,) = speed.main(["rollouts", "--model", "body", "--quick", "--temperatures", "0"])
    assert row["same_tokens"] == 1 and "rollouts body, temperature 0" in capsys.readouterr().out


def test_seconds_of_a_cache_are_recorded_once(tmp_path, capsys):
    """A second run leaves alone what the table has."""
    out = tmp_path / "seconds.csv"
    sizes = "--rows 2 --prompt 6 --length 8 --block 4 --passes 4 --repeats 1".split()
    command = ["--models", "tiny", *sizes, "--out", str(out)]
    cache_seconds.main(command)
    table = list(csv.DictReader(out.open()))
    assert [row["cache"] for row in table] == ["none", "prefix", "dual"]
    assert {row["model"] for row in table} == {"tiny"}
    assert len(capsys.readouterr().out.splitlines()) == 3
    cache_seconds.main(command)
    assert not capsys.readouterr().out and len(list(csv.DictReader(out.open()))) == 3


def test_unknown_updates_are_named():
    """With the nearest match."""
    with pytest.raises(ValueError, match="gdpo 3 views"):
        options("updates", "--updates", "gdpo 3 view")


# what was made faster is still the same


def plain_candidates(logits):
    """Of each row, as the words say it: likeliest token, its log-probability, entropy, margin."""
    logp = logits.double().log_softmax(-1)
    p = logp.exp()
    top = p.sort(-1, descending=True).values
    return (
        logits.argmax(-1),
        logp.max(-1).values,
        torch.special.entr(p).sum(-1),
        top[:, 0] - top[:, 1],
    )


def test_candidates_equal_the_plain_formulas_with_forbidden_tokens_and_ties(rng):
    """Float32 to 1e-5; tokens of probability 0 add nothing; of two equal logits the first is taken,
    and the margin is 0."""
    logits = 4 * torch.randn(50, 300, generator=rng(0))
    logits[:, 7] = logits[:25, 9:200] = float("-inf")
    logits[3, [5, 250]] = 30.0
    before = logits.clone()
    found = candidates_of(logits, Decoding(), None)
    token = found.token
    wanted = plain_candidates(logits)
    assert (
        torch.equal(logits, before)
        and torch.equal(token, wanted[0])
        and torch.equal(found.likeliest, token)
    )
    for got, want in zip((found.logprob, found.entropy, found.margin), wanted[1:], strict=True):
        torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)
    assert torch.equal(found.logprob, found.highest) and found.margin[3] == 0 and token[3] == 5
    warm = candidates_of(logits, Decoding(temperature=2.0), rng(1))
    drawn = warm.token
    assert not torch.equal(drawn, token)
    torch.testing.assert_close(
        warm.logprob, logits.log_softmax(-1).gather(-1, drawn[:, None])[:, 0]
    )


@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_the_written_out_gradient_is_that_of_log_softmax(rng, chunk):
    """Against autograd in float64, and bit by bit the same values in float32; one forbidden
    token."""
    logits, target = torch.randn(9, 30, generator=rng(0)), torch.arange(9)
    logits[:, 20] = float("-inf")
    assert torch.equal(
        _TargetLogprob.apply(logits, target, chunk), logits.log_softmax(-1)[range(9), target]
    )
    wide = logits[:, :20].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: _TargetLogprob.apply(x, target, chunk), wide)
    leaf, slope = logits.clone().requires_grad_(), torch.randn(9, generator=rng(1))
    (got,) = torch.autograd.grad(_TargetLogprob.apply(leaf, target, chunk), leaf, slope)
    (want,) = torch.autograd.grad(leaf.log_softmax(-1)[range(9), target], leaf, slope)
    torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    assert (got[:, 20] == 0).all() and got.abs().max() > 0.1


def test_nothing_but_the_logits_is_kept_for_the_backward_pass():
    """What autograd holds of size (K, V): one tensor, and it is the one that was handed in."""
    kept, logits = [], torch.randn(5, 1000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        _TargetLogprob.apply(logits, torch.arange(5), 2)
    large = [t for t in kept if t.numel() >= logits.numel()]
    assert len(large) == 1 and large[0].data_ptr() == logits.data_ptr()
