"""Rubrics: what each item asks, and that all of them together ask for what the reward does."""

import random
from types import SimpleNamespace

import pytest
import torch

from dllm_rl_lite.rewards import Item, met_share
from dllm_rl_lite.tasks import TASKS, Example, load_task, refine_best, rewards_of
from dllm_rl_lite.tasks.tiny import countdown, sudoku4

RUBRICS = [name for name in TASKS if load_task(name).rubric]


def test_who_has_a_rubric():
    assert RUBRICS == ["sudoku4", "countdown"]


@pytest.mark.parametrize("name", RUBRICS)
@pytest.mark.parametrize("habit", [0.0, 1.0])
def test_all_items_are_met_where_the_reward_is_one(name, habit):
    """Of right texts, of those that show the habit, and of rubbish."""
    task = load_task(name)
    rng = random.Random(0)
    for example in task.sample(20, "train", 0):
        right = task.demonstrate(example, rng, habit)
        for text in (right, right[:-12], "", right.replace("1", "2")):
            items = task.rubric(example, text)
            share = met_share(items)
            assert 0 <= share <= 1 and share == pytest.approx(
                sum(i.weight * i.is_met for i in items) / sum(i.weight for i in items)
            )
            assert (share == 1) == (task.rewards_of([example], [text]) == [1.0])
            for item in items:
                assert item.is_met or not text or item.characters
                assert set(item.characters) <= set(range(len(text)))


PUZZLE = "1000000000000000"
RIGHT = "1234341221434321"


def example_of(puzzle):
    return Example(puzzle, RIGHT, {"puzzle": puzzle})


@pytest.mark.parametrize(
    "grid, share",
    [
        (RIGHT, 1.0),
        ("1234234134124123", 12 / 20),  # rows and columns hold, no box does
        ("2143432112343412", 16 / 20),  # a Sudoku, but not of this puzzle
        ("1234123412341234", 8 / 20),  # the given and the rows
        ("123434122143432", 0.0),  # a digit is missing
        ("1234341221434325", 0.0),  # no digit of the puzzle
    ],
)
def test_sudoku_by_hand(grid, share):
    items = sudoku4.rubric(example_of(PUZZLE), f"<answer>{grid}</answer>")
    assert len(items) == 13 and sum(item.weight for item in items) == 20
    assert met_share(items) == pytest.approx(share)


def test_what_of_a_grid_is_to_be_written_again():
    """The blanks of each unit that fails, and a given that was not kept."""
    text = f"<answer>{RIGHT[:15]}2</answer>"
    items = sudoku4.rubric(example_of(PUZZLE), text)
    failed = [item for item in items if not item.is_met]
    cells = [[c - len("<answer>") for c in item.characters] for item in failed]
    assert cells == [[12, 13, 14, 15], [3, 7, 11, 15], [10, 11, 14, 15]]
    (broken, *_) = sudoku4.rubric(example_of("2" + "0" * 15), f"<answer>{RIGHT}</answer>")
    assert not broken.is_met and broken.characters == (len("<answer>"),)


@pytest.mark.parametrize(
    "text, met",
    [
        ("<answer>7-5+3</answer>", [True, True, False]),
        ("<answer>7+3-5</answer>", [True, True, False]),
        ("<answer>7+5-3</answer>", [True, True, True]),
        ("<answer>5+4</answer>", [True, False, True]),
        ("<answer>7+</answer>", [False, False, False]),
        ("7+5-3", [False, False, False]),
    ],
)
def test_countdown_by_hand(text, met):
    example = load_task("countdown").sample(1, "train", 0)[0]
    example.columns.update(numbers=[3, 7, 5], target=9)
    assert [item.is_met for item in countdown.rubric(example, text)] == met


@pytest.mark.parametrize("text", [RIGHT, "1234234134124123", "12"])
def test_the_weight_of_one_item_is_right_or_wrong(text):
    """All weight on the givens: 1 or 0, as they are kept or not; scaling the weights changes
    nothing."""
    example = example_of(PUZZLE)
    completion = f"<answer>{text}</answer>"
    one = met_share(sudoku4.rubric(example, completion, grid=3.0, line=0.0, box=0.0))
    assert one == float(len(text) == 16)
    twice = sudoku4.rubric(example, completion, grid=8.0, line=2.0, box=4.0)
    assert met_share(twice) == met_share(sudoku4.rubric(example, completion))


def test_weights_that_cannot_be_are_named():
    for weights in ([0.0, 0.0], [1.0, -1.0], [3.0, -1.0]):
        with pytest.raises(ValueError, match="the weights of a rubric must be at least 0"):
            met_share([Item(weight, True) for weight in weights])


# ---------------------------------------------------------------- refinement


def texts_of(lm, texts, length=20):
    rows = []
    for text in texts:
        ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"]
        rows.append(ids + [lm.eos_id] * (length - len(ids)))
    return SimpleNamespace(tokens=torch.tensor(rows), mask_id=lm.mask_id)


BARE = "<answer>1</answer>"
WRONG = f"<answer>{RIGHT[:15]}2</answer>"  # its last digit breaks a row, a column and a box


@pytest.mark.parametrize(
    "rewards, place", [([0.2, 0.9, 0.1], 2), ([0.5, 0.9, 0.5], 2), ([0.1, 0.9, 0.5], 0)]
)
def test_the_best_sibling_is_refined_in_the_place_of_the_worst(lm, rewards, place):
    """Masked are the blanks of the row, the column and the box that fail; the rest stays, tags and
    end-of-sequence included."""
    task = load_task("sudoku4")
    rollout = texts_of(lm, [BARE, WRONG, BARE])
    examples = [example_of(PUZZLE)] * 3
    places, canvas = refine_best(task, lm.tokenizer, examples, rollout, torch.tensor([rewards]))
    assert places.tolist() == [place]
    again = canvas[0] == lm.mask_id
    assert (again.nonzero().flatten() - 1).tolist() == [3, 7, 10, 11, 12, 13, 14, 15]
    assert torch.equal(canvas[0][~again], rollout.tokens[1][~again])


def test_what_meets_all_items_is_not_refined(lm):
    """Of two groups the one whose best text is right keeps all its rows."""
    task = load_task("sudoku4")
    right = f"<answer>{RIGHT}</answer>"
    rollout = texts_of(lm, [right, WRONG, WRONG, BARE])
    examples = [example_of(PUZZLE)] * 4
    rewards = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    places, canvas = refine_best(task, lm.tokenizer, examples, rollout, rewards)
    assert places.tolist() == [3] and len(canvas) == 1
    none, empty = refine_best(task, lm.tokenizer, examples[:2], rollout, rewards[:1])
    assert not len(none) and empty.shape == (0, 20)


def test_a_task_without_a_rubric_cannot_refine(lm):
    task = load_task("chain2")
    example = task.sample(1, "train", 0)[0]
    with pytest.raises(ValueError, match="chain2 has no rubric to refine by"):
        refine_best(task, lm.tokenizer, [example], texts_of(lm, [BARE]), torch.zeros(1, 1))
    with pytest.raises(ValueError, match="chain2 has no rubric: choose"):
        task.rubric_reward([example.prompt], [BARE], [example.answer])


def test_the_rubric_as_a_reward():
    """A reward function like any other: the share of the weight that is met."""
    task = load_task("sudoku4")
    examples = [example_of(PUZZLE)] * 2
    grids = [f"<answer>{grid}</answer>" for grid in (RIGHT, "1234123412341234")]
    assert rewards_of(task.rubric_reward, examples, grids) == pytest.approx([1.0, 0.4])
