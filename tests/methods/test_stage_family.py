"""What comes before and beside reinforcement: given texts, pairs and win rates, in the training
code."""

import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from updates import (
    assert_same,
    check_a_step,
    direct_gradient,
    graded,
    gradient_of,
    largest,
    scored_by,
)

from dllm_rl_lite.advantages import z_score
from dllm_rl_lite.estimators import complement_pairs, estimate
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.methods.stage_family import consensus, consensus_credit
from dllm_rl_lite.models import decode
from dllm_rl_lite.objectives import masked_loss
from dllm_rl_lite.sampler import Schedule, denoise, own_dice
from dllm_rl_lite.tasks import Example, demonstration, in_other_orders, load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import (
    TrainConfig,
    collect,
    complete_checkpoints,
    finished,
    prepare,
)


def one_batch(lm, method, task="chain1", parts=1, prompts=3, reward=graded, **numbers):
    """A batch of a small task, its numbers and its problems."""
    task = load_task(task)
    n = method.numbers("tiny", **numbers)
    noise = [torch.Generator().manual_seed(seed) for seed in range(parts)]
    problems = task.sample(prompts, "train", 0)
    batch = collect(lm, task, reward, method, n, problems, noise if parts > 1 else noise[0])
    return n, problems, batch


# ---------------------------------------------------------------- fine-tuning


@pytest.mark.parametrize("name", ["sft", "ton"])
def test_its_gradient_is_the_pretraining_losss(policy, name):
    """On the same masks and times, which the view's weights hold; no rollout is paid for."""
    method = METHODS[name]
    n, _, batch = one_batch(policy, method, prompts=6)
    assert batch.log["forwards_rollout"] == batch.log["computed_rollout"] == 0
    scored = scored_by(name, policy, batch.rollout, n, advantage=batch.advantage)
    (view,) = scored.views
    largest_weight = view.weight.max(1, keepdim=True).values
    t = torch.where(largest_weight > 0, 1 / largest_weight, 1.0)
    r = batch.rollout
    loss = masked_loss(policy, r.prompt, r.prompt_mask, r.tokens, t, view.scored)
    gradient, stats = gradient_of(policy, name, n, scored)
    assert_same(gradient, direct_gradient(policy, loss), 2e-6)
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert 0 < stats["forwards"] == view.scored.any(1).sum()


def test_ton_without_dropping_is_sft(policy):
    """The same texts from the same noise; with drop 1 only answers are left."""
    _, _, plain = one_batch(policy, METHODS["sft"])
    _, _, kept = one_batch(policy, METHODS["ton"], given={"drop": 0.0})
    assert torch.equal(plain.rollout.tokens, kept.rollout.tokens)
    assert torch.equal(plain.rollout.unmask_step, kept.rollout.unmask_step)
    _, problems, bare = one_batch(policy, METHODS["ton"], given={"drop": 1.0})
    texts = decode(policy.tokenizer, bare.rollout.tokens)
    assert texts == [f"<answer>{problem.answer}</answer>" for problem in problems]


def test_half_of_the_working_is_dropped():
    """0.5 of 1000 texts within four standard errors; what has no working stays as it is."""
    task = load_task("chain2")
    problems = task.sample(10, "train", 0)
    texts = demonstration(problems, task, random.Random(0), rows=100, drop=0.5)
    share = sum(text.startswith("<answer>") for text in texts) / 1000
    assert abs(share - 0.5) < 4 * math.sqrt(0.25 / 1000)
    sudoku = load_task("sudoku4")
    grids = sudoku.sample(3, "train", 0)
    assert sudoku.solved(grids, demonstration(grids, sudoku, random.Random(0), drop=1.0)) == [1] * 3


def test_demonstrations_are_right_or_show_the_habit():
    task = load_task("chain2")
    problems = task.sample(20, "train", 0)
    right = demonstration(problems, task, random.Random(0), rows=2)
    twice = [problem for problem in problems for _ in range(2)]
    assert task.solved(twice, right) == [1.0] * 40
    wrong = demonstration(problems, task, random.Random(0), habit=1.0)
    assert all(task.shows_habit(p, text) for p, text in zip(problems, wrong, strict=True))


@pytest.mark.parametrize("numbers", [{"rows": 0}, {"habit": 1.5}, {"drop": -0.1}])
def test_demonstrations_refuse_what_is_out_of_range(numbers):
    task = load_task("chain2")
    with pytest.raises(ValueError, match="need rows >= 1, habit in 0..1 and drop in 0..1"):
        demonstration(task.sample(1, "train", 0), task, random.Random(0), **numbers)


def test_two_stages_are_two_runs(tmp_path):
    """The second starts from the weights that the first left."""
    small = {"task": "chain1", "eval_every": 0, "eval_problems": 1}
    first = TrainConfig(
        method="sft", steps=1, run_dir=str(tmp_path / "sft"), numbers={"prompts": 4}, **small
    )
    train(first, say=lambda line: None)
    second = TrainConfig(
        method="grpo",
        model=str(complete_checkpoints(tmp_path / "sft")[-1] / "model"),
        preset="tiny",
        run_dir=str(tmp_path / "grpo"),
        **small,
    )
    run = prepare(second, second.load_task())
    left = finished(first).lm.state_dict()
    for name, value in run.lm.state_dict().items():
        assert torch.equal(value, left[name])


# ---------------------------------------------------------------- given rows beside rollouts

GIVEN = {"group": 4, "tokens_per_step": 2}


@pytest.mark.parametrize("parts", [1, 2])
def test_given_rows_are_the_last_of_their_groups(policy, parts):
    """They hold the demonstration, take no pass and have no probability under the old policy; the
    log says how likely either kind is."""
    n, problems, batch = one_batch(policy, METHODS["grao"], parts=parts, **GIVEN)
    rows = batch.rollout
    given = torch.tensor([False, False, False, True] * 3)
    assert torch.equal(rows.given, given) and not rows.guided.any()
    texts = decode(policy.tokenizer, rows.tokens[given])
    for problem, text in zip(problems, texts, strict=True):
        assert text == load_task("chain1").demonstrate(problem, random.Random(0), 0.0)
    assert (rows.n_forwards[given] == 0).all() and (rows.n_forwards[~given] == 5).all()
    assert batch.log["forwards_rollout"] == 3 * 3 * 5
    assert rows.logprob[given].isnan().all() and rows.entropy[given].isnan().all()
    assert math.isfinite(batch.log["entropy"]) and rows.sampled.all()
    rewards = torch.tensor(graded(decode(policy.tokenizer, rows.tokens)))
    assert batch.log["reward_given"] == pytest.approx(rewards[given].mean().item())
    assert batch.log["reward_free"] == pytest.approx(rewards[~given].mean().item())
    scored = scored_by("grao", policy, rows, n, advantage=batch.advantage)
    _, stats = gradient_of(policy, "grao", n, scored)
    assert stats["logprob_given"] < 0 and stats["logprob_free"] < 0


def test_rollouts_do_not_depend_on_what_is_given(policy):
    _, _, right = one_batch(policy, METHODS["grao"], **GIVEN)
    _, _, wrong = one_batch(policy, METHODS["grao"], given={"habit": 1.0}, **GIVEN)
    free = ~right.rollout.given
    assert torch.equal(right.rollout.tokens[free], wrong.rollout.tokens[free])
    assert not torch.equal(right.rollout.tokens, wrong.rollout.tokens)


def test_views_of_steps_score_a_given_text_once(policy):
    """In a random order, two tokens at a step; but for the end-of-sequence tokens that come last,
    as of any row."""
    n, _, batch = one_batch(policy, METHODS["grao"], **GIVEN)
    rows = batch.rollout.select(batch.rollout.given)
    assert rows.unmask_step.sort(1).values.tolist() == [[0, 0, 1, 1, 2, 2, 3, 3, 4, 4]] * 3
    assert len({tuple(row) for row in rows.unmask_step.tolist()}) == 3
    views = METHODS["grao"].views(rollout=rows, generator=None, **n.views)
    times = sum((view.scored & (view.weight > 0)).long() for view in views)
    is_end = rows.tokens == rows.eos_id
    assert (times[~is_end] == 1).all() and (times[is_end] <= 1).all()


def test_graos_gradient_is_its_objectives(policy):
    """Of the formula, differentiated as one graph, for any rewards."""
    n, _, batch = one_batch(policy, METHODS["grao"], **GIVEN)
    scored = scored_by("grao", policy, batch.rollout, n, advantage=batch.advantage)
    rewards = torch.tensor(graded(decode(policy.tokenizer, batch.rollout.tokens))).view(3, 4)
    views = METHODS["grao"].views(rollout=batch.rollout, generator=None, **n.views)
    counted = sum((view.scored & (view.weight > 0)).sum(1) for view in views)
    likelihood = estimate(policy, batch.rollout, views).sum(1) / counted
    likelihood = likelihood.view(3, 4)
    advantage = z_score(rewards)
    own, told = likelihood[:, :3], likelihood[:, 3:]
    objective = (
        (advantage[:, :3] * own).mean(1)
        + 0.5 * (advantage[:, 3:] * told)[:, 0]
        + 0.6 * (advantage[:, :3] * (own - told)).mean(1)
    )
    wanted = direct_gradient(policy, -objective.mean() * 3 / 4)
    assert_same(gradient_of(policy, "grao", n, scored)[0], wanted, 1e-5)


def uneven(problems):
    return ["1+1=2"] * (len(problems) + 1)


def too_many(problems):
    return ["1+1=2"] * 5 * len(problems)


@pytest.mark.parametrize("texts", [uneven, too_many])
def test_texts_must_be_dealt_out_evenly(policy, texts):
    method = replace(METHODS["grao"], given=texts)
    with pytest.raises(ValueError, match="grao gives .* texts for 3 groups of 4: each group needs"):
        one_batch(policy, method, **GIVEN)


def test_what_given_texts_cannot_go_with_is_refused():
    grao = METHODS["grao"]
    with pytest.raises(ValueError, match="given texts have no ratio, for the old policy did not"):
        replace(METHODS["grpo"], given=demonstration)
    with pytest.raises(ValueError, match="given texts have no dice, no guide and no steps to"):
        replace(grao, dice=own_dice)
    with pytest.raises(ValueError, match="given texts have no dice, no guide and no steps to"):
        replace(grao, rewarded="partial")
    with pytest.raises(ValueError, match="order 'rcr' re-masks, and grao's given texts have no"):
        grao.numbers("tiny", order="rcr")
    with pytest.raises(ValueError, match="gsm8k has no demonstrations to give"):
        demonstration([], SimpleNamespace(name="gsm8k"), random.Random(0))


# ---------------------------------------------------------------- pairs

ADVANTAGES = {
    "dpo": torch.tensor([-1.0, 0, 1, 0, 0, 0]),
    "tgdpo-style": torch.tensor([0.0, 1, -1, 0, 0, 0]),
    "cdpo-style": torch.tensor([-1.0, 0, 1, 0, 0, 0])[:, None] * torch.linspace(0.1, 1, 8),
}


def pairs_of(name, policy, reference, batch, advantage=None):
    n = METHODS[name].numbers("tiny", group=3)
    advantage = ADVANTAGES[name] if advantage is None else advantage
    return n, scored_by(name, policy, batch, n, reference, advantage)


@pytest.mark.parametrize("name", ADVANTAGES)
@pytest.mark.parametrize("micro_batch", [0, 2])
def test_a_pairs_gradient_is_that_of_one_graph(policy, later, reference, batch, name, micro_batch):
    """Two groups of three: one pair, and a group without a right and a wrong text, which has no
    gradient but counts. Only the pair is scored."""
    n, scored = pairs_of(name, policy, reference, batch)
    live = (ADVANTAGES[name] != 0).view(6, -1).any(1)
    assert len(scored.rollout.tokens) == 2 and scored.normaliser == 2
    assert scored.old == [None] and scored.passes.asked == 2 * len(scored.views)
    rows = batch.select(live)
    log_ratio = estimate(later, rows, scored.views) - scored.ref[0]
    sign = ADVANTAGES[name][live].view(2, -1)
    weight = sign
    if name == "tgdpo-style":
        weight = sign * (1 + 0.5 * sign * 0.1 * log_ratio.detach())
    loss = -torch.nn.functional.logsigmoid(0.1 * (weight * log_ratio).sum()) / 2
    gradient, stats = gradient_of(later, name, n, scored, micro_batch)
    assert_same(gradient, direct_gradient(later, loss), 1e-5)
    assert stats["loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert stats["kl"] > 0 and stats["ratio_spread"] > 0


@pytest.mark.parametrize("name", ADVANTAGES)
def test_at_the_reference_a_pair_is_reinforce(policy, batch, name):
    """beta / 2 (gradient of the right text - gradient of the wrong one), flipped if they are
    swapped."""
    n, scored = pairs_of(name, policy, policy, batch)
    found, _ = gradient_of(policy, name, n, scored)
    live = (ADVANTAGES[name] != 0).view(6, -1).any(1)
    logp = estimate(policy, batch.select(live), scored.views)
    reinforce = -0.1 / 2 * (ADVANTAGES[name][live].view(2, -1) * logp).sum() / 2
    assert_same(found, direct_gradient(policy, reinforce), 2e-6)
    n, swapped = pairs_of(name, policy, policy, batch, -ADVANTAGES[name])
    other, _ = gradient_of(policy, name, n, swapped)
    assert_same({key: -value for key, value in other.items()}, found, 2e-6)


def test_without_a_pair_there_is_no_gradient(policy, later, reference, batch):
    n, scored = pairs_of("dpo", policy, reference, batch, torch.zeros(6))
    gradient, stats = gradient_of(later, "dpo", n, scored)
    assert largest(gradient) == 0 and stats["loss"] == stats["forwards"] == 0


def test_pairs_are_not_cut(policy, reference, batch):
    n, scored = pairs_of("dpo", policy, reference, batch)
    with pytest.raises(ValueError, match="micro_batch must hold whole groups, a multiple of 2"):
        gradient_of(policy, "dpo", n, scored, micro_batch=1)
    with pytest.raises(ValueError, match="micro_batch must hold whole groups, a multiple of 2"):
        TrainConfig(method="dpo", micro_batch=9)
    odd = torch.tensor([1.0, -1, 0, 1, -1, 1])
    with pytest.raises(ValueError, match="dpo compares pairs.*group 1 has an odd one"):
        pairs_of("dpo", policy, reference, batch, odd)


def test_dpo_has_no_penalty_and_needs_no_old_policy():
    """Its reference is there at kl 0; without a ratio nothing can be compared with it."""
    objective = METHODS["dpo"].objective
    assert objective.uses_reference(0.0) and not objective.uses_old
    assert not METHODS["grpo"].objective.uses_reference(0.0)
    with pytest.raises(ValueError, match="kl must be 0, for dpo has no penalty"):
        METHODS["dpo"].numbers("tiny", kl=0.1)
    with pytest.raises(ValueError, match="without a ratio .* nothing is compared with the ref"):
        replace(METHODS["sft"].objective, to_reference=True)


# ---------------------------------------------------------------- RSPO


def test_rspos_gradient_is_that_of_one_graph(policy, later, reference, batch):
    """Half the squared gap of each text's log-ratio and psi times its win rate above one half, and
    the penalty times its weight; with weight 0 SPPO's."""
    advantage = torch.tensor([0.5, -0.5, 0.0, 0.25, 0.25, -0.5])
    for kl in (0.1, 0.0):
        n = METHODS["rspo"].numbers("tiny", group=3, kl=kl)
        scored = scored_by("rspo", policy, batch, n, reference, advantage)
        kept = advantage if kl else advantage[advantage != 0]
        now = estimate(later, scored.rollout, scored.views).sum(1)
        loss = ((now - scored.old[0].sum(1) - 10 * kept) ** 2 / 2).sum()
        if kl:
            d = now - scored.ref[0].sum(1)
            loss = loss + kl * ((-d).clamp(max=10).exp() + d**2).sum()
        gradient, _ = gradient_of(later, "rspo", n, scored)
        assert_same(gradient, direct_gradient(later, loss / 6), 1e-5)


# ---------------------------------------------------------------- agreement


def test_orders_are_of_one_problem():
    """The same numbers and target, shown differently; a right text of one is right for all."""
    task = load_task("countdown")
    found = in_other_orders(task, 12, 0, orders=4)
    for start in range(0, 12, 4):
        block = found[start : start + 4]
        assert len({task.key(example) for example in block}) == 1
        assert task.key(block[0]) == task.key(task.sample(3, "train", 0)[start // 4])
        text = task.demonstrate(block[0], random.Random(0), 0.0)
        assert task.solved(block, [text] * 4) == [1.0] * 4
        for example in block:
            numbers, target = example.prompt.split("=")
            assert [int(n) for n in numbers.split()] == example.columns["numbers"]
            assert int(target) == example.columns["target"]
    with pytest.raises(ValueError, match="orders must be at least 2 and divide 12"):
        in_other_orders(task, 12, 0, orders=5)
    with pytest.raises(ValueError, match="orders must be at most 6, got 7"):
        in_other_orders(task, 14, 0, orders=7)
    with pytest.raises(ValueError, match="chain2 has no numbers to put in another order"):
        in_other_orders(load_task("chain2"), 4, 0)


@pytest.fixture(scope="module")
def asked(policy):
    """Two problems in three ways each: the prompts differ, the texts too."""
    prompts = ["3 7 5=9", "5 7 3=9", "7 5 3=9", "4 1 6=9", "1 6 4=9", "6 4 1=9"]
    noise = torch.Generator().manual_seed(0)
    return denoise(policy, prompts, 8, Schedule(4), temperature=1.0, generator=noise)


def test_a_text_is_scored_under_the_other_prompts_alone(policy, asked):
    """By hand for one text; its own prompt may be any; other orders of the prompts change
    nothing."""
    found = consensus(policy, asked, 0, 3, 2)
    total = 0.0
    for other in (0, 2):
        prompt = torch.tensor([0, other, 2, 3, 4, 5])
        moved = replace(asked, prompt=asked.prompt[prompt], prompt_mask=asked.prompt_mask[prompt])
        masks = complement_pairs(moved, torch.Generator().manual_seed(0), 2, "elbo")
        with torch.no_grad():
            total += float(estimate(policy, moved, masks).sum(1)[1])
    assert float(found[1]) == pytest.approx(total / 2 / 8, rel=1e-5)
    # Of row 1, only its own prompt is another one: its own score stays, the others' do not.
    prompt = torch.tensor([0, 3, 2, 3, 4, 5])
    strange = replace(asked, prompt=asked.prompt[prompt], prompt_mask=asked.prompt_mask[prompt])
    again = consensus(policy, strange, 0, 3, 2)
    torch.testing.assert_close(again[[1, 3, 4, 5]], found[[1, 3, 4, 5]], rtol=1e-5, atol=1e-6)
    assert (again[[0, 2]] != found[[0, 2]]).all()


def test_equal_prompts_agree_with_ones_own(policy, asked):
    """Asked in one way only, the consensus is the text's own likelihood per token."""
    prompt = torch.tensor([0, 0, 0, 3, 3, 3])
    same = replace(asked, prompt=asked.prompt[prompt], prompt_mask=asked.prompt_mask[prompt])
    masks = complement_pairs(same, torch.Generator().manual_seed(5), 2, "elbo")
    with torch.no_grad():
        own = estimate(policy, same, masks).sum(1) / 8
    torch.testing.assert_close(consensus(policy, same, 5, 3, 2), own, rtol=1e-5, atol=1e-6)


def test_consensus_credit_is_a_z_score_of_single_problems(policy, asked):
    examples = [Example("", answer) for answer in "aaabbb"]
    found = consensus_credit(policy, asked, examples, 0, orders=3, n=2)
    wanted = z_score(consensus(policy, asked, 0, 3, 2).view(2, 3)).view(6, 1)
    torch.testing.assert_close(found, wanted.expand(6, 8))
    with pytest.raises(ValueError, match="rows 2 to 3 are not one problem in 2 orders"):
        consensus_credit(policy, asked, examples, 0, orders=2)


# ---------------------------------------------------------------- runs


# The others differ from these in numbers.
@pytest.mark.parametrize("name", ["sft", "grao", "dpo", "cdpo-style", "rspo", "cpc-style"])
def test_it_trains_within_the_dry_runs_bound(tmp_path, name):
    """A step has a gradient and finite numbers, and takes no more passes than the dry run's."""
    task = "chain1"
    numbers = {"prompts": 2, "tokens_per_step": 5}
    if METHODS[name].tiny.group > 1:
        numbers["group"] = 4
    if name == "cpc-style":
        task = "countdown"
        numbers = {"prompts": 4, "tokens_per_step": 14}
    config = TrainConfig(
        method=name,
        task=task,
        steps=2,
        run_dir=str(tmp_path),
        eval_every=0,
        eval_problems=1,
        numbers=numbers,
    )
    check_a_step(config, graded)
