"""Answers that carry their numbers: what a part gets, what it refuses, and losses that compare
siblings."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from updates import (
    ADVANTAGE,
    assert_same,
    direct_gradient,
    gradient_of,
    largest,
    numbers,
    scored_by,
)

from dllm_rl_lite import train
from dllm_rl_lite.advantages import group_mean, guided_mean
from dllm_rl_lite.estimators import estimate, random_masks
from dllm_rl_lite.methods import METHODS, Objective, part
from dllm_rl_lite.methods.parts import SLOTS
from dllm_rl_lite.objectives import text_log_ratio
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.training import TrainConfig, credit, scored_by_any


def scaled(rewards, scale: float = 1.0, name: str = "", most: int | str = 3):
    return rewards * scale


def test_a_part_hands_on_what_its_function_asks_for():
    """Known values by name, its own numbers for the rest, changed numbers in place of its own."""
    answer = part(scaled, scale=2.0)
    assert (answer.function, answer.numbers, answer.__name__) == (scaled, {"scale": 2.0}, "scaled")
    assert answer(rewards=3.0, rollout="not asked for") == 6.0
    assert answer(rewards=3.0, scale=5.0) == 15.0


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"scal": 1.0}, "unknown scaled number of scaled 'scal'; did you mean 'scale'"),
        ({"scale": "2"}, "scaled.scale must be a finite number, got '2'"),
        ({"scale": True}, "scaled.scale must be a finite number, got True"),
        ({"name": 1}, "scaled.name must be a text of one line"),
        ({"most": 2.5}, "scaled.most must be a whole number or a text of one line, got 2.5"),
    ],
)
def test_a_wrong_number_is_refused_when_the_part_is_made(wrong, said):
    with pytest.raises(ValueError, match=said):
        part(scaled, **wrong)


def reads_sky(rewards, sky):
    return rewards


def takes_anything(rewards, **rest):
    return rewards


@pytest.mark.parametrize(
    "slot, answer, said",
    [
        (
            "advantage",
            reads_sky,
            r"reads_sky for advantage 'sky'.*known: completions, ex",
        ),
        ("advantage", takes_anything, "parameter of takes_anything for advantage 'rest'"),
        ("views", scaled, "parameter of scaled for views 'rewards'"),
        ("advantage", part(guided_mean, guided=2), "gives guided_mean its 'guided', so it cannot"),
    ],
)
def test_a_slot_refuses_what_it_cannot_answer(slot, answer, said):
    """The error lists what can be asked for."""
    with pytest.raises(ValueError, match=said):
        replace(METHODS["diffu-grpo"], **{slot: answer})
    with pytest.raises(ValueError, match="parameter of scaled for surrogate 'rewards'"):
        replace(METHODS["diffu-grpo"].objective, surrogate=scaled)


def test_a_number_without_default_stands_in_the_part():
    method = replace(METHODS["diffu-grpo"], advantage=part(reads_sky, sky=3))
    assert method.numbers("tiny", credit={"sky": 4}).credit == {"sky": 4}
    assert replace(method, advantage=group_mean).advantage == part(group_mean)


@pytest.mark.parametrize("name", METHODS)
def test_a_preset_changes_its_parts_numbers(name):
    """Effective numbers: the part's own, then the preset's, then the caller's."""
    method = METHODS[name]
    for preset in ("tiny", "paper"):
        found = method.numbers(preset)
        for key, answer in method.parts().items():
            own = answer.numbers if answer else {}
            changed = getattr(getattr(method, preset), key)
            assert getattr(found, key) == {**own, **changed}
            assert not answer or set(getattr(found, key)) <= set(answer.parameters)
    with pytest.raises(ValueError, match=f"unknown shape number of {name} 'k'"):
        method.numbers("tiny", shape={"k": 1})


# ---------------------------------------------------------------- rewards before credit


def shortest(rewards, completions, examples, rollout, share: float = 0.5):
    """A reward less for each character, which asks for all there is."""
    assert len(completions) == len(examples) == len(rollout.tokens) == rewards.numel()
    return rewards - share * torch.tensor([float(len(text)) for text in completions]).view_as(
        rewards
    )


def test_shaped_rewards_become_credit(policy, batch):
    """Of the shape's own share, or of one that is given; the caller's rewards stay."""
    task = load_task("chain2")
    method = replace(METHODS["diffu-grpo"], shape=part(shortest, share=0.5))
    rewards = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    examples = task.sample(6, "train", 0)
    length = torch.tensor([float(len(text)) for text in batch_texts(policy, batch)]).view(2, 3)
    for changed, share in (({}, 0.5), ({"share": 0.1}, 0.1)):
        n = method.numbers("tiny", group=3, shape=changed)
        found = credit(policy, method, n, rewards, batch, examples)
        torch.testing.assert_close(found.view(2, 3), group_mean(rewards - share * length))
    assert rewards.sum() == 3


def batch_texts(lm, rollout):
    return lm.tokenizer.batch_decode(rollout.tokens, skip_special_tokens=True)


# ---------------------------------------------------------------- groups


def pairwise(log_ratio, advantage, group, slope: float = 1.0):
    """Half the squared gap between each pair's log-ratios and advantages, as a mean over pairs."""
    assert log_ratio.shape == advantage.shape == (len(log_ratio), 1)
    miss = (log_ratio - slope * advantage).view(-1, group)
    return ((miss[:, :, None] - miss[:, None, :]) ** 2 / 2).mean(2).view(-1, 1)


PAIRWISE = replace(
    METHODS["diffu-grpo"],
    name="pairwise",
    views=part(random_masks, n=2),
    objective=Objective(
        level="group",
        ratio=text_log_ratio,
        surrogate=part(pairwise, slope=1.0),
        average="text_sum",
    ),
    tiny=METHODS["gdpo"].tiny,  # kl 0
)


def pairwise_numbers(**changed):
    return numbers("diffu-grpo", group=3, inner_updates=2, **changed)


def test_a_loss_of_groups_is_that_of_one_graph(policy, later, batch):
    """The two-phase gradient equals autograd's of the whole loss; the slope is the caller's."""
    for slope in (1.0, 0.25):
        n = pairwise_numbers(loss={"slope": slope})
        scored = scored_by("pairwise", policy, batch, n, advantage=ADVANTAGE, method=PAIRWISE)
        (old,) = scored.old
        now = estimate(later, scored.rollout, scored.views)
        miss = ((now - old) * scored_by_any(scored.views)).sum(1) - slope * ADVANTAGE
        wanted = 0.0
        for group in miss.split(3):
            wanted = wanted + sum((a - b) ** 2 / 2 for a in group for b in group) / 3
        gradient, stats = gradient_of(later, "pairwise", n, scored, method=PAIRWISE)
        assert_same(gradient, direct_gradient(later, wanted / 6), 1e-5)
        assert stats["loss"] == pytest.approx(wanted.item() / 6, rel=1e-4)


def test_groups_stay_whole(policy, later, batch, monkeypatch):
    """Micro-batches of groups and two processes give the gradient of the whole batch; a micro-batch
    that would cut a group is refused."""
    n = pairwise_numbers()

    def scored():
        return scored_by("pairwise", policy, batch, n, advantage=ADVANTAGE, method=PAIRWISE)

    whole, _ = gradient_of(later, "pairwise", n, scored(), method=PAIRWISE)
    for micro_batch in (3, 6, 9):
        cut, _ = gradient_of(later, "pairwise", n, scored(), micro_batch, method=PAIRWISE)
        assert_same(cut, whole, 1e-5)
    for micro_batch in (1, 4):
        with pytest.raises(ValueError, match=f"micro_batch.*a multiple of 3, got {micro_batch}"):
            gradient_of(later, "pairwise", n, scored(), micro_batch, method=PAIRWISE)
    shares = []
    for rank in range(2):
        with monkeypatch.context() as m:
            m.setattr("dllm_rl_lite.processes.process_count", lambda: 2)
            m.setattr("dllm_rl_lite.processes.process_rank", lambda rank=rank: rank)
            mine = scored()
        assert len(mine.advantage) == 3
        shares.append(gradient_of(later, "pairwise", n, mine, method=PAIRWISE)[0])
    assert_same({k: shares[0][k] + shares[1][k] for k in whole}, whole, 1e-5)


def test_rows_without_credit_stay_with_their_siblings(policy, later, batch):
    """A row of zero credit moves if a sibling has some; a group without any is left out, and what
    the loss is divided by still counts it."""
    n = pairwise_numbers()
    advantage = torch.tensor([0.0, 0, 0, 0.5, 0, -0.5])
    scored = scored_by("pairwise", policy, batch, n, advantage=advantage, method=PAIRWISE)
    assert scored.advantage.tolist() == [0.5, 0, -0.5] and scored.normaliser == 6
    assert largest(gradient_of(later, "pairwise", n, scored, method=PAIRWISE)[0]) > 0
    none = scored_by("pairwise", policy, batch, n, advantage=0 * advantage, method=PAIRWISE)
    assert len(none.advantage) == 0


def test_a_run_says_at_once_that_it_cannot_cut_groups(monkeypatch):
    monkeypatch.setitem(METHODS, "pairwise", PAIRWISE)
    TrainConfig(method="pairwise", micro_batch=16)
    with pytest.raises(ValueError, match="micro_batch must hold whole groups, a multiple of 8"):
        TrainConfig(method="pairwise", micro_batch=12)
    TrainConfig(method="diffu-grpo", micro_batch=12)


def test_credit_that_compares_siblings_refuses_groups_of_one(policy, batch):
    """The numbers allow them, for credit that does not compare."""
    n = METHODS["diffu-grpo"].numbers("tiny", group=1)
    with pytest.raises(ValueError, match="a group of 1 has no siblings to compare with"):
        credit(policy, METHODS["diffu-grpo"], n, torch.ones(6, 1), batch)
    alone = replace(METHODS["diffu-grpo"], advantage=scaled)
    assert credit(policy, alone, n, torch.ones(6, 1), batch).tolist() == [1.0] * 6


def test_a_record_may_have_no_penalty():
    """Then kl must be 0."""
    assert PAIRWISE.objective.penalty is None
    with pytest.raises(ValueError, match="kl must be 0, for pairwise has no penalty, got 0.04"):
        PAIRWISE.numbers("tiny", kl=0.04)
    assert PAIRWISE.numbers("tiny").kl == 0


# ---------------------------------------------------------------- the loop


def test_the_training_loop_names_no_method_and_no_slot():
    """A new row touches its functions, its record and its test only."""
    names = set()
    for node in ast.walk(ast.parse(Path(train.__file__).read_text())):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
        if isinstance(node, ast.Constant):
            names.add(node.value)
    keys = set(METHODS["diffu-grpo"].parts())
    assert not names & {*METHODS, *SLOTS, *keys, "objective", "rewarded"}
