"""Robust multi-objective decoding: the weights against the game's other side, and their limits."""

import itertools
import math

import pytest
import torch
from dllm_rl_course.robust import (
    equal_weights,
    game_value,
    robust_denoise,
    robust_weights,
    sudoku_objectives,
)

from dllm_rl_lite.models import load_lm
from dllm_rl_lite.tasks import load_task


def drawn(seed, candidates=8, objectives=3):
    g = torch.Generator().manual_seed(seed)
    return torch.rand(candidates, objectives, generator=g, dtype=torch.float64)


def other_side(values, weights, lam):
    """min_k E_p v_k - KL(p || uniform) / lam, of the soft choice p under the weights: never above
    the value of the game."""
    p = (lam * values @ weights).softmax(0)
    divergence = (p * (p * len(p)).log()).sum()
    return float((p @ values).min() - divergence / lam)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lam", [0.5, 5.0, 50.0])
def test_both_sides_of_the_game_have_one_value(seed, lam):
    """The least of the weights' side is the most of the choice's, to 1e-6: so both are solved."""
    values = drawn(seed)
    weights = robust_weights(values, lam)
    assert float(weights.sum()) == pytest.approx(1) and (weights >= 0).all()
    assert abs(float(game_value(values, weights, lam)) - other_side(values, weights, lam)) < 1e-6


def test_no_weights_of_a_grid_are_better():
    values = drawn(3)
    least = float(game_value(values, robust_weights(values, 5.0), 5.0))
    for a, b in itertools.product(range(21), repeat=2):
        if a + b <= 20:
            tried = torch.tensor([a, b, 20 - a - b], dtype=torch.float64) / 20
            assert float(game_value(values, tried, 5.0)) >= least - 1e-6


def test_one_objective_is_best_of_b():
    values = drawn(0, objectives=1)
    assert robust_weights(values, 5.0).tolist() == [1.0]
    assert (values @ robust_weights(values, 5.0)).argmax() == values[:, 0].argmax()


def test_a_large_lam_is_max_min():
    """Two objectives that no pure candidate serves: the mixture's worst objective is 1/2, and the
    value comes within ln(B) / lam of it."""
    values = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.3, 0.3]])
    for lam in (10.0, 100.0):
        value = float(game_value(values.double(), robust_weights(values, lam), lam))
        assert 0.5 - math.log(3) / lam - 1e-6 <= value <= 0.5 + 1e-6
    with pytest.raises(ValueError, match="lam must be above 0, got 0"):
        robust_weights(values, 0.0)


def test_weight_goes_to_what_all_are_bad_at():
    values = torch.tensor([[0.9, 0.1], [0.8, 0.2], [1.0, 0.0]])
    assert robust_weights(values, 5.0)[1] > 0.999
    assert equal_weights(values, 5.0).tolist() == [0.5, 0.5]


def test_objectives_of_a_grid_by_hand():
    """A Latin square whose boxes do not hold, a Sudoku, and no grid."""
    found = sudoku_objectives(
        ["<answer>1234234134124123</answer>", "<answer>1234341221434321</answer>", "1234"]
    )
    assert found.tolist() == [[1, 1, 0], [1, 1, 1], [0, 0, 0]]


def test_it_writes_a_text_and_counts_its_passes():
    """Of 8 candidates and 2 blocks of 5 steps each: 8 * (10 + 5) passes, whatever the weights."""
    lm, task = load_lm("tiny"), load_task("sudoku4")
    problem = task.sample(1, "train", 0)[0]
    assert task.length == 20
    texts = []
    for weigh in (robust_weights, equal_weights):
        noise = torch.Generator().manual_seed(0)
        text, passes = robust_denoise(
            lm, problem.prompt, 20, sudoku_objectives, noise, blocks=2, weigh=weigh
        )
        assert passes == 8 * (10 + 5)
        texts.append(text)
    assert all(text.startswith("<answer>") for text in texts)
    with pytest.raises(ValueError, match="length 20 must hold 3 equal blocks"):
        robust_denoise(lm, problem.prompt, 20, sudoku_objectives, noise, blocks=3)
