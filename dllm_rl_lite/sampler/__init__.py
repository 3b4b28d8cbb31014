"""From a masked canvas to a text: which blanks are filled at a forward pass (rules), and what the
rollout may see (anchors), and whose dice it uses. `denoise` is the loop, `Rollout` its record; a
new rule goes to rules.py, a new table of dice to dice.py.
"""

from .decoding import Decoding
from .denoiser import denoise, fill_canvas
from .dice import (
    Dice,
    branch_dice,
    chain_dice,
    dice_of_groups,
    exit_dice,
    own_dice,
    tree_dice,
    window_dice,
)
from .guided import answer_anchor, guided_denoise
from .rollout import FREE, GIVEN, GUIDED, KINDS, Rollout, given_rollout, interleaved, join_rollouts
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
