"""The reference chapter describes records from their own source, and numbers what is asked."""

from dataclasses import dataclass, fields

import torch
from dllm_rl_course.reference import WIDTH, describe, draw_where

from dllm_rl_lite.estimators import View
from dllm_rl_lite.methods import Method, Numbers, Objective
from dllm_rl_lite.models import load_lm
from dllm_rl_lite.sampler import Rollout, RuleInput
from dllm_rl_lite.tasks import Example, Task


@dataclass(frozen=True)
class Sample:
    """Two fields.

    And more that is not printed.
    """

    # Above it,
    # in two lines.
    first: int  # beside it
    second: float = 0.5

    @property
    def total(self) -> float:
        """Their sum."""
        return self.first + self.second

    def times(self, factor: int) -> float:
        """Their sum, multiplied."""
        return factor * self.total

    def _hidden(self):
        """Nobody's business."""


def test_the_words_of_a_record():
    assert describe(Sample).splitlines() == [
        "Sample: Two fields.",
        "    first: int",
        "        beside it. Above it, in two lines.",
        "    second: float = 0.5",
        "    .total",
        "        Their sum.",
        "    .times(factor: int)",
        "        Their sum, multiplied.",
    ]


def test_every_field_of_the_records_is_there_and_lines_are_short():
    for record in (Rollout, View, Method, Objective, Numbers, Task, Example, RuleInput):
        text = describe(record)
        for field in fields(record):
            assert f"\n    {field.name}: " in text
        assert max(map(len, text.splitlines())) <= WIDTH
    assert "weight of the KL penalty" in describe(Numbers)  # the help of an option
    for name in ("sampled", "until_eos", "guided", "canvas_at"):
        assert f"\n    .{name}" in describe(Rollout)


def test_the_picture_numbers_the_questions_row_after_row():
    lm = load_lm("tiny")
    ids = torch.full((2, 4), lm.mask_id)
    where = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]]).bool()
    figure = draw_where(lm, ids, torch.ones(2, 4).bool(), where)
    numbers = [t.get_text() for t in figure.axes[0].texts if t.get_text().isdigit()]
    assert numbers == ["0", "1", "2"]
    assert figure.legends[0].get_texts()[-1].get_text().endswith("K = 3")
    assert figure.dpi >= 100
