"""What holds for a causal model and not under full attention: shared prompts, gated adapters, exit
by position."""

import pytest
import torch
from dllm_rl_course import causal

from dllm_rl_lite.models import build_tokenizer, new_tiny_lm

PROMPT = torch.tensor([[4, 30, 20, 33, 5]])
COMPLETIONS = torch.tensor([[30, 20, 33, 40], [31, 22, 35, 41], [30, 20, 33, 41]])


@pytest.fixture(scope="module")
def net():
    return causal.causal_net()


@pytest.fixture(scope="module")
def full():
    """The same weights under full attention."""
    return new_tiny_lm(hidden=64, layers=3, feed_forward=192).backbone.eval()


def apart(found, wanted):
    return (found - wanted).abs().max().item()


def test_both_have_the_same_weights(net, full):
    pairs = zip(net.parameters(), full.parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_a_prompt_does_not_see_its_completion(net, full):
    states = causal.prompt_states(net, PROMPT, COMPLETIONS)
    assert torch.equal(states, states[:1].expand_as(states))
    assert apart(*causal.prompt_states(full, PROMPT, COMPLETIONS)[:2]) > 0.01


def test_a_shared_prompt_gives_the_logits_of_the_whole_text(net):
    text = torch.cat([PROMPT.expand(len(COMPLETIONS), -1), COMPLETIONS], 1)
    whole = net(text, use_cache=False).logits[:, PROMPT.shape[1] :]
    assert apart(causal.logits_with_shared_prompt(net, PROMPT, COMPLETIONS), whole) < 1e-4


def gated(net, tokens, mask_id):
    """Logits without and with adapters that are open at masks."""
    with torch.no_grad():
        before = net(tokens, use_cache=False).logits
        gate = (tokens == mask_id)[..., None].float()
        causal.add_gated_adapters(net, gate)
        return before, net(tokens, use_cache=False).logits


def test_a_gated_adapter_leaves_what_stands_before_the_masks(full):
    mask = build_tokenizer().mask_token_id
    tokens = torch.cat([PROMPT, COMPLETIONS[:1, :2], torch.full((1, 3), mask)], 1)
    clean = tokens[0] != mask
    before, after = gated(causal.causal_net(), tokens, mask)
    assert torch.equal(before[:, clean], after[:, clean])
    assert apart(before[:, ~clean], after[:, ~clean]) > 0.01, "it acts where it may"
    other = new_tiny_lm(hidden=64, layers=3, feed_forward=192).backbone.eval()
    before, after = gated(other, tokens, mask)
    assert apart(before[:, clean], after[:, clean]) > 0.01


@pytest.mark.parametrize("depth", [[3] * 9, [3, 3, 3, 2, 2, 1, 1, 1, 1], [1] * 9])
def test_positions_may_leave_early_if_later_ones_leave_no_later(net, depth):
    text = torch.cat([PROMPT, COMPLETIONS[:1]], 1)
    at_once = causal.exit_at_once(net, text, depth)
    assert apart(causal.exit_one_by_one(net, text, depth), at_once) < 1e-4
    if min(depth) == 3:
        assert apart(at_once, net(text, use_cache=False).logits) < 1e-4
    else:
        assert apart(at_once, net(text, use_cache=False).logits) > 0.01


def test_the_depth_must_not_rise(net):
    with pytest.raises(ValueError, match="depth must not rise"):
        causal.exit_at_once(net, PROMPT, [3, 2, 3, 3, 3])


def test_it_learns_and_writes_what_a_whole_pass_would():
    tokenizer = build_tokenizer()
    net, losses = causal.trained_net(tokenizer, ["chain1"], steps=25, rows=8)
    assert losses[-1] < 0.5 * losses[0]
    found = causal.write(net, PROMPT, 5)
    text = torch.cat([PROMPT, found], 1)
    likeliest = net(text, use_cache=False).logits.argmax(-1)
    assert torch.equal(likeliest[:, PROMPT.shape[1] - 1 : -1], found)
