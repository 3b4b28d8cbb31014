"""The tasks of the worlds: writers who keep to their way, worked Sudoku, several chains."""

import random

from dllm_rl_lite.rewards import extract_answer
from dllm_rl_lite.tasks import Example, load_task
from dllm_rl_lite.tasks.tiny import chain, several_chains, sudoku4_worked
from dllm_rl_lite.tasks.tiny.sudoku4 import completions_of, right_grid


def test_each_writer_earns_what_its_working_and_its_answer_deserve():
    """Careful: both rewards. Careless: the answer's only by luck, and its text shows the habit."""
    reads, answer = load_task("writers"), load_task("writers_answer")
    rng = random.Random(0)
    for _ in range(40):
        example = reads.make(rng)
        assert example.prompt[1] == "-"
        careful = reads.demonstrate(example, rng, 0.0)
        careless = reads.demonstrate(example, rng, 1.0)
        luck = float(extract_answer(careless) == example.answer)
        assert reads.rewards_of([example] * 2, [careful, careless]) == [1.0, 0.0]
        assert answer.rewards_of([example] * 2, [careful, careless]) == [1.0, luck]
        assert reads.shows_habit(example, careless) and not reads.shows_habit(example, careful)


def test_a_writer_keeps_to_one_way_for_a_whole_text():
    """Careless in the share that is asked for, within five standard errors; never mixed."""
    example = Example("8-4-3", "1")
    rng = random.Random(0)
    draws = 2000
    texts = [chain.demonstrate_as_writer(example, rng, 0.3) for _ in range(draws)]
    careless = chain.written(chain.work(8, [("-", 4), ("-", 3)], [False, False]))
    careful = chain.written(chain.work(8, [("-", 4), ("-", 3)], [True, True]))
    assert set(texts) == {careless, careful}
    assert abs(texts.count(careless) / draws - 0.3) < 5 * (0.3 * 0.7 / draws) ** 0.5


def test_worked_sudokus_are_forced_from_the_first_cell_to_the_last():
    """The forced order fills every blank, to the only solution; the habit has a grid to write."""
    rng = random.Random(1)
    for _ in range(20):
        example = sudoku4_worked.make(rng)
        grids, valid = completions_of(example.prompt)
        assert valid.sum() == 1 and not valid.all()
        forced = sudoku4_worked.forced_cells(example.prompt)
        grid = example.prompt
        for cell, digit in forced.items():
            assert sudoku4_worked.candidates(grid, cell) == {digit}
            grid = sudoku4_worked.fill_cell(grid, cell, digit)
        assert sorted(forced) == [i for i, digit in enumerate(example.prompt) if digit == "0"]
        assert grid == example.answer and right_grid(f"<answer>{grid}</answer>", example.prompt)


def test_the_worked_verifier_takes_any_forced_order_and_nothing_else():
    task = load_task("sudoku4_worked")
    example = Example("4120301003001030", "4123321423411432", {"puzzle": "4120301003001030"})
    right = "d3,f2,h4,i2,k4,l1,n4,p2<answer>4123321423411432</answer>"
    texts = {
        right: 1.0,
        right.replace("d3,f2", "f2,d3"): 1.0,  # both are forced from the start
        right.replace("d3,", ""): 0.0,  # a blank is not named
        right.replace("d3,", "d3,d3,"): 0.0,  # named twice
        right.replace("f2", "f4"): 0.0,  # not what is forced
        right.replace("1432<", "1423<"): 0.0,  # the grid is another
        "<answer>4123321423411432</answer>": 0.0,
        "": 0.0,
    }
    assert task.rewards_of([example] * len(texts), list(texts)) == list(texts.values())


def test_several_chains_are_rewarded_part_by_part():
    """A text that is still being written earns the share of answers that stand there; a letter's
    answer is not another's."""
    task = load_task("three_chains")
    example = Example("8-9+8;2-9+1;1-9-6", "746")
    right = task.demonstrate(example, random.Random(0), 0.0)
    parts = right.replace("b", "|b").replace("c", "|c").split("|")
    texts = [right, parts[0], parts[1], parts[0] + parts[2], "a<answer>7</answer>b<answer>6", ""]
    shares = [3, 1, 1, 2, 1, 0]
    assert task.rewards_of([example] * 6, texts) == [share / 3 for share in shares]
    assert several_chains.right_share("b<answer>7</answer>a<answer>4</answer>", "746") == 0.0
    assert len(task.demonstrate(example, random.Random(0), 1.0)) == len(right)
