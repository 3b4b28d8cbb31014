"""The tiny tokenizer: one token a character, nothing lost, padding at the left."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dllm_rl_lite.models import build_tokenizer, decode, encode_prompts, prompt_lengths
from dllm_rl_lite.models.tokenizer import CHARACTERS, SPECIAL, TAGS

TOKENIZER = build_tokenizer()
plain = st.text(st.sampled_from(CHARACTERS), max_size=60).filter(
    lambda t: not any(s in t for s in SPECIAL + TAGS)
)


def test_ids_follow_the_order_of_the_lists():
    """Ids are fixed by the lists: 6 special, 2 tags, 96 characters."""
    assert len(TOKENIZER) == 104
    assert TOKENIZER.convert_tokens_to_ids(SPECIAL + TAGS + CHARACTERS) == list(range(104))
    assert (TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.mask_token_id) == (0, 1, 2)


@settings(max_examples=150, deadline=None)
@given(plain)
def test_plain_text_round_trips_one_token_a_character(text):
    """Encoding gives one known token a character; decoding gives the text back."""
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    assert len(ids) == len(text) and TOKENIZER.unk_token_id not in ids
    assert TOKENIZER.decode(ids) == text


def test_tags_are_one_token_each_and_survive_decoding():
    """Answer tags are whole tokens and ordinary text; special tokens are dropped."""
    ids = TOKENIZER("1=1<answer>4</answer>", add_special_tokens=False)["input_ids"]
    assert len(ids) == 6
    row = torch.tensor(
        [ids + [TOKENIZER.eos_token_id, TOKENIZER.mask_token_id, TOKENIZER.pad_token_id]]
    )
    assert decode(TOKENIZER, row) == ["1=1<answer>4</answer>"]


def test_prompts_are_templated_and_left_padded():
    """A prompt becomes <user> prompt <assistant>; shorter ones are padded at the left, and only
    there."""
    ids, mask = encode_prompts(TOKENIZER, ["1+2", "12345"])
    assert (
        ids.shape == mask.shape == (2, 7) and ids.dtype == torch.long and mask.dtype == torch.bool
    )
    assert TOKENIZER.convert_ids_to_tokens(ids[0].tolist()) == [
        "<pad>",
        "<pad>",
        "<user>",
        "1",
        "+",
        "2",
        "<assistant>",
    ]
    assert TOKENIZER.convert_ids_to_tokens(ids[1].tolist()) == ["<user>", *"12345", "<assistant>"]
    assert mask.tolist() == [[False] * 2 + [True] * 5, [True] * 7]


def test_a_demonstration_in_the_template_ends_with_eos():
    """The assistant's turn closes with the end-of-sequence token."""
    chat = [{"role": "user", "content": "1"}, {"role": "assistant", "content": "2"}]
    assert TOKENIZER.apply_chat_template(chat, tokenize=False) == "<user>1<assistant>2<eos>"


@pytest.mark.parametrize(
    "prompts, message", [([], "no prompts"), (["1", "größe"], "does not know")]
)
def test_bad_prompts_say_what_is_wrong(prompts, message):
    """No prompt at all, and a character outside the vocabulary, are named."""
    with pytest.raises(ValueError, match=message):
        encode_prompts(TOKENIZER, prompts)


def test_a_prompt_needs_a_token():
    """Of a base model, that has no template; beside another prompt an empty one is all padding."""
    base = build_tokenizer()
    base.chat_template = None
    with pytest.raises(ValueError, match="the prompts have no token"):
        encode_prompts(base, ["", ""])
    assert encode_prompts(base, ["", "1"])[1].tolist() == [[False], [True]]


def test_lengths_are_those_of_the_encoded_prompts():
    prompts = ["1+2", "", "12345"]
    _, mask = encode_prompts(TOKENIZER, prompts, prefill="ab")
    assert prompt_lengths(TOKENIZER, prompts, prefill="ab") == mask.sum(1).tolist() == [7, 4, 9]
