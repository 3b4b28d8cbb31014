"""Two newer likelihoods: d2-StepMerge's segments of the visited path, and SPG's two bounds."""

from __future__ import annotations

from dataclasses import replace

from .. import advantages, estimators
from .masked_views import DIFFU_GRPO
from .numbers import D1, TINY
from .parts import part
from .without_ratios import WD1

D2_STEPMERGE = replace(
    DIFFU_GRPO,
    name="d2-stepmerge",
    parent="diffu-grpo",
    source="d2, arXiv 2509.21474",
    views=part(estimators.path_segments, n=4, p_mask_prompt=0.15),
    # Of the release's script for Countdown.
    paper=replace(D1, inner_updates=8, views={"n": 16}),
    tiny=TINY,
)

# Its paper writes the objective as a mean over texts, its release divides by the batch's number of
# tokens; here it is that of the canvases, a constant.
SPG = replace(
    WD1,
    name="spg",
    parent="wd1",
    source="SPG, arXiv 2510.09541",
    views=part(estimators.sandwiched, n=2, beta=1.5, omega=0.5, block=0, p_mask_prompt=0.15),
    advantage=advantages.group_mean,
    objective=replace(WD1.objective, average="canvas"),
    # Of the release's script for Countdown.
    paper=replace(D1, inner_updates=4, kl=0.0, views={"block": 32}),
    tiny=TINY,
)
