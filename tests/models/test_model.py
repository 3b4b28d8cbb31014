"""The wrapper: stock weights, bidirectional attention, aligned logits, padding without effect,
exact storage."""

import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from dllm_rl_lite.models import (
    MaskedDiffusionLM,
    build_tokenizer,
    checkpoints,
    load_lm,
    new_tiny_lm,
)


def stock_logits(lm, ids):
    """(N, S, V) logits of a fresh stock model with the same weights and an explicit all-zero 4-D
    additive mask."""
    stock = type(lm.backbone)(lm.backbone.config).eval()
    stock.load_state_dict(lm.backbone.state_dict())
    n, s = ids.shape
    with torch.no_grad():
        return stock(ids, attention_mask=torch.zeros(n, 1, s, s)).logits


def random_ids(rng, n, s, seed=0):
    return torch.randint(2, 104, (n, s), generator=rng(seed))


def everything(ids):
    return torch.ones_like(ids, dtype=torch.bool)


def other_family(kind):
    """A small Qwen2 or Qwen3 with the tiny tokenizer: the families of Dream and of later dLLMs."""
    config, model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[kind]
    torch.manual_seed(0)
    return model(
        config(
            vocab_size=104,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=16,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
    ).eval()


def test_logits_are_the_stock_models_under_a_zero_mask(lm, rng):
    """At the asked positions, in row-major order: the stock model's numbers; the mask token is
    forbidden."""
    ids = random_ids(rng, 3, 20)
    where = torch.rand(3, 20, generator=rng(1)) < 0.4
    with torch.no_grad():
        got = lm(ids, everything(ids), where)
    want = stock_logits(lm, ids)[where]
    assert got.dtype == torch.float32 and got.shape == (int(where.sum()), 104)
    assert torch.isneginf(got[:, lm.mask_id]).all()
    kept = [v for v in range(104) if v != lm.mask_id]
    torch.testing.assert_close(
        got[:, kept], want[:, kept], rtol=0, atol=1e-6 * float(want.abs().max())
    )


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_other_families_are_bidirectional_too(kind, rng):
    """The same wrapper on Qwen: stock numbers under a zero mask."""
    lm = MaskedDiffusionLM(other_family(kind), build_tokenizer()).eval()
    ids = random_ids(rng, 2, 12)
    with torch.no_grad():
        got = lm(ids, everything(ids), everything(ids)).view(2, 12, 104)
    want = stock_logits(lm, ids)
    torch.testing.assert_close(got[..., 3:], want[..., 3:], rtol=0, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_a_later_token_changes_an_earlier_logit(lm, rng, attention):
    """Attention is not causal, whichever implementation transformers picks, and both agree."""
    config = type(lm.backbone.config)(**lm.backbone.config.to_dict())
    config._attn_implementation = attention
    backbone = LlamaForCausalLM(config)
    backbone.load_state_dict(lm.backbone.state_dict())
    model = MaskedDiffusionLM(backbone, lm.tokenizer).eval()
    ids = random_ids(rng, 1, 10)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1 - 2) % 102 + 2
    first = torch.zeros_like(ids, dtype=torch.bool)
    first[0, 0] = True
    with torch.no_grad():
        a, b = model(ids, everything(ids), first), model(changed, everything(ids), first)
        c = lm(ids, everything(ids), first)
    assert (a - b)[:, 3:].abs().max() > 1e-2
    torch.testing.assert_close(a, c, rtol=0, atol=1e-4)


def test_left_padding_does_not_change_a_row(lm, rng):
    """A left-padded batch gives each row the numbers that it has alone."""
    ids = random_ids(rng, 4, 18)
    real = torch.arange(18) >= torch.tensor([0, 3, 7, 12])[:, None]
    ids = torch.where(real, ids, lm.pad_id)
    with torch.no_grad():
        batch = lm(ids, real, real).split(real.sum(1).tolist())
        for i, got in enumerate(batch):
            row = ids[i, real[i]][None]
            alone = lm(row, everything(row), everything(row))
            torch.testing.assert_close(
                got, alone, rtol=1e-5, atol=1e-5 * float(alone[:, 3:].abs().max())
            )


def test_padding_content_has_no_effect(lm, rng):
    """What stands in the padding cannot be seen: bit for bit the same logits."""
    ids = random_ids(rng, 2, 14)
    real = torch.arange(14) >= torch.tensor([0, 5])[:, None]
    other = torch.where(real, ids, 77)
    assert not torch.equal(ids, other)
    with torch.no_grad():
        assert torch.equal(lm(ids, real, real), lm(other, real, real))


def test_shifted_wrapper_moves_logits_by_one(lm, rng):
    """With shifted=True position i is scored by the hidden state of i - 1; position 0 cannot be
    scored."""
    shifted = MaskedDiffusionLM(lm.backbone, lm.tokenizer, shifted=True)
    ids = random_ids(rng, 2, 9)
    where = everything(ids)
    where[:, 0] = False
    with torch.no_grad():
        got = shifted(ids, everything(ids), where).view(2, 8, 104)
    torch.testing.assert_close(got[..., 3:], stock_logits(lm, ids)[:, :-1, 3:], rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="position 0"):
        shifted(ids, everything(ids), everything(ids))


def test_nothing_asked_gives_an_empty_answer(lm, rng):
    """Zero positions: a (0, V) tensor, not an error."""
    ids = random_ids(rng, 2, 5)
    assert lm(ids, everything(ids), torch.zeros_like(ids, dtype=torch.bool)).shape == (0, 104)


@pytest.mark.parametrize("shifted", [False, True])
def test_save_and_load_are_bit_exact(lm, rng, tmp_path, shifted):
    """A saved model comes back with the same weights, logits, tokenizer and alignment, in
    evaluation mode."""
    original = MaskedDiffusionLM(lm.backbone, lm.tokenizer, shifted=shifted)
    original.save_pretrained(tmp_path)
    loaded = load_lm(tmp_path)
    lm.backbone.config.shifted = False
    assert loaded.shifted == shifted and not loaded.training
    mine, theirs = original.state_dict(), loaded.state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)
    ids = random_ids(rng, 2, 9)
    where = everything(ids)
    where[:, 0] = False
    with torch.no_grad():
        assert torch.equal(
            original(ids, everything(ids), where), loaded(ids, everything(ids), where)
        )
    chat = [{"role": "user", "content": "1-2<answer>"}]
    texts = [
        t.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
        for t in (lm.tokenizer, loaded.tokenizer)
    ]
    assert texts[0] == texts[1]
    assert lm.tokenizer(texts[0])["input_ids"] == loaded.tokenizer(texts[0])["input_ids"]
    assert (loaded.mask_id, loaded.eos_id, loaded.pad_id) == (lm.mask_id, lm.eos_id, lm.pad_id)


def test_a_new_model_depends_on_its_seed_only():
    """Equal seeds give equal weights, other seeds others, and the global generator is left
    alone."""
    sizes = {"hidden": 16, "layers": 1, "heads": 2, "feed_forward": 16}
    before = torch.get_rng_state()
    a, b, c = (new_tiny_lm(seed=s, **sizes).backbone.lm_head.weight for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_truncated_weights_are_refused(lm, tmp_path):
    """Half a weight file is an error that names the folder and what to do."""
    lm.save_pretrained(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ValueError, match="cannot be read.*download it again"):
        load_lm(tmp_path)


@pytest.mark.parametrize(
    "kind, change",
    [
        ("missing_keys", lambda w: w.pop("model.layers.1.mlp.up_proj.weight")),
        (
            "unexpected_keys",
            lambda w: w.update({"model.layers.9.mlp.up_proj.weight": torch.zeros(2, 2)}),
        ),
    ],
)
def test_weights_that_do_not_fit_are_refused(lm, tmp_path, kind, change):
    """A missing or a surplus tensor is named, never filled with random numbers."""
    lm.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{kind}.*mlp\.up_proj"):
        load_lm(tmp_path)


def test_weights_of_another_shape_are_refused(lm, tmp_path):
    """A config that does not describe the weights is an error, not a new random layer."""
    lm.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "intermediate_size": 48}))
    with pytest.raises(ValueError, match="cannot be read|mismatched_keys"):
        load_lm(tmp_path)


@pytest.mark.parametrize("device", ["gpu", "", "cuda:99", "mps", 99, 1.5])
def test_a_device_that_is_not_here_is_named_and_no_file_blamed(device):
    with pytest.raises(ValueError, match=f"device '{device}' cannot be used here") as error:
        load_lm("tiny", device=device)
    assert "read" not in str(error.value) and "\n" not in str(error.value)


def test_a_type_of_weights_may_be_its_name():
    assert load_lm("tiny", dtype="bfloat16").backbone.dtype == torch.bfloat16
    for dtype in ("bfloat", torch.int8, None):
        with pytest.raises(ValueError, match="unknown dtype .*known: bfloat16, float16, float32"):
            load_lm("tiny", dtype=dtype)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Cannot allocate memory (os error 12)"),
        RuntimeError("unable to mmap 4 bytes from file <x>: Cannot allocate memory (12)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("place", ["load_file", "LlamaForCausalLM"])
def test_lack_of_memory_while_loading_blames_no_file(monkeypatch, error, place):
    """Nobody is to delete a whole model since there was no room for it."""

    def fail(*_, **__):
        raise error

    if place == "load_file":
        monkeypatch.setattr(checkpoints, place, fail)
    else:
        monkeypatch.setattr(LlamaForCausalLM, "from_pretrained", fail)
    with pytest.raises(RuntimeError, match="memory ran out while .*free some memory") as found:
        load_lm("tiny")
    assert "delete" not in str(found.value) and "again" not in str(found.value)


def test_memory_that_really_runs_out_is_named(tmp_path):
    """A process with no room for the weights: 40 MB of them, 8 MB left."""
    new_tiny_lm(hidden=512, layers=3, heads=2, feed_forward=1536).save_pretrained(tmp_path)
    code = (
        "import resource, psutil\n"
        "from dllm_rl_lite.models import load_lm\n"
        "load_lm('tiny')\n"
        "most = psutil.Process().memory_info().vms + 2**23\n"
        "resource.setrlimit(resource.RLIMIT_AS, (most, most))\n"
        f"load_lm({str(tmp_path)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "RuntimeError: memory ran out while" in done.stderr.splitlines()[-1]


def test_unknown_names_get_the_nearest_match():
    """A typo in the name is answered with what was meant."""
    with pytest.raises(ValueError, match="no model 'tinny'.*did you mean 'tiny'"):
        load_lm("tinny")
    with pytest.raises(ValueError, match="neither 'tiny' nor 'tiny-writers' nor a folder") as error:
        load_lm("/no/such/folder")
    assert "did you mean" not in str(error.value)


def test_inputs_that_do_not_fit_are_refused(lm, rng):
    """Too many tokens, and tensors of unequal shape."""
    ids = random_ids(rng, 1, lm.max_length + 1)
    with pytest.raises(ValueError, match="65 tokens, the model holds 64"):
        lm(ids, everything(ids), everything(ids))
    ids = random_ids(rng, 2, 6)
    with pytest.raises(ValueError, match="must have one shape"):
        lm(ids, everything(ids), everything(ids)[:, :5])


@pytest.mark.parametrize("name", ["mask_token", "eos_token", "pad_token"])
def test_a_tokenizer_without_a_needed_token_is_refused(lm, name):
    """The wrapper needs a mask, an end and a padding token, and says which is missing."""
    tokenizer = build_tokenizer()
    setattr(tokenizer, name, None)
    with pytest.raises(ValueError, match=f"no {name}_id"):
        MaskedDiffusionLM(lm.backbone, tokenizer)


def test_a_mask_outside_the_vocabulary_is_refused(lm):
    tokenizer = build_tokenizer()
    tokenizer.add_special_tokens({"mask_token": "<other>"})
    with pytest.raises(ValueError, match="mask_token_id 104 .*outside the model's vocabulary of 1"):
        MaskedDiffusionLM(lm.backbone, tokenizer)
