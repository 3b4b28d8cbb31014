"""From a masked canvas to a text: which blanks are filled at a forward pass (rules), and what the
rollout may see (anchors). `denoise` is the loop, `Rollout` its record; a new rule goes to rules.py.
"""

from .decoding import Decoding
from .denoiser import denoise, fill_canvas
from .guided import answer_anchor, guided_denoise
from .rollout import Rollout
from .rules import (
    ORDERS,
    Factor,
    Gate,
    Rule,
    RuleInput,
    RunningConfidence,
    Schedule,
    Threshold,
    top,
)
from .speculate import DRAFTS, DraftedRollout, denoise_with_drafts

__all__ = [
    "DRAFTS",
    "Decoding",
    "DraftedRollout",
    "Factor",
    "Gate",
    "ORDERS",
    "Rollout",
    "Rule",
    "RunningConfidence",
    "Schedule",
    "RuleInput",
    "Threshold",
    "answer_anchor",
    "denoise",
    "denoise_with_drafts",
    "fill_canvas",
    "guided_denoise",
    "top",
]
