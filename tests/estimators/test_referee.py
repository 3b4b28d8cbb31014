"""The referee: zero error where a recipe is exact, the textbook's standard errors, true directions,
and the figure."""

import matplotlib.pyplot as plt
import pytest
import torch
from dllm_rl_course.recorded_figures import estimator_map

from dllm_rl_lite.estimators import (
    ESTIMATORS,
    directions,
    distinct,
    errors,
    estimate,
    exact_elbo,
    exact_gradient,
    exact_logprob,
    left_to_right,
    one_step,
    random_masks,
    truth,
)
from dllm_rl_lite.estimators.referee import row_by_row
from dllm_rl_lite.evaluation import read_results
from dllm_rl_lite.sampler import Schedule, denoise

LTR = Schedule(4, "left_to_right")


@pytest.fixture(scope="module")
def rollout(lm):
    """Ten texts of four tokens after two prompts of different length, one token given, written left
    to right, none of which ends early (recipes differ in what they score after the end)."""
    anchor = torch.full((60, 4), lm.mask_id)
    anchor[:, 2] = 30
    found = denoise(
        lm,
        ["6-4", "1+2+3"] * 30,
        4,
        LTR,
        temperature=1.0,
        anchor=anchor,
        generator=torch.Generator().manual_seed(0),
    )
    return found.select((found.tokens != lm.eos_id).all(1).nonzero()[:10, 0])


def test_truth_is_the_enumerated_one(lm, rollout):
    """Row by row, without padding and with what was given; equal rows are enumerated once."""
    twice = rollout.select(torch.tensor([3, 4, 3, 3]))
    first, inverse = distinct(twice)
    assert len(first) == 2 and inverse.tolist() in ([0, 1, 0, 0], [1, 0, 1, 1])
    logp, elbo = truth(lm, twice, Schedule(4))
    for row, i in enumerate((3, 4, 3, 3)):
        prompt = rollout.prompt[i][rollout.prompt_mask[i]]
        anchor = torch.full((4,), lm.mask_id)
        anchor[2] = 30
        with torch.no_grad():
            want = exact_logprob(lm, prompt, rollout.tokens[i], Schedule(4), anchor=anchor)
            bound = exact_elbo(lm, prompt, rollout.tokens[i], anchor=anchor)
        assert float(logp[row]) == pytest.approx(float(want), abs=1e-6)
        assert float(elbo[row]) == pytest.approx(float(bound), abs=1e-6)


def test_an_exact_recipe_has_no_error_and_a_wrong_one_has(lm, rollout, rng):
    """Left to right against its own decoder: bias and spread are float32's; one step is off by more
    than any noise."""
    logp, _ = truth(lm, rollout, LTR)
    exact, off = errors(
        lm, rollout, logp, rng(0), 3, {"left_to_right": left_to_right, "one_step": one_step}
    )
    assert abs(exact["bias"]) < 1e-4 and exact["sd"] < 1e-4 and exact["forwards"] == 3
    assert off["forwards"] == 1 and off["rmse"] > 0.1


def test_standard_errors_are_the_textbook_s(lm, rollout, rng):
    """The jackknife of a mean is s / sqrt(n) of the texts' means; noise is the mean variance within
    a text; rmse adds up."""
    logp, _ = truth(lm, rollout, LTR)
    (row,) = errors(lm, rollout, logp, rng(1), 50, {"r": random_masks})
    many = rollout.select(torch.arange(10).repeat_interleave(50))
    with torch.no_grad():
        found = estimate(lm, many, row_by_row(random_masks, many, rng(1))).double().sum(1)
    error = found.view(10, 50) - logp[:, None]
    assert row["bias"] == pytest.approx(float(error.mean()), abs=1e-6)
    assert row["bias_se"] == pytest.approx(float(error.mean(1).std() / 10**0.5), rel=1e-6)
    assert row["noise"] == pytest.approx(float(error.var(1).mean()) ** 0.5, rel=1e-6)
    assert row["rmse"] ** 2 == pytest.approx(
        row["bias"] ** 2 + row["sd"] ** 2 * 499 / 500, rel=1e-6
    )
    assert row["sd_se"] > 0


def test_rows_are_drawn_one_by_one(rollout, rng):
    """Each row's views are what the recipe gives it alone, in turn; missing views of a row score
    nothing."""
    recipe = ESTIMATORS["quadrature 2"]
    mine = row_by_row(recipe, rollout, rng(2))
    g = rng(2)
    for i in range(len(rollout.tokens)):
        alone = recipe(rollout.select(torch.tensor([i])), g)
        for a, b in zip(alone, mine, strict=True):
            assert torch.equal(a.tokens[0], b.tokens[i]) and torch.equal(a.weight[0], b.weight[i])
    count = iter(range(1, 11))
    views = row_by_row(lambda r, g: left_to_right(r)[: next(count) % 3 + 1], rollout, rng(0))
    assert len(views) == 3 and [int(v.scored.any(1).sum()) for v in views] == [10, 7, 3]


def test_directions(lm, rollout, rng):
    """An exact recipe points along the exact gradient, whose value is autograd's; credit of zero is
    refused."""
    credit = torch.linspace(-1, 1, 10)
    exact = exact_gradient(lm, rollout, credit, LTR)
    recipes = {"ltr": lambda r, g: left_to_right(r), "one": one_step}
    right, wrong = directions(lm, rollout, credit, exact, rng(3), 2, recipes)
    assert right["cosine"] == pytest.approx(1, abs=1e-5)
    assert right["norm_ratio"] == pytest.approx(1, abs=1e-4)
    assert right["cosine_se"] < 1e-6 and wrong["cosine"] < 0.95
    anchor = torch.where(rollout.sampled, rollout.mask_id, rollout.tokens)
    total = 0.0
    for i in range(10):
        prompt = rollout.prompt[i][rollout.prompt_mask[i]]
        logp = exact_logprob(lm, prompt, rollout.tokens[i], LTR, anchor=anchor[i])
        total = total + credit[i] * logp / 10
    gradients = torch.autograd.grad(total, list(lm.parameters()))
    want = torch.cat([g.flatten() for g in gradients]).double()
    torch.testing.assert_close(exact, want, rtol=0, atol=1e-5 * float(want.abs().max()))
    with pytest.raises(ValueError, match="every credit is 0"):
        exact_gradient(lm, rollout, credit * 0, LTR)


def test_too_little_data_is_refused(lm, rollout, rng):
    with pytest.raises(ValueError, match="at least 2 draws and 3 texts"):
        list(errors(lm, rollout, torch.zeros(10), rng(0), 1))


def test_a_new_estimator_appears_in_the_figure(lm, rollout, rng, tmp_path):
    """A function and a name: a record, a point at its cost and bias, a label in the legend; the
    table is read back."""
    logp, _ = truth(lm, rollout, LTR)
    recipes = {"mine": lambda r, g: random_masks(r, g, n=3), "one_step": one_step}
    rows = [
        {"state": "new", "decoder": "d", **r} for r in errors(lm, rollout, logp, rng(4), 3, recipes)
    ]
    path = tmp_path / "e.csv"
    path.write_text("\n".join([",".join(rows[0]), *[",".join(map(str, r.values())) for r in rows]]))
    assert read_results(path) == rows
    figure = estimator_map(rows, ["new"], "d")
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ["mine", "one step"]
    x, y = figure.axes[0].containers[0][0].get_data()
    assert x[0] == pytest.approx(3, rel=0.1) and y[0] == pytest.approx(rows[0]["bias"])
    only = estimator_map(rows, ["new"], "d", series=["one_step"])
    assert [t.get_text() for t in only.legends[0].get_texts()] == ["one step"]
    assert "logarithmic" in figure.axes[0].get_ylabel()  # a symlog axis says that it is one
    plt.close("all")
    for bad in (
        dict(states=["old"], decoder="d"),
        dict(states=["new"], decoder="e"),
        dict(states=["new"], decoder="d", series=["two_steps"]),
    ):
        with pytest.raises(ValueError, match="unknown"):
            estimator_map(rows, **bad)


def test_a_missing_or_broken_table_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no results at"):
        read_results(tmp_path / "none.csv")
    for row, n in (("1", 1), ("1,2,3", 3)):
        (tmp_path / "t.csv").write_text(f"a,b\n1,x\n{row}\n")
        with pytest.raises(ValueError, match=f"t.csv line 3: {n} values for 2 columns"):
            read_results(tmp_path / "t.csv")
