"""Answer-guided rollouts: what the second stage may see, whose distribution the rows are drawn
from, and what their credit does."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.advantages import BASELINES, group_mean, guided_mean
from dllm_rl_lite.estimators import (
    all_steps,
    importance_weights,
    one_step,
    one_step_with_answer,
    token_logprobs,
)
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import count_passes, decode
from dllm_rl_lite.sampler import (
    Gate,
    RunningConfidence,
    Schedule,
    answer_anchor,
    denoise,
    guided_denoise,
)
from dllm_rl_lite.tasks import Example, load_task
from dllm_rl_lite.training import experience as collect
from dllm_rl_lite.training import rollouts
from dllm_rl_lite.training.calls import Source

LENGTH = 12
PROMPTS = ["6-4+7", "1+2", "9", "3-1"]
ANSWERS = [None, "~", "~~~", "~"]  # a character that nothing else writes: the canary


def anchor_of(lm, margin=2):
    return answer_anchor(lm.tokenizer, ANSWERS, LENGTH, margin)


def guide(lm, rule=None, seed=0, prompts=PROMPTS, anchor=None, temperature=1.0, **more):
    anchor = anchor_of(lm) if anchor is None else anchor
    more = {"answer_rule": Schedule(LENGTH), **more}
    return guided_denoise(
        lm,
        prompts,
        anchor,
        rule or Schedule(6),
        temperature=temperature,
        generator=torch.Generator().manual_seed(seed),
        **more,
    )


# ---------------------------------------------------------------- the anchor


def test_an_anchor_is_the_answer_and_its_margin_at_the_very_end(lm):
    anchor = anchor_of(lm)
    assert anchor.shape == (4, LENGTH) and (anchor[0] == lm.mask_id).all()
    assert decode(lm.tokenizer, anchor) == [
        "",
        "<answer>~</answer>",
        "<answer>~~~</answer>",
        "<answer>~</answer>",
    ]
    assert anchor[1].tolist()[-2:] == [lm.eos_id] * 2
    assert (anchor != lm.mask_id).sum(1).tolist() == [0, 5, 7, 5]
    each = answer_anchor(lm.tokenizer, ANSWERS, LENGTH, [9, 0, 1, 4])
    assert (each != lm.mask_id).sum(1).tolist() == [0, 3, 6, 7]


@pytest.mark.parametrize(
    "answer, margin, message",
    [
        ("1", -1, "margin must be 0 or more end tokens"),
        ("1", 9, "takes 12 of the 12 tokens"),
        ("1" * 10, 0, "leaves none to reason"),
        ("é", 2, "does not know"),
    ],
)
def test_anchors_that_cannot_be(lm, answer, margin, message):
    with pytest.raises(ValueError, match=message):
        answer_anchor(lm.tokenizer, [answer], LENGTH, margin)


# ---------------------------------------------------------------- two stages


@pytest.mark.parametrize("rule", [Schedule(6), Schedule(4, "random"), Gate(0.02)])
def test_nothing_of_the_anchor_reaches_the_second_stage(lm, spy, rule):
    """The canary stands on every canvas of the first stage and on none of the second; what is left
    of it is its length."""
    watched = spy(lm)
    canary = lm.tokenizer("~", add_special_tokens=False)["input_ids"][0]
    r = guide(watched, rule)
    told = anchor_of(lm) != lm.mask_id
    seen = [bool((ids[:, -LENGTH:] == canary).any()) for ids, _, _ in watched.calls]
    begins = next(
        i
        for i, (ids, _, where) in enumerate(watched.calls)
        if len(ids) == 3 and torch.equal(where[:, -LENGTH:], told[1:])
    )
    second = watched.calls[begins:]
    assert seen[0] and not any(seen[begins:]), (
        "the canary is told in stage 1 and in no pass of stage 2"
    )
    first_ids = second[0][0]
    assert (first_ids[:, -LENGTH:][told[1:]] == lm.mask_id).all()
    assert torch.equal(first_ids[:, -LENGTH:][~told[1:]], r.tokens[1:][~told[1:]]), (
        "with the finished reasoning in view"
    )


def test_steps_of_the_answer_follow_those_of_the_reasoning(lm, spy):
    """Every token is drawn, none is given; replayed, the reasoning stands under the plain prompt;
    every pass is counted."""
    watched = spy(lm)
    r, told = guide(watched), anchor_of(lm) != lm.mask_id
    assert r.tokens.shape == (4, LENGTH) and not (r.tokens == lm.mask_id).any() and r.sampled.all()
    assert r.guided.tolist() == [False, True, True, True]
    for i in range(1, 4):
        reasoning, answer = r.unmask_step[i][~told[i]], r.unmask_step[i][told[i]]
        assert int(reasoning.max()) < int(answer.min())
        assert int(answer.max()) == int(r.n_forwards[i]) - 1
        for step in range(int(reasoning.max()) + 1):
            assert (r.canvas_at(step)[i][told[i]] == lm.mask_id).all()
    assert sum(len(ids) for ids, _, _ in watched.calls) == int(r.n_forwards.sum())
    assert r.n_forwards.tolist() == [6, 6 + 5, 5 + 7, 6 + 5], (
        "the longer anchor leaves 5 tokens to fill"
    )


def test_rows_do_not_disturb_each_other(lm):
    """Greedy: an answer-free row is what `denoise` makes of it, a guided one what it is alone,
    whatever stands beside it."""
    r = guide(lm, temperature=0.0)
    free = denoise(lm, PROMPTS[:1], LENGTH, Schedule(6))
    assert torch.equal(r.tokens[:1], free.tokens)
    assert torch.equal(r.unmask_step[:1], free.unmask_step)
    for i in range(1, 4):
        alone = guide(
            lm, temperature=0.0, prompts=PROMPTS[i : i + 1], anchor=anchor_of(lm)[i : i + 1]
        )
        assert torch.equal(alone.tokens[0], r.tokens[i])
        assert torch.equal(alone.unmask_step[0], r.unmask_step[i])
        torch.testing.assert_close(alone.logprob[0], r.logprob[i], rtol=1e-4, atol=1e-5)
    part = r.select(torch.tensor([2, 0]))
    assert part.guided.tolist() == [True, False] and torch.equal(part.anchor, r.anchor[[2, 0]])


def test_each_kind_has_its_own_blocks(lm, spy):
    """Answer-free rows in blocks of 4, guided ones over the whole canvas, in the same passes."""
    watched = spy(lm)
    r = guide(watched, temperature=0.0, block_length=4)
    free = denoise(lm, PROMPTS[:1], LENGTH, Schedule(6), 4)
    assert torch.equal(r.tokens[:1], free.tokens)
    assert (r.unmask_step[0] // 2).tolist() == [0] * 4 + [1] * 4 + [2] * 4
    whole = guide(lm, temperature=0.0)
    assert torch.equal(r.tokens[1:], whole.tokens[1:])
    assert len(watched.calls) == 6 + 7, (
        "both kinds share their passes: 6 of stage 1, 7 for the longest answer"
    )
    blocks = guide(lm, temperature=0.0, guided_block=4)
    assert int(blocks.unmask_step[1][:4].max()) < int(blocks.unmask_step[1][4:7].min())


def test_a_kept_answer_is_the_anchor(lm):
    """Without the second stage the reward reads what was told; the answer counts as written by the
    next step."""
    r, anchor = guide(lm, repredict=False), anchor_of(lm)
    told = anchor != lm.mask_id
    assert torch.equal(r.tokens[told], anchor[told]) and r.sampled.all()
    assert torch.equal(r.unmask_step[told], r.n_forwards[:, None].expand_as(told)[told])
    (view,) = one_step(r, torch.Generator().manual_seed(0), 0.0)
    assert bool((view.scored & told).any()), "and it is scored like any other token"


def test_remasking_rules_cannot_be_guided(lm):
    with pytest.raises(ValueError, match="re-masks cannot be guided"):
        guide(lm, RunningConfidence(6))


# ---------------------------------------------------------------- exact: whose text, whose gradient


@pytest.fixture(scope="module")
def small(table_lm):
    """Canvases of three tokens; the last one is the answer and anchored as token 2. Left to right,
    one token a step."""
    lm = table_lm(3, seed=5)
    n = 6000
    anchor = torch.tensor([[lm.mask_id, lm.mask_id, 2]]).expand(n, 3).contiguous()
    one = Schedule(3, "left_to_right")
    r = guided_denoise(
        lm,
        lm.prompts(n),
        anchor,
        one,
        one,
        temperature=1.0,
        generator=torch.Generator().manual_seed(3),
    )
    return lm, r


def probability(lm, text, told):
    """Probability (float64) of a text, left to right: the reasoning with the answer in view or not;
    the answer without."""
    value = torch.tensor(1.0, dtype=torch.float64)
    for i, token in enumerate(text):
        canvas = [*text[:i], *[lm.mask_id] * (3 - i)]
        if told and i < 2:
            canvas[2] = 2
        value = value * lm.logits(tuple(canvas)).softmax(-1)[i, token]
    return float(value)


def test_guided_texts_follow_the_enumerated_distribution(small):
    """Frequencies of all 27 texts, each within 4.5 standard errors; the recorded log-probabilities
    are its logarithms."""
    lm, r = small
    texts = [tuple(t) for t in r.tokens.tolist()]
    for text in lm.texts():
        p = probability(lm, text, told=True)
        assert abs(texts.count(text) / len(texts) - p) < 4.5 * (p * (1 - p) / len(texts)) ** 0.5
    for i in (0, 1, 2):
        assert float(r.logprob[i].double().sum().exp()) == pytest.approx(
            probability(lm, texts[i], told=True), rel=1e-5
        )
        row = r.select(torch.tensor([i]))
        steps = sum(token_logprobs(lm, row, v).sum() for v in all_steps(row))
        assert float(steps.exp()) == pytest.approx(
            probability(lm, texts[i], told=False), rel=1e-5
        ), "steps show the plain prompt"


def test_the_guided_gradient_is_biased_and_the_ratio_of_texts_repairs_it(small):
    """E_guided[R] is far from E[R]; with weight p(o) / p(o | told), whole texts, it is E[R], in
    value and in gradient."""
    lm, r = small
    wanted = {t for t in lm.texts() if (t[0] + t[1]) % 3 == t[2]}
    exact = sum(probability(lm, t, told=False) for t in wanted)
    told = sum(probability(lm, t, told=True) for t in wanted)
    texts = [tuple(t) for t in r.tokens.tolist()]
    plain = {t: probability(lm, t, told=False) for t in lm.texts()}
    ratio = (
        torch.tensor([plain[t] for t in texts], dtype=torch.float64)
        / r.logprob.double().sum(1).exp()
    )
    reward = torch.tensor([float(t in wanted) for t in texts], dtype=torch.float64)
    weighted = ratio * reward
    assert abs(float(weighted.mean()) - exact) < 4 * float(weighted.std()) / len(texts) ** 0.5
    assert abs(told - exact) > 8 * float(reward.std()) / len(texts) ** 0.5, (
        "without it the answer to another question"
    )
    # the slope of E[R] in the logits of the first token on the empty canvas: softmax score, by
    # enumeration and by weights
    first = lm.logits((3, 3, 3))[0, :3].softmax(-1)
    for token in range(3):
        score = (
            torch.tensor([float(t[0] == token) for t in texts], dtype=torch.float64) - first[token]
        )
        true = sum(
            p * (t in wanted) * ((t[0] == token) - float(first[token])) for t, p in plain.items()
        )
        got = weighted * score
        assert abs(float(got.mean()) - true) < 4 * float(got.std()) / len(texts) ** 0.5


@settings(deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0]), min_size=6, max_size=6),
        min_size=1,
        max_size=4,
    ),
    st.integers(0, 6),
)
def test_the_shared_baseline_pushes_free_rows_down_while_guided_ones_are_better(rewards, guided):
    """Mean credit of the answer-free rows = (their mean - the guided mean) x share guided; the four
    baselines' own rules."""
    rewards = torch.tensor(rewards)
    free, told = rewards.split([6 - guided, guided], 1)
    shared = guided_mean(rewards, guided)
    torch.testing.assert_close(shared, group_mean(rewards))
    if 0 < guided < 6:
        expected = (free.mean(1) - told.mean(1)) * guided / 6
        torch.testing.assert_close(shared[:, : 6 - guided].mean(1), expected, rtol=0, atol=1e-6)
    own = torch.cat([k - k.mean(1, keepdim=True) if k.shape[1] else k for k in (free, told)], 1)
    mixed = {"free apart": (own, shared), "guided apart": (shared, own), "apart": (own, own)}
    for baseline, (a, b) in mixed.items():
        wanted = torch.cat([a[:, : 6 - guided], b[:, 6 - guided :]], 1)
        torch.testing.assert_close(
            guided_mean(rewards, guided, baseline), wanted, rtol=0, atol=1e-6
        )


def test_bad_baselines_are_named():
    for kwargs in ({"baseline": "sharde"}, {"guided": 4}, {"guided": -1}):
        with pytest.raises(ValueError, match="need baseline one of"):
            guided_mean(torch.zeros(2, 3), **{"guided": 1, **kwargs})
    assert BASELINES[0] == "shared"


# ---------------------------------------------------------------- ablations of the likelihood


def test_told_views_score_each_part_where_it_was_drawn(lm):
    """The reasoning of guided rows with the anchor on the canvas, all the rest without; plain
    otherwise; no token twice."""
    r, g = guide(lm), torch.Generator
    plain = one_step(r, g().manual_seed(1), 0.3)[0]
    (same,) = one_step_with_answer(r, g().manual_seed(1), 0.3)
    assert torch.equal(same.tokens, plain.tokens) and torch.equal(same.scored, plain.scored)
    first, second = one_step_with_answer(r, g().manual_seed(1), 0.3, told=True)
    answer = r.anchor != lm.mask_id
    assert torch.equal(first.tokens[:, -LENGTH:], r.anchor) and torch.equal(
        second.tokens, plain.tokens
    )
    assert torch.equal(first.tokens[:, :-LENGTH], plain.tokens[:, :-LENGTH]), (
        "the same masks of the prompt"
    )
    assert not (first.scored & second.scored).any() and torch.equal(
        first.scored | second.scored, plain.scored
    )
    assert torch.equal(second.scored, plain.scored & answer)
    free = denoise(lm, PROMPTS, LENGTH, Schedule(6))
    assert len(one_step_with_answer(free, g().manual_seed(1), 0.3, told=True)) == 1


def test_importance_weights_are_capped_ratios_of_guided_reasoning(lm, small, spy):
    """The enumerated ratio of both probabilities, capped; 1 for answer-free rows; two passes
    for each token of guided reasoning."""
    table, r = small
    weights = importance_weights(table, r, 1.5)
    for i in range(40):
        text = tuple(r.tokens[i].tolist())
        answer = table.logits((*text[:2], 3)).softmax(-1)[2, text[2]]  # the same in both
        ratio = (probability(table, text, told=False) / float(answer)) / (
            probability(table, text, told=True) / float(answer)
        )
        assert float(weights[i]) == pytest.approx(min(ratio, 1.5), rel=1e-4)
    assert float(weights.min()) < 0.9 and float(weights.max()) == 1.5
    watched, mixed = spy(lm), guide(lm)
    weights = importance_weights(watched, mixed, 1.0)
    assert weights[0] == 1
    assert sum(len(ids) for ids, _, _ in watched.calls) == 2 * (7 + 5 + 7)
    with count_passes(lm) as spent:
        none = importance_weights(lm, denoise(lm, PROMPTS, LENGTH, Schedule(6)), 1.0)
    assert (none == 1).all()
    assert spent.asked == 6 * len(PROMPTS), "those of the rollouts alone"
    with pytest.raises(ValueError, match="cap must be above 0"):
        importance_weights(lm, mixed, 0.0)


# ---------------------------------------------------------------- a batch of groups


def numbers(method="ag-grpo", **guide):
    return METHODS[method].numbers("tiny", prompts=3, group=4, guide={"rows": 2, **guide})


def batch_of(lm, name="chain2", method="ag-grpo", reward=None, **guide):
    task, n = load_task(name), numbers(method, **guide)
    problems = task.sample(3, "train", 0)
    g = torch.Generator().manual_seed(0)
    return (
        collect.collect(lm, task, reward or task.reward, METHODS[method], n, problems, g),
        task,
        n,
        problems,
    )


def test_the_last_siblings_of_each_group_are_guided(lm):
    """Rows, credit and log agree on who saw the answer."""

    def by_kind(prompts, completions, answer, **_):
        return [0.0, 0.25, 1.0, 0.75] * 3

    batch, _, _, _ = batch_of(lm, reward=by_kind)
    assert batch.rollout.guided.tolist() == [False, False, True, True] * 3
    log = batch.log
    assert (log["reward_free"], log["reward_guided"], log["reward"]) == (0.125, 0.875, 0.5)
    assert log["dead_groups"] == log["dead_free"] == 0 and log["forwards_rollout"] == int(
        batch.rollout.n_forwards.sum()
    )
    torch.testing.assert_close(
        batch.advantage.view(3, 4), torch.tensor([[-0.5, -0.25, 0.5, 0.25]] * 3)
    )
    again = batch_of(lm, reward=by_kind, importance=1.0)[0]
    with count_passes(lm) as spent:
        weights = importance_weights(lm, batch.rollout, 1.0)
    torch.testing.assert_close(again.advantage, batch.advantage * weights)
    assert again.log["forwards_rollout"] == log["forwards_rollout"] + spent.asked


def test_a_group_may_be_dead_without_its_guided_rows(lm):
    batch, *_ = batch_of(lm, reward=lambda prompts, completions, **_: [0.0, 0.0, 1.0, 0.0] * 3)
    assert (batch.log["dead_groups"], batch.log["dead_free"], batch.log["dead_free_wrong"]) == (
        0.0,
        1.0,
        1.0,
    )
    none, *_ = batch_of(lm, rows=0)
    assert "reward_free" not in none.log and not none.rollout.guided.any()


@pytest.mark.parametrize("name", ["chain2", "chain", "chain4", "countdown"])
def test_a_fitted_anchor_stands_where_demonstrations_have_the_answer(name):
    """Token for token: the anchor is the end of a right demonstration, padded with end tokens."""
    from dllm_rl_lite.models import load_lm

    lm, task = load_lm("tiny"), load_task(name)
    n = METHODS["ag-grpo"].numbers("tiny", prompts=4, group=2, guide={"rows": 1})
    examples = [e for e in task.sample(4, "train", 0) for _ in range(2)]
    anchor = rollouts.anchors(lm.tokenizer, task, n, examples)
    assert (anchor[0::2] == lm.mask_id).all()
    for row, e in zip(anchor[1::2], examples[1::2], strict=True):
        m = rollouts.fitting_margin(lm.tokenizer, task, e)
        text = lm.tokenizer.decode(row[row != lm.mask_id][: -m or None])
        assert (
            text == f"<answer>{e.answer}</answer>"
            and row[-m or LENGTH :].tolist() == [lm.eos_id] * m
        )
        assert m >= 0 and int((row == lm.mask_id).sum()) > 0


def test_what_cannot_be_guided_is_named(lm):
    with pytest.raises(ValueError, match="leaves none to reason"):
        batch_of(lm, "sudoku4")
    with pytest.raises(ValueError, match="chain2 has no column 'target' to anchor"):
        batch_of(lm, column="target")
    countdown = load_task("countdown").sample(1, "train", 0)[0]
    (row,) = rollouts.anchors(
        lm.tokenizer,
        load_task("countdown"),
        numbers(column="target", margin=0, rows=4),
        [countdown],
    )
    assert f"<answer>{countdown.columns['target']}</answer>" in lm.tokenizer.decode(row)
    with pytest.raises(ValueError, match="guide.rows must be at most 4"):
        numbers(rows=5)
    with pytest.raises(ValueError, match="order 'rcr' re-masks, which guided rollouts cannot"):
        METHODS["ag-grpo"].numbers("tiny", order="rcr")
    filled = replace(
        METHODS["ag-ta-grpo"].numbers("tiny", prompts=3, group=4, guide={"rows": 2}),
        verify={"fill": True},
    )
    task = load_task("chain2")
    with pytest.raises(ValueError, match="keep no predictions of every step"):
        source = Source(lm, task, task.reward, METHODS["ag-ta-grpo"], filled)
        rollouts.roll_out(source, [Example("1+2", "3")] * 4, torch.Generator())


def test_block_lengths_of_rows_must_fit(lm):
    """One number, or one a row; each must divide the length."""
    for blocks, message in (
        (torch.tensor([4, 5, 4, 4]), "block_length 5 must divide length 12"),
        (torch.tensor([4, 4]), "one number or one per row"),
    ):
        with pytest.raises(ValueError, match=message):
            denoise(lm, PROMPTS, LENGTH, Schedule(6), blocks)


# ---------------------------------------------------------------- rules of guided rows


def test_guided_rows_may_have_a_rule_of_their_own(lm):
    """Greedy: free rows are what the free rule writes, guided rows what the guided rule writes, in
    the order of the anchors; backwards the last masked position comes first."""
    anchor = anchor_of(lm)
    rows = (anchor != lm.mask_id).any(1)
    backwards = Schedule(LENGTH, "right_to_left")
    mixed = guide(lm, temperature=0.0, guided_rule=backwards)
    free = guide(lm, temperature=0.0)
    guided = guide(lm, temperature=0.0, rule=backwards)
    for name in ("tokens", "unmask_step", "n_forwards", "prompt", "anchor"):
        got = getattr(mixed, name)
        assert torch.equal(got[~rows], getattr(free, name)[~rows]), name
        assert torch.equal(got[rows], getattr(guided, name)[rows]), name
    masked = (anchor == lm.mask_id)[rows]
    steps = mixed.unmask_step[rows]
    for row, open_positions in zip(steps, masked, strict=True):
        working = row[open_positions].tolist()
        assert working == sorted(working, reverse=True)


def test_of_several_drafts_the_surest_answer_is_kept(lm, rng):
    """Free rows are drafted once. A guided row's completion is one of its drafts, and none of them
    has a likelier answer; the passes of all are counted."""
    task, method = load_task("chain2"), METHODS["ag-grpo"]
    numbers = method.numbers("tiny", group=3, guide={"rows": 1, "drafts": 4})
    examples = rollouts.repeated(task.sample(2, "train", 0), numbers)
    with count_passes(lm) as spent:
        kept = rollouts.roll_out(Source(lm, task, task.reward, method, numbers), examples, rng(0))
    drafted = [0, 1, 2, 2, 2, 2, 3, 4, 5, 5, 5, 5]
    anchors = rollouts.anchors(lm.tokenizer, task, numbers, examples)[drafted]
    everything = guided_denoise(
        lm,
        [examples[i].prompt for i in drafted],
        anchors,
        numbers.rule(task.length),
        numbers.answer_rule(),
        temperature=1.0,
        generator=rng(0),
    )
    told = everything.anchor != lm.mask_id
    sureness = (everything.logprob * told).sum(1)
    for row in range(6):
        drafts = [i for i, of in enumerate(drafted) if of == row]
        best = max(drafts, key=lambda i: float(sureness[i]))
        assert torch.equal(kept.tokens[row], everything.tokens[best])
    assert spent.asked == int(everything.n_forwards.sum())
