"""Do prompts and anchored answers fit the model? Counted as rollouts encode them; what does not fit
is named, or left out if the run says so."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from checkpoints import write_checkpoint
from large import run_8b

from dllm_rl_lite.models import encode_prompts, load_lm
from dllm_rl_lite.planning import Prompts, check_prompts
from dllm_rl_lite.planning.prompts import fit_answers, measure_prompts
from dllm_rl_lite.sampler import answer_anchor
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training import TrainConfig

DATA = Path(__file__).parents[3] / "shared" / "data"


def counted_lengths(tokenizer, task, split):
    return [len(encode_prompts(tokenizer, [e.prompt])[0][0]) for e in task.read(split)]


@pytest.fixture(scope="module")
def tokenizer():
    return load_lm("tiny").tokenizer


@pytest.fixture
def gsm8k(tmp_path):
    """A GSM8K file of 40 problems whose questions have 10, 20, ... words; how often it was read."""
    rows = [
        {"question": "word " * (10 * i) + f"{i}?", "answer": f"so #### {i}"} for i in range(1, 41)
    ]
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return load_task("gsm8k", str(tmp_path))


def test_long_prompts_are_left_out_of_training_alone(gsm8k, tokenizer):
    lengths = counted_lengths(tokenizer, gsm8k, "train")
    limit = sorted(lengths)[len(lengths) // 2]
    found = measure_prompts(gsm8k, tokenizer, 3000, limit)
    task = found.task
    kept = task.read("train")
    assert [e.prompt for e in kept] == [
        e.prompt for e, n in zip(gsm8k.read("train"), lengths, strict=True) if n <= limit
    ]
    for split in ("validation", "test"):
        assert task.read(split) == gsm8k.read(split)
    fitting = [n for n in lengths if n <= limit]
    assert found.note == (
        f"{len(lengths) - len(kept)} of {len(lengths)} problems have prompts of more than "
        f"{limit} tokens "
        f"(longest {max(lengths)}) and are left out; "
        f"prompts of {sum(fitting) / len(kept):.0f} tokens on average, {limit} at most"
    )
    assert {e.prompt for e in task.sample(5, "train", 3)} <= {e.prompt for e in kept}


def test_held_out_prompts_are_measured_with_their_prefill(gsm8k, tokenizer):
    """The dry run says "it fits" of the evaluations too."""
    lengths = counted_lengths(tokenizer, gsm8k, "validation")
    room = max(lengths) + len(gsm8k.prefill)
    assert f"{room} at most" in measure_prompts(gsm8k, tokenizer, room, split="validation").note
    with pytest.raises(ValueError, match=f"1 of {len(lengths)} problems have prompts of more than"):
        measure_prompts(gsm8k, tokenizer, room - 1, split="validation")


@pytest.mark.parametrize("max_prompt", [0, 300])
def test_a_long_held_out_prompt_stops_a_run_before_its_model_is_read(tmp_path, max_prompt):
    """Unless the run leaves long prompts out, in training and in evaluations."""
    rows = [{"question": f"{i}?", "answer": f"so #### {i}"} for i in range(3)]
    (tmp_path / "train.jsonl").write_text("\n".join(map(json.dumps, rows)))
    rows[1]["question"] *= 3000
    (tmp_path / "test.jsonl").write_text("\n".join(map(json.dumps, rows)))
    folder, _ = write_checkpoint(tmp_path / "model", "llada", max_sequence_length=2048)
    config = TrainConfig(
        model=str(folder),
        task="gsm8k",
        data=str(tmp_path),
        eval_split="test",
        max_prompt=max_prompt,
        run_dir=str(tmp_path / "run"),
    )
    if max_prompt:
        assert check_prompts(config).note.startswith("prompts of")
        return
    with pytest.raises(ValueError, match="1 of 3 problems have .* max_prompt=.* to leave such"):
        check_prompts(config)


def test_what_fits_is_left_as_it_is_and_read_once(gsm8k, tokenizer):
    reads = []
    task = replace(gsm8k, read=lambda split: reads.append(split) or gsm8k.read(split))
    found = measure_prompts(task, tokenizer, 3000)
    assert found.task is task and reads == ["train"]
    assert re.fullmatch(r"prompts of \d+ tokens on average, \d+ at most", found.note)


def test_prompts_that_do_not_fit_stop_the_run(gsm8k, tokenizer):
    lengths = counted_lengths(tokenizer, gsm8k, "train")
    room = max(lengths) - 1
    with pytest.raises(
        ValueError, match=rf"1 of {len(lengths)} problems have prompts of more than {room} tokens"
    ) as caught:
        measure_prompts(gsm8k, tokenizer, room)
    said = str(caught.value)
    assert f"of {max(lengths)}, ends " in said and "word word" in said
    assert (
        f"set max_prompt={room} to leave such problems out or a length of at most "
        f"{gsm8k.length - 1}" in said
    )
    measure_prompts(gsm8k, tokenizer, room, room)
    measure_prompts(replace(gsm8k, length=gsm8k.length - 1), tokenizer, room + 1)
    with pytest.raises(ValueError, match=rf"set max_prompt to 0 or at least {max(lengths)}"):
        measure_prompts(gsm8k, tokenizer, 3000, 3)
    with pytest.raises(ValueError, match="leaves no room for a prompt"):
        measure_prompts(gsm8k, tokenizer, 0)


def test_a_generated_task_is_looked_at_in_a_sample(tokenizer):
    task = load_task("chain2")
    found = measure_prompts(task, tokenizer, 100)
    assert found == Prompts(task, "prompts of 7 tokens on average, 7 at most")
    with pytest.raises(ValueError, match="256 of 256 problems have prompts of more than 6 tokens"):
        measure_prompts(task, tokenizer, 6)
    with pytest.raises(ValueError, match="set max_prompt to 0 or at least 7"):
        measure_prompts(task, tokenizer, 100, 6)


@pytest.mark.skipif(not DATA.is_dir(), reason="no benchmark files")
def test_the_real_gsm8k_in_a_real_vocabulary(tmp_path):
    folder, _ = write_checkpoint(tmp_path / "dream", "Dream")  # its tokenizer knows every byte
    lm = load_lm(str(folder))
    found = measure_prompts(load_task("gsm8k", str(DATA / "gsm8k")), lm.tokenizer, 4000, 400)
    assert re.match(r"\d+ of 7\d\d\d problems have prompts of more than 400 tokens", found.note)
    assert int(re.search(r"(\d+) at most", found.note)[1]) <= 400


def test_answers_that_leave_no_room_are_left_out_before_the_first_step(gsm8k, tokenizer):
    """The same line as `answer_anchor`, which would stop the run in the step that meets such a
    problem."""
    answers = ["7" * n for n in (1, 5, 9, 10, 30)]
    examples = [replace(e, answer=a) for e, a in zip(gsm8k.read("train"), answers, strict=False)]
    task = replace(gsm8k, length=32, read=lambda split: examples)
    prompts = Prompts(task, "as they are")
    guide = {"rows": 2, "column": "", "margin": 2}
    found = fit_answers(prompts, tokenizer, guide)
    kept = found.task.read("train")
    for example in examples:
        if example in kept:
            assert (
                answer_anchor(tokenizer, [example.answer], 32, 2) != tokenizer.mask_token_id
            ).any()
        else:
            with pytest.raises(ValueError, match="leaves none to reason with"):
                answer_anchor(tokenizer, [example.answer], 32, 2)
    said = (
        f"{5 - len(kept)} of 5 answers leave no token to reason with and are left out; as they are"
    )
    assert 0 < len(kept) < 5 and found.note == said
    assert found.task.read("test") == examples and fit_answers(found, tokenizer, guide) is found
    with pytest.raises(ValueError, match="no anchored answer fits a canvas of 5 tokens"):
        fit_answers(replace(prompts, task=replace(task, length=5)), tokenizer, guide)


def test_a_run_is_measured_with_its_own_model_and_settings(tmp_path, gsm8k):
    c = TrainConfig(task="gsm8k", data=str(tmp_path), model="tiny", preset="tiny", eval_problems=8)
    with pytest.raises(ValueError, match="a completion of 256 tokens leaves no room for a prompt"):
        check_prompts(replace(c, length=256))  # the tiny model holds as many
    guided = replace(c, method="ag-grpo", length=32, max_prompt=200)
    found = check_prompts(replace(guided, numbers={"guide": {"margin": 20}}))
    assert "answers leave no token to reason with" not in found.note
    assert 0 < len(found.task.read("train")) < len(gsm8k.read("train"))
    with pytest.raises(ValueError, match="no anchored answer fits a canvas of 32 tokens"):
        check_prompts(replace(guided, numbers={"guide": {"margin": 31}}))


def test_a_model_without_a_tokenizer_is_named(tmp_path):
    c = run_8b(tmp_path, task="chain2")
    with pytest.raises(ValueError, match=f"the tokenizer in {tmp_path} cannot be read"):
        check_prompts(c)
