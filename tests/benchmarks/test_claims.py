"""The ledger of claims: its verdicts follow the rule, and it says what the records say."""

import math
import shutil

import claims
import pytest
from claims import CLAIMS, Claim, relatives, verdict, write

from dllm_rl_lite.evaluation import read_results
from dllm_rl_lite.methods import METHODS


@pytest.mark.parametrize(
    "side, limit, mean, half_width, wanted",
    [
        ("above", 0.0, 3.0, 2.0, "held"),
        ("above", 0.0, 3.0, 4.0, "open"),
        ("above", 0.0, -3.0, 2.0, "not held"),
        ("below", 0.5, 0.4, 0.05, "held"),
        ("below", 0.5, 0.6, 0.05, "not held"),
        ("below", 0.5, 0.48, 0.05, "open"),
        ("above", 0.0, math.nan, math.nan, "open"),
    ],
)
def test_a_verdict_is_read_off_the_interval(side, limit, mean, half_width, wanted):
    claim = Claim("c", "m", "s", "points", side, limit, claims.padding_cure, "")
    assert verdict(claim, mean, half_width) == wanted


def test_the_ledger_is_what_the_records_say(tmp_path):
    """Written again from the committed records, it is the committed one; each claim has a command
    that makes its record."""
    for name in ("compare", "compare_curves", "compare_decoders", "worlds", "bodies"):
        shutil.copy(claims.RESULTS / f"{name}.csv", tmp_path)
    write(tmp_path)
    assert read_results(tmp_path / "claims.csv") == read_results(claims.RESULTS / "claims.csv")
    for claim in CLAIMS:
        assert claim.command.startswith("python benchmarks/")


def test_every_method_has_a_row():
    """But for the root, and for controls that make no claim."""
    named = {claim.method for claim in (*CLAIMS, *relatives())}
    assert set(METHODS) - named == {"grpo", "grpo-pool", "gated-grpo"}
    assert named - set(METHODS) == {"rainbow padding"}
