"""The drawing of the loop: every word stays in its box, and README asks the same five questions."""

import re
from pathlib import Path

import pytest
from dllm_rl_course.loop_drawing import ANSWERS, HEIGHT, QUESTIONS, WIDTH, draw_loop
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import FancyBboxPatch

README = Path(__file__).parents[2] / "README.md"


def boxes(figure):
    """The boxes in pixels, and which of them are in colour."""
    ax = figure.axes[0]
    patches = [patch for patch in ax.patches if isinstance(patch, FancyBboxPatch)]
    return {patch: patch.get_linewidth() > 1 for patch in patches}


def extents(figure):
    renderer = FigureCanvasAgg(figure).get_renderer()
    return {text: text.get_window_extent(renderer) for text in figure.axes[0].texts}


@pytest.mark.parametrize("name", ANSWERS)
def test_words_stay_inside_their_box(name):
    figure = draw_loop(answers=ANSWERS[name])
    transform = figure.axes[0].transData
    for text, extent in extents(figure).items():
        x, y = text.get_position()
        for patch in boxes(figure):
            left, bottom = patch.get_x(), patch.get_y()
            if left <= x <= left + WIDTH and bottom <= y <= bottom + HEIGHT:
                low = transform.transform((left, bottom))
                high = transform.transform((left + WIDTH, bottom + HEIGHT))
                assert extent.x0 >= low[0] and extent.y0 >= low[1], text.get_text()
                assert extent.x1 <= high[0] and extent.y1 <= high[1], text.get_text()


def test_what_is_answered_or_named_is_highlighted():
    assert sum(boxes(draw_loop()).values()) == 4  # the rollout answers two of the five questions
    assert sum(boxes(draw_loop(answers={"seen": "the answer"})).values()) == 1
    assert sum(boxes(draw_loop(highlight=["views", "loss"])).values()) == 2
    words = " ".join(t.get_text() for t in draw_loop(answers={"seen": "the answer"}).axes[0].texts)
    assert "What may the rollout see? the answer" in words


def test_it_can_be_read_at_full_size():
    figure = draw_loop()
    assert figure.dpi >= 100 and figure.get_size_inches()[0] * figure.dpi < 1000
    assert min(text.get_fontsize() for text in figure.axes[0].texts) >= 8


def test_unknown_questions_are_errors():
    with pytest.raises(ValueError, match="unknown question 'view'.*views"):
        draw_loop(highlight=["view"])
    with pytest.raises(ValueError, match="unknown question 'views '"):
        draw_loop(answers={"views ": ""})


def test_the_chapter_answers_all_and_the_others_some():
    assert list(ANSWERS["the_whole_loop"]) == list(QUESTIONS)
    assert all(
        set(answers) < set(QUESTIONS)
        for name, answers in ANSWERS.items()
        if name != "the_whole_loop"
    )


def test_readme_asks_the_same_questions():
    """In the same order; README may say credit for advantage."""
    asked = re.findall(r"^\| ([A-Z][^|]*\?) \|", README.read_text(), re.M)
    firsts = [question.split()[0] for question in asked[-5:]]
    assert firsts == [question.split()[0] for question in QUESTIONS.values()]
