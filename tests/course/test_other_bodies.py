"""Other bodies: padding in a cycle, insertion, any-subset attention, soft masks, experts."""

import itertools
import random

import pytest
import torch
from dllm_rl_course import any_subset, experts, insertion, other_bodies, padding
from dllm_rl_course.bodies import with_fewer_lines
from dllm_rl_course.soft_masks import SoftMaskLM
from exercise import said

from dllm_rl_lite.models import build_tokenizer, decode, load_lm, new_tiny_lm
from dllm_rl_lite.sampler import Schedule, denoise
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig
from dllm_rl_lite.training.base_model import encode_completions

TEXTS = ["6-4=2<answer>2</answer>", "7", "1+1=2,2-2=0<answer>0</answer>"]
PROMPTS = ["6-4", "1+1-2", "9-9+1"]


def test_without_colours_the_cycle_is_padding_by_end_tokens():
    tokenizer = build_tokenizer()
    plain = encode_completions(tokenizer, TEXTS, 20)
    assert torch.equal(plain, encode_completions(tokenizer, TEXTS, 20, ()))
    ids = tokenizer(TEXTS)["input_ids"]
    for row, text in zip(plain.tolist(), ids, strict=True):
        assert row == text + [tokenizer.eos_token_id] * (20 - len(text))


@pytest.mark.parametrize("colours", [1, 3, 7])
def test_the_cycle_begins_anew_after_each_text_and_is_dropped_in_decoding(colours):
    lm = new_tiny_lm(hidden=32, layers=1, heads=1, feed_forward=32, max_length=32)
    plain = encode_completions(lm.tokenizer, TEXTS, 20)
    cycle = padding.add_padding_tokens(lm, colours)
    padded = encode_completions(lm.tokenizer, TEXTS, 20, cycle)
    assert decode(lm.tokenizer, padded) == decode(lm.tokenizer, plain) == TEXTS
    assert torch.equal(padding.first_end(padded, lm.eos_id), padding.first_end(plain, lm.eos_id))
    assert torch.equal(padding.cut(padded, lm.eos_id), plain)
    for row, end in zip(padded.tolist(), padding.first_end(padded, lm.eos_id), strict=True):
        for place, token in enumerate(row[int(end) + 1 :]):
            assert token == cycle[place % colours]
    assert lm.backbone.lm_head.weight.shape[0] == 104 + colours == len(lm.tokenizer)


def test_a_model_with_padding_tokens_is_trained_with_reward(tmp_path):
    """Saved with its longer vocabulary it is a base model like another; the step moves it."""
    lm = load_lm("tiny")
    padding.add_padding_tokens(lm, 7)
    lm.save_pretrained(tmp_path / "base")
    numbers = {"prompts": 4, "group": 4}
    config = TrainConfig(
        method="grpo",
        model=str(tmp_path / "base"),
        preset="tiny",
        task="chain2",
        steps=1,
        numbers=numbers,
        eval_every=0,
        run_dir=str(tmp_path / "run"),
    )
    trained = train(config, say=lambda line: None).lm
    assert trained.backbone.lm_head.weight.shape[0] == 104 + 7
    before = lm.state_dict()
    assert any((before[k] != v).any() for k, v in trained.state_dict().items())


def test_a_model_with_padding_tokens_keeps_what_it_knew():
    lm = new_tiny_lm(hidden=32, layers=1, heads=1, feed_forward=32, max_length=32)
    before = lm.backbone.lm_head.weight.clone()
    state = torch.random.get_rng_state()
    padding.add_padding_tokens(lm, 7, seed=3)
    assert torch.equal(lm.backbone.lm_head.weight[:104], before)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_text_without_end_ends_at_the_canvas():
    tokens = torch.tensor([[5, 6, 7], [1, 6, 1], [5, 1, 7]])
    assert padding.first_end(tokens, 1).tolist() == [3, 0, 1]
    assert padding.cut(tokens, 1).tolist() == [[5, 6, 7], [1, 1, 1], [5, 1, 1]]


LENGTHS = (3, 4, 5, 4, 3, 2)


def test_a_perfect_model_ends_too_early_and_the_cycle_cures_it():
    """The likeliest length is 3 letters; surest first ends after 1 with end padding."""
    found = {}
    for colours in (0, 7):
        world = padding.TextWorld(LENGTHS, (0.45, 0.3, 0.25), 8, colours)
        canvases, weight = world.canvases()
        assert float(weight.sum()) == pytest.approx(1)
        passes = padding.surest_first(canvases, weight)
        found[colours] = next(place for place, token, _ in sorted(passes) if token == 0)
    assert found == {0: 1, 7: 3}


def test_in_a_fixed_order_a_perfect_model_writes_the_distribution_whatever_the_padding():
    """The product of its conditionals is the probability of the canvas, so only the choice of the
    next position shortens texts."""
    for colours in (0, 3):
        world = padding.TextWorld((1, 2, 1), (0.7, 0.3), 4, colours)
        canvases, weight = world.canvases()
        for row, chance in zip(canvases, weight, strict=True):
            canvas = torch.full_like(row, padding.BLANK)
            product = 1.0
            for place in (2, 0, 3, 1):
                product *= float(padding.predicted(canvases, weight, canvas)[place, row[place]])
                canvas[place] = row[place]
            assert product == pytest.approx(float(chance))


def test_texts_lose_first_lines_only():
    text = "1+2=3,3-4=9<answer>9</answer>"
    rng = random.Random(0)
    found = [with_fewer_lines(text, rng) for _ in range(600)]
    kept = ["<answer>9</answer>", "3-4=9<answer>9</answer>", text]
    assert set(found) == set(kept)
    for one, share in zip(kept, (0.45, 0.275, 0.275), strict=True):
        spread = (share * (1 - share) / 600) ** 0.5
        assert abs(found.count(one) / 600 - share) < 4 * spread


def test_insertion_targets_are_shares_and_a_whole_text_has_the_stop_alone():
    target = insertion.insertion_targets([5, 6, 5, 7], [False, True, False, False], 1, 9)
    assert float(target.sum()) == pytest.approx(1)
    assert {(g, t): round(float(target[g, t]), 3) for g, t in target.nonzero().tolist()} == {
        (0, 5): 0.333,
        (1, 5): 0.333,
        (1, 7): 0.333,
    }
    whole = insertion.insertion_targets([5, 6], [True, True], 1, 9)
    assert float(whole[0, 1]) == 1 == float(whole.sum())


def test_how_many_tokens_go_is_drawn_evenly():
    g = torch.Generator().manual_seed(0)
    gone = [insertion.drop_some([1] * 3, g).count(False) for _ in range(800)]
    for n in range(4):
        assert abs(gone.count(n) / 800 - 0.25) < 4 * (0.25 * 0.75 / 800) ** 0.5


@pytest.fixture(scope="module")
def prompt_rows(lm):
    ids = lm.tokenizer(["<user>6-4<assistant>", "<user>1+1-2<assistant>"])["input_ids"]
    return [torch.tensor(row) for row in ids]


def test_events_are_one_distribution_and_do_not_depend_on_the_batch(lm, prompt_rows):
    texts = [[20, 21, 22], [30]]
    together = insertion.event_logprobs(lm, prompt_rows, texts)
    assert torch.allclose(together.exp().sum((1, 2)), torch.ones(2), atol=1e-5)
    assert together[1, 2:].exp().sum() == 0
    assert together[:, 1:, lm.eos_id].exp().sum() == 0
    for i in (0, 1):
        alone = insertion.event_logprobs(lm, prompt_rows[i : i + 1], texts[i : i + 1])[0]
        assert torch.allclose(together[i, : len(texts[i]) + 1], alone, atol=1e-4)


def test_the_probability_of_a_text_is_the_sum_over_all_orders(lm, prompt_rows):
    """4 tokens, one of them twice: 24 orders one by one."""
    text = [20, 21, 20, 22]

    @torch.no_grad()
    def events(there):
        return insertion.event_logprobs(lm, prompt_rows[:1], [there])[0]

    total = 0.0
    for order in itertools.permutations(range(4)):
        there = []
        logp = 0.0
        for place in order:
            gap = sum(i < place for i in there)
            tokens = [text[i] for i in sorted(there)]
            logp += float(events(tokens)[gap, text[place]].double())
            there.append(place)
        total += float(torch.tensor(logp + float(events(text)[0, lm.eos_id])).double().exp())
    found = insertion.text_logprob(events, text, lm.eos_id)
    assert float(found.exp()) == pytest.approx(total, rel=1e-4)


def test_probabilities_of_all_texts_sum_to_one():
    """A table over two letters that must stop at three tokens."""
    g = torch.Generator().manual_seed(1)
    tables = {}

    def events(there):
        key = tuple(there)
        if key not in tables:
            logits = torch.randn(len(there) + 1, 3, generator=g, dtype=torch.float64)
            logits[1:, 0] = float("-inf")  # 0 is the stop
            if len(there) == 3:
                logits[:, 1:] = float("-inf")
            tables[key] = logits.flatten().log_softmax(0).view(logits.shape)
        return tables[key]

    total = 0.0
    for n in range(4):
        for text in itertools.product((1, 2), repeat=n):
            total += float(insertion.text_logprob(events, list(text), 0).exp())
    assert total == pytest.approx(1)


def test_insertion_learns_one_text_and_writes_it(prompt_rows):
    lm = new_tiny_lm(hidden=32, layers=2, heads=2, feed_forward=64, max_length=32)
    text = [20, 21, 22]
    optimizer = torch.optim.Adam(lm.parameters(), lr=5e-3)
    g = torch.Generator().manual_seed(0)
    for _ in range(80):
        insertion.insertion_loss(lm, prompt_rows[:1] * 8, [text] * 8, g).backward()
        optimizer.step()
        optimizer.zero_grad()
    assert insertion.insert_all(lm, prompt_rows[:1], most=9) == [text]


@pytest.fixture(scope="module")
def subset(lm):
    """A prompt, a text and the conditionals of the model in an order."""
    prompt = torch.tensor([[0, 4, 30, 5], [4, 31, 32, 5]])
    mask = torch.tensor([[False, True, True, True], [True] * 4])

    @torch.no_grad()
    def ask(tokens, rank):
        return any_subset.subset_logits(lm, prompt, mask, tokens, rank)

    return ask


def test_a_later_token_changes_no_earlier_conditional(subset, lm):
    g = torch.Generator().manual_seed(0)
    tokens = torch.randint(10, 90, (2, 5), generator=g)
    rank = torch.tensor([[3, 0, 4, 1, 2], [0, 1, 2, 3, 4]])
    before = subset(tokens, rank)
    for late in range(5):
        other = torch.where(rank == late, 95, tokens)
        after = subset(other, rank)
        unmoved = rank <= late
        assert torch.allclose(after[unmoved], before[unmoved], atol=1e-5)
        if late < 4:
            assert not torch.allclose(after[~unmoved], before[~unmoved], atol=1e-3)


def test_one_pass_holds_the_conditionals_of_every_draft(subset, lm):
    """Each of k canvases with the rest unwritten, one by one, and all in one sequence."""
    tokens = torch.tensor([[20, 21, 22, 23], [24, 25, 26, 27]])
    rank = torch.tensor([[2, 0, 3, 1], [0, 3, 1, 2]])
    together = subset(tokens, rank)
    for step in range(4):
        canvas = torch.where(rank < step, tokens, lm.mask_id)
        alone = subset(canvas, rank.clamp(max=step))
        assert torch.allclose(alone[rank == step], together[rank == step], atol=1e-4)


class Scripted:
    """Draws that follow a script, and the probability of what they drew."""

    def __init__(self, script):
        self.script = list(script)
        self.chance = 1.0
        self.asked = []

    def __call__(self, p):
        pick = self.script.pop(0) if self.script else 0
        self.asked.append(p)
        self.chance *= float(p[pick])
        return torch.tensor(pick)


def every_run(predict, rank, ahead):
    """(probability, text, calls) of each run of `write_in_order`, draws taken one after another."""
    scripts = [[]]
    while scripts:
        draw = Scripted(scripts.pop())
        known = len(draw.script)
        script = list(draw.script)
        tokens, calls = any_subset.write_in_order(predict, rank, ahead, draw, 3)
        yield draw.chance, tuple(tokens.tolist()), calls
        script += [0] * (len(draw.asked) - known)
        for at in range(known, len(draw.asked)):
            for other in (1, 2):
                if float(draw.asked[at][other]) > 0:
                    scripts.append(script[:at] + [other])


@pytest.mark.parametrize("ahead", [1, 2, 3])
def test_drafts_leave_the_distribution_as_it_is(table_lm, ahead):
    """Every outcome of every draw, on three tokens of a table, in the order 1, 2, 0."""
    table = table_lm(3)
    rank = torch.tensor([2, 0, 1])

    def predict(tokens, rank):
        rows = []
        for place in range(3):
            canvas = torch.where(rank < rank[place], tokens, 3)
            rows.append(table.logits(tuple(canvas.tolist()))[place].softmax(-1))
        return torch.stack(rows)

    found = {}
    for chance, text, calls in every_run(predict, rank, ahead):
        found[text] = found.get(text, 0.0) + chance
        assert calls <= (3 if ahead < 3 else 4)
    assert sum(found.values()) == pytest.approx(1)
    for text in itertools.product(range(3), repeat=3):
        canvas = [3, 3, 3]
        wanted = 1.0
        for place in (1, 2, 0):
            wanted *= float(table.logits(tuple(canvas)).softmax(-1)[place, text[place]])
            canvas[place] = text[place]
        assert found[text] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_soft_masks_of_no_share_are_plain_masks_to_the_bit(lm, share, monkeypatch):
    monkeypatch.setattr(lm, "shares_rows", False)
    plain = denoise(
        lm, PROMPTS, 8, Schedule(8), temperature=1.0, generator=torch.Generator().manual_seed(4)
    )
    g = torch.Generator().manual_seed(4)
    soft = denoise(SoftMaskLM(lm, share, g), PROMPTS, 8, Schedule(8), temperature=1.0, generator=g)
    same = torch.equal(plain.logprob, soft.logprob) and torch.equal(plain.tokens, soft.tokens)
    assert same == (share == 0)


def test_the_heaviest_lean_is_the_token_that_is_drawn(lm):
    """One noise drives both, so the first pass reveals what its blanks lean towards."""
    g = torch.Generator().manual_seed(0)
    soft = SoftMaskLM(lm, 0.3, g, sharpness=1e-4)
    rollout = denoise(soft, PROMPTS, 6, Schedule(1), temperature=1.0, generator=g)
    embedded = lm.backbone.model.embed_tokens(rollout.tokens)
    assert torch.allclose(soft.lean[:, -6:], embedded, atol=1e-5)


def test_the_largest_of_noisy_log_probabilities_has_the_softmax_distribution():
    """P(argmax of log p + g) by numerical integration over the noise of the winner."""
    p = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)
    at = torch.linspace(-12, 30, 40_001, dtype=torch.float64)
    shifted = at[:, None] - p.log()
    below = (-(-shifted).exp()).exp()
    density = (-shifted - (-shifted).exp()).exp()
    for token in range(3):
        others = below[:, [i for i in range(3) if i != token]].prod(1)
        won = torch.trapezoid(density[:, token] * others, at)
        assert float(won) == pytest.approx(float(p[token]), abs=1e-6)


def test_a_share_outside_its_range_is_refused(lm):
    with pytest.raises(ValueError, match=r"share must be in 0..1, got 1.5"):
        SoftMaskLM(lm, 1.5, torch.Generator())


@pytest.fixture
def routed():
    """A model with four experts in its first layer, and the losses of three rows."""
    lm = new_tiny_lm(hidden=32, layers=2, heads=2, feed_forward=64, max_length=32).eval()
    lm.shares_rows = False
    ids = torch.arange(10, 28).view(3, 6)
    seen = torch.ones_like(ids).bool()

    def build(noise):
        g = torch.Generator().manual_seed(0)
        layer = lm.backbone.model.layers[0]
        layer.mlp = experts.Experts(layer.mlp, 32, 4, noise, g)
        return layer.mlp

    def loss():
        logits = lm(ids, seen, seen)
        nll = torch.nn.functional.cross_entropy(logits, ids.flatten(), reduction="none")
        return nll.view(3, 6).mean(1)

    return build, loss


def test_a_router_that_changes_nothing_learns_nothing(routed):
    build, loss = routed
    layer = build(0.3)
    value, _ = experts.router_loss(layer, loss, 0.0, torch.Generator().manual_seed(1))
    (slope,) = torch.autograd.grad(value, layer.router.weight)
    assert not slope.any()


def test_between_equal_experts_there_is_no_advantage(routed):
    build, loss = routed
    layer = build(0.0)
    value, advantage = experts.router_loss(layer, loss, 0.5, torch.Generator().manual_seed(1))
    assert not advantage.any()
    assert float(value.detach()) == 0


def test_a_change_that_helps_becomes_likelier(routed):
    build, loss = routed
    layer = build(0.5)
    g = torch.Generator().manual_seed(1)
    value, advantage = experts.router_loss(layer, loss, 1.0, g)
    assert advantage.abs().min() > 0
    (slope,) = torch.autograd.grad(value, layer.router.weight)
    assert slope.any()


def test_changed_routes_are_others():
    route = torch.arange(4).repeat(50)[None]
    g = torch.Generator().manual_seed(0)
    assert torch.equal(experts.changed(route, 4, 0.0, g), route)
    assert not (experts.changed(route, 4, 1.0, g) == route).any()


@pytest.mark.parametrize(
    "answer, words",
    [
        ((0.2, 0.5, 1, 1), "right"),
        ([0.2, 0.5, 1.0, 1.0], "right"),
        ((0.2, 0.3, 1, 1), "shorter texts"),
        ((0.3, 0.5, 1, 1), "position 1"),
        ((0.2, 0.6, 1, 1), "position 2"),
        ((0.2, 0.5, 0.5, 1), "position 3"),
        ((0.2, 0.5, 1, 3), "follow the surest"),
        ((0.2, 0.5, 1, 2), "one pass more"),
        ((0.2, 0.5, 1, 0), "whole number"),
        ((20, 50, 100, 1), "0.25, not 25"),
        ((0.2, 0.5, 1), "four numbers"),
    ],
)
def test_exercise_1(capsys, answer, words):
    assert words in said(capsys, other_bodies.exercise_1, answer)


def test_exercise_1_is_what_the_world_says():
    world = padding.TextWorld((0.2, 0.3, 0.5), (0.6, 0.4), 5)
    canvases, weight = world.canvases()
    blank = torch.full_like(canvases[0], padding.BLANK)
    ends = padding.predicted(canvases, weight, blank)[:, 0]
    assert ends[1:4].tolist() == pytest.approx([0.2, 0.5, 1.0])
    passes = padding.surest_first(canvases, weight)
    assert min(place for place, token, _ in passes if token == 0) == 1


def filled(text, length, end, cycle):
    return (text + [end] + (cycle or [end]) * length)[:length]


@pytest.mark.parametrize(
    "answer, words",
    [
        (filled, "right"),
        (lambda text, length, end, cycle: (text + [end] + cycle * length)[:length], "`length`"),
        (lambda text, length, end, cycle: text + [end] * (length - len(text)), "over and over"),
        (lambda text, length, end, cycle: text + [end] + cycle[0:1] * length, "empty cycle|length"),
        (lambda text, length, end, cycle: filled(text, max(length, 3), end, cycle), "no room"),
        (
            lambda text, length, end, cycle: (text + (cycle or [end]) * length)[:length],
            "first token after the text",
        ),
        (
            lambda text, length, end, cycle: (
                text
                + [end]
                + [(cycle or [end])[i % len(cycle or [end])] for i in range(len(text) + 1, length)]
            )[:length],
            "begins anew",
        ),
        ([0], "the function itself"),
    ],
)
def test_exercise_2(capsys, answer, words):
    verdict = said(capsys, other_bodies.exercise_2, answer)
    assert any(word in verdict for word in words.split("|")), verdict


@pytest.mark.parametrize(
    "answer, words",
    [
        (lambda order: [sum(o < p for o in order[:i]) for i, p in enumerate(order)], "right"),
        (lambda order: order, "finished text"),
        (lambda order: [sum(o > p for o in order[:i]) for i, p in enumerate(order)], "on the left"),
        (lambda order: [0] * len(order), "smaller place"),
        ([0, 0, 1], "the function itself"),
    ],
)
def test_exercise_3(capsys, answer, words):
    assert words in said(capsys, other_bodies.exercise_3, answer)
