"""Sampling noise in bfloat16: how tokens are counted, and what was recorded."""

import noise
import pandas as pd
import pytest
import torch

from dllm_rl_lite.sampler import candidates

ROWS = 20_000


def counted(draw, p: list[float]) -> noise.Counted:
    """ROWS tokens of one distribution, drawn and counted."""
    count = noise.Counted(draw)
    logits = torch.tensor(p).log().expand(ROWS, -1)
    count(logits, torch.Generator().manual_seed(0))
    return count


def test_tokens_drawn_with_exact_noise_are_as_many_as_the_model_says():
    count = counted(candidates.draw, [0.9, 0.06, 0.03, 0.006, 0.004])
    expected = torch.tensor([0.0, 0.0, 0.01, 0.09, 0.9]).double() * ROWS
    assert torch.allclose(count.expected, expected, rtol=1e-5, atol=1e-3)
    assert count.drawn.sum() == ROWS
    assert ((count.drawn - count.expected).abs() <= 4 * count.variance.sqrt()).all()


def test_noise_in_bfloat16_halves_the_rare_and_shuts_out_the_sure():
    rare = counted(noise.draw_bfloat16, [0.9, 0.097, 0.003])
    assert rare.drawn[2] < rare.expected[2] - 4 * rare.variance[2].sqrt()
    sure = counted(noise.draw_bfloat16, [1 - 1e-6, 1e-6])
    assert sure.drawn[0] > sure.expected[0] + 4 * sure.variance[0].sqrt() + 4


def test_a_noise_is_taken_back():
    before = candidates.draw
    with noise.noise_of("bfloat16"):
        assert candidates.draw is noise.draw_bfloat16
    assert candidates.draw is before


@pytest.mark.parametrize("name", ["noise.csv", "noise_runs.csv"])
def test_the_record_is_complete(name):
    table = pd.read_csv(noise.RESULTS / name)
    assert set(table.world) == set(noise.WORLDS) and set(table.noise) == set(noise.NOISES)
    wanted = len(noise.BOUNDS) - 1 if name == "noise.csv" else noise.SEEDS
    assert (table.groupby(["world", "noise"]).size() == wanted).all()


def test_the_page_of_results_says_what_was_recorded():
    page = (noise.ROOT / "notebooks" / "guides" / "results.md").read_text()
    table = pd.read_csv(noise.RESULTS / "noise.csv")
    rarest = table[(table.above == 0) & (table.noise == "bfloat16")].set_index("world")
    shares = rarest.drawn / rarest.expected
    assert f"**{shares['chain2']:.1f}**" in page and f"**{shares['writers 4/60']:.1f}**" in page
    runs = pd.read_csv(noise.RESULTS / "noise_runs.csv")
    means = 100 * runs.groupby(["world", "noise"]).accuracy.mean()
    chains, writers = means["chain2"], means["writers 4/60"]
    assert f"{chains['float32']:.0f} % [50, 55] with float32 noise and" in page
    assert f"and {chains['bfloat16']:.0f} % [49, 61] with bfloat16" in page
    assert f"{writers['float32']:.0f} % [24, 36] and {writers['bfloat16']:.0f} % [23, 29]" in page
