"""The tiny tokenizer: one token a character, plus the few special tokens that real dLLM tokenizers
have."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<eos>", "<mask>", "<unk>", "<user>", "<assistant>"]
TAGS = ["<answer>", "</answer>"]  # whole tokens, yet ordinary text: decoding keeps them
CHARACTERS = [chr(c) for c in range(32, 127)] + ["\n"]
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<' + m['role'] + '>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The character tokenizer of the tiny world: 104 tokens, ids fixed by the order of the three
    lists above."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL + TAGS + CHARACTERS)}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), behavior="isolated")
    backend.decoder = decoders.Fuse()
    backend.add_tokens([AddedToken(t, special=False, normalized=False) for t in TAGS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<eos>",
        mask_token="<mask>",
        unk_token="<unk>",
        additional_special_tokens=["<user>", "<assistant>"],
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def encode_prompts(
    tokenizer, prompts: list[str], prefill: str = ""
) -> tuple[torch.Tensor, torch.Tensor]:
    """Chat-template, tokenise and left-pad prompts.

    Args:
        tokenizer: any Hugging Face tokenizer; without a chat template (base models) a prompt is
            encoded as it stands.
        prompts: N user messages.
        prefill: what every assistant turn begins with; it is part of the prompt, not of the
            completion.
    Returns:
        ids (N, P) int64 and mask (N, P) bool, False on the padding at the left.
    Raises:
        ValueError: for an empty list, a chat template that fails, a character the tokenizer does
            not know, or prompts without a token.
    """
    if not prompts:
        raise ValueError("no prompts: pass at least one string")
    rows = [torch.tensor(_encode(tokenizer, prompt, prefill)).long() for prompt in prompts]
    if not any(map(len, rows)):
        raise ValueError("the prompts have no token: a prompt must not be empty")
    real = [torch.ones_like(row, dtype=torch.bool) for row in rows]
    padding = {"batch_first": True, "padding_side": "left"}
    ids = pad_sequence(rows, padding_value=tokenizer.pad_token_id, **padding)
    mask = pad_sequence(real, padding_value=False, **padding)
    return ids, mask


def _encode(tokenizer, prompt: str, prefill: str) -> list[int]:
    text = prompt
    if tokenizer.chat_template:
        message = [{"role": "user", "content": prompt}]
        try:
            text = tokenizer.apply_chat_template(
                message, add_generation_prompt=True, tokenize=False
            )
        except Exception as error:  # a template is a program of the checkpoint's
            raise ValueError(
                f"the tokenizer's chat template fails on the prompt {prompt[:60]!r} "
                f"({type(error).__name__}: {error}): mend chat_template in the model's folder"
            ) from error
    ids = tokenizer(text + prefill, add_special_tokens=not tokenizer.chat_template)["input_ids"]
    if tokenizer.unk_token_id is not None and tokenizer.unk_token_id in ids:
        raise ValueError(
            f"prompt {prompt!r} has a character the tokenizer does not know; use printable ASCII"
        )
    return ids


def prompt_lengths(tokenizer, prompts: list[str], prefill: str = "") -> list[int]:
    """The number of tokens of each prompt, encoded as by `encode_prompts`, with the same errors."""
    return [len(_encode(tokenizer, prompt, prefill)) for prompt in prompts]


def decode(tokenizer, tokens: torch.Tensor) -> list[str]:
    """Completions as text: (N, L) int64 -> N strings, end-of-sequence and masks dropped."""
    return tokenizer.batch_decode(tokens, skip_special_tokens=True)
