"""Published checkpoints: the original computation on the original keys, strict loading, tokenizers,
and no code but ours."""

import copy
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from checkpoints import CONFIGS, random_weights, write_checkpoint, write_weights
from safetensors.torch import load_file
from torch.nn.functional import silu

from dllm_rl_lite.models import (
    build_tokenizer,
    checkpoints,
    decode,
    encode_prompts,
    load_lm,
)
from dllm_rl_lite.models.checkpoints import map_weights, read_config
from dllm_rl_lite.models.families import FAMILIES, original_name, special_id, stock_config
from dllm_rl_lite.sampler import Schedule, denoise

KINDS = sorted(CONFIGS)
REAL = {  # what config.json of the released checkpoints states, and the parameters they hold
    "llada": (
        dict(
            CONFIGS["llada"],
            d_model=4096,
            n_layers=32,
            n_heads=32,
            n_kv_heads=32,
            mlp_hidden_size=12288,
            embedding_size=126464,
            vocab_size=126464,
            max_sequence_length=4096,
        ),
        8_015_581_184,
    ),
    "Dream": (
        dict(
            CONFIGS["Dream"],
            hidden_size=3584,
            intermediate_size=18944,
            num_hidden_layers=28,
            num_attention_heads=28,
            num_key_value_heads=4,
            vocab_size=152064,
        ),
        7_615_616_512,
    ),
    "a2d-qwen3": (
        dict(
            CONFIGS["a2d-qwen3"],
            hidden_size=1024,
            intermediate_size=3072,
            num_hidden_layers=28,
            num_attention_heads=16,
            num_key_value_heads=8,
            head_dim=128,
            vocab_size=151936,
        ),
        596_049_920,
    ),
}


@pytest.fixture(scope="module", params=KINDS)
def published(request, tmp_path_factory):
    """(kind, folder, weights, model) of one tiny checkpoint in its original layout; LLaDA's in two
    shards."""
    kind = request.param
    folder, weights = write_checkpoint(
        tmp_path_factory.mktemp(kind), kind, shards=2 if kind == "llada" else 1
    )
    return kind, folder, weights, load_lm(folder)


def rms(x, weight, eps):
    return weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps))


def rotate(x, position, theta):
    """Rotary embedding of (N, H, S, D) at positions (S,), halves rotated against each other."""
    d = x.shape[-1]
    angle = position[:, None].float() / theta ** (torch.arange(0, d, 2) / d)
    cos, sin = (torch.cat([f(angle)] * 2, -1) for f in (torch.cos, torch.sin))
    return x * cos + torch.cat([-x[..., d // 2 :], x[..., : d // 2]], -1) * sin


def original_forward(kind, w, ids, real):
    """(N, S, V) unaligned logits, written out on the checkpoint's own keys, under an explicit
    bidirectional mask.

    Positions count from the row's start, padding included, as in the original code: only
    differences of positions matter.
    """
    c = CONFIGS[kind]
    llada = kind == "llada"
    heads, kv = (
        (c["n_heads"], c["n_kv_heads"])
        if llada
        else (c["num_attention_heads"], c["num_key_value_heads"])
    )
    names = (
        (
            "attn_norm",
            "q_proj",
            "k_proj",
            "v_proj",
            "attn_out",
            "ff_norm",
            "ff_proj",
            "up_proj",
            "ff_out",
        )
        if llada
        else (
            "input_layernorm",
            "self_attn.q_proj",
            "self_attn.k_proj",
            "self_attn.v_proj",
            "self_attn.o_proj",
            "post_attention_layernorm",
            "mlp.gate_proj",
            "mlp.up_proj",
            "mlp.down_proj",
        )
    )
    embedding, final, head = (
        ("model.transformer.wte", "model.transformer.ln_f", "model.transformer.ff_out")
        if llada
        else ("model.embed_tokens", "model.norm", "lm_head")
    )
    eps, theta = c["rms_norm_eps"], c["rope_theta"]
    n, s = ids.shape
    mask = torch.zeros(n, 1, 1, s).masked_fill(~real[:, None, None, :], -1e30)
    x = w[f"{embedding}.weight"][ids]
    for i in range(2):
        at = f"model.transformer.blocks.{i}." if llada else f"model.layers.{i}."
        norm1, q, k, v, out, norm2, gate, up, down = (
            {
                kind: w[f"{at}{name}.{kind}"]
                for kind in ("weight", "bias")
                if f"{at}{name}.{kind}" in w
            }
            for name in names
        )

        def linear(x, p):
            return x @ p["weight"].T + p.get("bias", 0)

        h = rms(x, norm1["weight"], eps)
        q, k, v = (
            linear(h, p).view(n, s, count, -1).transpose(1, 2)
            for p, count in ((q, heads), (k, kv), (v, kv))
        )
        if kind == "a2d-qwen3":
            q, k = (
                rms(q, w[f"{at}self_attn.q_norm.weight"], eps),
                rms(k, w[f"{at}self_attn.k_norm.weight"], eps),
            )
        q, k = (rotate(t, torch.arange(s), theta) for t in (q, k))
        k, v = (t.repeat_interleave(heads // kv, 1) for t in (k, v))
        weight = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + mask).softmax(-1)
        x = x + linear((weight @ v).transpose(1, 2).reshape(n, s, -1), out)
        h = rms(x, norm2["weight"], eps)
        x = x + linear(silu(linear(h, gate)) * linear(h, up), down)
    head = w.get(f"{head}.weight", w[f"{embedding}.weight"])
    return rms(x, w[f"{final}.weight"], eps) @ head.T


def canvas(lm, rng, n=3, s=14):
    """Random ids with some masks, and rows of different lengths, padded at the left."""
    ids = torch.randint(3, 104, (n, s), generator=rng(0))
    ids[torch.rand(n, s, generator=rng(1)) < 0.4] = lm.mask_id
    real = torch.arange(s) >= torch.tensor([0, 4, 9])[:n, None]
    return torch.where(real, ids, lm.pad_id), real


def aligned(lm, ids, real):
    """The model's logits at every position that it can score, the mask token's left out, and these
    positions."""
    where = real.clone()
    if lm.shifted:
        where[:, 0] = False
        where[:, 1:] &= real[:, :-1]
    with torch.no_grad():
        logits = lm(ids, real, where)
    kept = torch.arange(logits.shape[-1]) != lm.mask_id
    assert torch.isneginf(logits[:, ~kept]).all()
    return logits[:, kept], where, kept


@pytest.mark.parametrize("padded", [False, True])
def test_logits_are_the_original_computation(published, rng, padded):
    """Float32 rounding apart (other kernels add in another order): 1e-5 of the logits' scale, whole
    and padded batches."""
    kind, _, weights, lm = published
    ids, real = canvas(lm, rng)
    real = real if padded else torch.ones_like(real)
    got, where, kept = aligned(lm, ids, real)
    want = original_forward(kind, weights, ids, real)
    if kind == "Dream":  # token i is scored by the hidden state before it
        want = torch.cat([want[:, :1], want[:, :-1]], 1)
    want = want[where][:, kept]
    assert lm.shifted == (kind == "Dream") and want.std() > 1
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5 * float(want.abs().max()))


def test_the_original_computation_notices_every_tensor(published, rng):
    """The comparison above can fail: each tensor of a checkpoint, changed, moves the logits far
    beyond its tolerance."""
    kind, _, weights, lm = published
    ids, real = canvas(lm, rng)
    base = original_forward(kind, weights, ids, real)[real]
    for key in weights:
        noise = 0.2 * torch.randn(weights[key].shape, generator=rng(1))
        changed = weights | {key: weights[key] + noise}
        moved = (original_forward(kind, changed, ids, real)[real] - base).abs().max()
        assert moved > 1e-3 * base.abs().max(), key


def test_logits_are_the_stock_modules_under_a_zero_mask(published, rng):
    """Bit for bit: the wrapper without a mask, and a fresh stock module under an explicit
    four-dimensional zero mask."""
    _, _, _, lm = published
    ids, _ = canvas(lm, rng)
    real = torch.ones_like(ids, dtype=torch.bool)
    stock = copy.deepcopy(lm.backbone)
    for layer in stock.model.layers:
        layer.self_attn.is_causal = True
    with torch.no_grad():
        want = stock(ids, attention_mask=torch.zeros(3, 1, 14, 14)).logits
        causal = stock(ids).logits
    got, where, kept = aligned(lm, ids, real)
    shift = torch.cat([want[:, :1], want[:, :-1]], 1) if lm.shifted else want
    assert torch.equal(got, shift[where][:, kept])
    assert not torch.allclose(causal, want, atol=1e-2), "the stock module alone would be causal"


def test_bfloat16_stays_close(published, rng):
    """Eight bits of mantissa: logits move by 3 % of their spread at most, and rotary frequencies
    stay float32."""
    _, folder, _, lm = published
    half = load_lm(folder, dtype=torch.bfloat16)
    ids, real = canvas(lm, rng)
    got, want = aligned(half, ids, real)[0], aligned(lm, ids, real)[0]
    assert got.dtype == torch.float32 and {p.dtype for p in half.parameters()} == {torch.bfloat16}
    assert half.backbone.model.rotary_emb.inv_freq.dtype == torch.float32
    assert 0 < (got - want).pow(2).mean().sqrt() < 0.03 * want.std()


def test_rotary_frequencies_are_those_of_the_configuration(published):
    kind, _, _, lm = published
    buffer = lm.backbone.model.rotary_emb.inv_freq
    d = 2 * len(buffer)
    torch.testing.assert_close(
        buffer, CONFIGS[kind]["rope_theta"] ** (-torch.arange(0, d, 2) / d), rtol=1e-6, atol=0
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_released_configurations_have_their_parameters(kind):
    """The real sizes, on no memory at all: as many parameters as the model cards say, and a key for
    every tensor."""
    values, expected = REAL[kind]
    with torch.device("meta"):
        module = FAMILIES[kind].module(stock_config(kind, values))
    assert sum(p.numel() for p in module.parameters()) == expected
    names = {
        n.removesuffix(".weight") for n, _ in module.named_parameters() if n.endswith("weight")
    }
    theirs = {original_name(kind, n) for n in names}
    assert len(theirs) == len(names)
    if kind == "llada":
        assert {
            "model.transformer.wte",
            "model.transformer.ln_f",
            "model.transformer.ff_out",
            "model.transformer.blocks.31.ff_out",
            "model.transformer.blocks.0.attn_out",
        } < theirs
        assert not any("layers" in n or "embed" in n for n in theirs)


def test_special_tokens_come_from_the_configuration(published):
    """Masks, ends and padding are dropped when decoding, although LLaDA's tokenizer here names no
    mask token."""
    kind, _, _, lm = published
    c = CONFIGS[kind]
    assert (lm.mask_id, lm.eos_id, lm.pad_id) == (
        c["mask_token_id"],
        c["eos_token_id"],
        c["pad_token_id"],
    )
    text = lm.tokenizer("ab 12", add_special_tokens=False)["input_ids"]
    row = torch.tensor([*text, lm.mask_id, lm.eos_id, lm.pad_id])
    assert decode(lm.tokenizer, row[None]) == ["ab 12"]


@pytest.mark.parametrize(
    "kind, mask, eos, pad",
    [
        ("llada", 126336, 126081, 126081),
        ("Dream", 151666, 151643, 151643),
        ("a2d-qwen3", 151669, 151645, 151643),
    ],
)
def test_special_tokens_that_no_configuration_names_are_the_familys(kind, mask, eos, pad):
    found = [
        special_id({"mask_token_id": None}, FAMILIES[kind], role) for role in ("mask", "eos", "pad")
    ]
    assert found == [mask, eos, pad]
    assert special_id({"eos_token_id": [7, 8]}, FAMILIES[kind], "eos") == 7


def test_chat_templates_come_from_the_folder(published):
    kind, _, _, lm = published
    ids, mask = encode_prompts(lm.tokenizer, ["1+1", "ab ab"])
    texts = lm.tokenizer.batch_decode([i[m] for i, m in zip(ids, mask, strict=True)])
    opened = {"llada": "<user>{}<assistant>"}.get(
        kind, "<|im_start|>user {}<|im_end|><|im_start|>assistant "
    )
    assert texts == [opened.format("1+1"), opened.format("ab ab")]


def test_a_base_model_without_a_template_gets_the_prompt_as_it_stands(tmp_path):
    folder, _ = write_checkpoint(tmp_path, "Dream")
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["chat_template"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    lm = load_lm(folder)
    assert lm.tokenizer.decode(encode_prompts(lm.tokenizer, ["1+1"])[0][0]) == "1+1"


def test_it_denoises(published):
    """The whole path: prompts, template, rollout, text."""
    _, _, _, lm = published
    rollout = denoise(lm, ["ab", "a longer one"], 8, Schedule(4), block_length=4)
    assert not (rollout.tokens == lm.mask_id).any() and rollout.n_forwards.tolist() == [4, 4]
    assert all(isinstance(t, str) for t in decode(lm.tokenizer, rollout.tokens))


def test_no_code_of_a_checkpoint_runs(published):
    """Dream's folder holds Python files that would leave a trace; nothing of them is written out
    again either."""
    _, folder, _, _ = published
    assert not (folder / "executed").exists()


def test_saved_again_it_is_a_stock_folder(published, rng, tmp_path):
    """save_pretrained writes the stock layout, and load_lm reads the same model back: weights, ids,
    family, alignment."""
    kind, _, _, lm = published
    lm.save_pretrained(tmp_path)
    again = load_lm(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    assert values["model_type"] in ("llama", "qwen2", "qwen3") and "auto_map" not in values
    assert "model.embed_tokens.weight" in load_file(tmp_path / "model.safetensors")
    assert (again.shifted, again.family) == (lm.shifted, kind) and not list(tmp_path.glob("*.py"))
    assert (again.mask_id, again.eos_id, again.pad_id) == (lm.mask_id, lm.eos_id, lm.pad_id)
    ids, real = canvas(lm, rng)
    assert torch.equal(aligned(lm, ids, real)[0], aligned(again, ids, real)[0])
    for one, other in zip(
        encode_prompts(lm.tokenizer, ["ab 1"]),
        encode_prompts(again.tokenizer, ["ab 1"]),
        strict=True,
    ):
        assert torch.equal(one, other)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="reads Linux's list of mappings")
def test_weights_are_streamed(tmp_path):
    """Opened files take no memory: every tensor is a view into its mapped file. The loaded model
    has its own."""
    folder, weights = write_checkpoint(tmp_path, "llada", shards=2)
    _, values = read_config(folder)
    with torch.device("meta"):
        expected = FAMILIES["llada"].module(stock_config("llada", values))
    tensors = map_weights(folder, "llada", expected)
    lm = load_lm(folder)
    mapped = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith(".safetensors") and str(folder) in line:
            mapped.append([int(end, 16) for end in line.split()[0].split("-")])

    def in_a_file(tensor):
        return any(first <= tensor.data_ptr() < last for first, last in mapped)

    assert len(tensors) == len(weights) and all(map(in_a_file, tensors.values()))
    assert not any(map(in_a_file, lm.parameters()))


def test_loading_leaves_the_global_generator_alone(tmp_path):
    folder, _ = write_checkpoint(tmp_path, "a2d-qwen3")
    before = torch.get_rng_state()
    load_lm(folder)
    assert torch.equal(before, torch.get_rng_state())


def test_a_model_does_not_live_in_its_file(tmp_path):
    """Weights have memory of their own: overwriting the checkpoint does not change a loaded
    model."""
    folder, weights = write_checkpoint(tmp_path, "Dream")
    lm = load_lm(folder)
    write_weights(folder, {k: torch.zeros_like(w) for k, w in weights.items()})
    assert torch.equal(lm.backbone.lm_head.weight, weights["lm_head.weight"])


def test_a_tied_head_is_the_embedding(tmp_path):
    """Whether the file repeats it or not; one that differs is refused."""
    weights = random_weights("a2d-qwen3")
    repeated = weights | {"lm_head.weight": weights["model.embed_tokens.weight"].clone()}
    for name, tensors in (("once", weights), ("twice", repeated)):
        lm = load_lm(write_checkpoint(tmp_path / name, "a2d-qwen3", weights=tensors)[0])
        assert lm.backbone.lm_head.weight is lm.backbone.model.embed_tokens.weight
    repeated["lm_head.weight"][0, 0] += 1
    with pytest.raises(
        ValueError, match="ties lm_head.weight to the embedding, and the two differ"
    ):
        load_lm(write_checkpoint(tmp_path / "other", "a2d-qwen3", weights=repeated)[0])


@pytest.mark.parametrize(
    "kind, changes, message",
    [
        ("llada", {"alibi": True}, "alibi is True.*not supported"),
        ("llada", {"include_bias": True}, "include_bias is True"),
        ("llada", {"weight_tying": True}, "weight_tying is True"),
        ("llada", {"num_experts": 64}, "num_experts is 64"),
        ("llada", {"block_type": "sequential"}, "block_type is 'sequential'.*only 'llama'"),
        ("llada", {"activation_type": None}, "activation_type is None"),
        ("llada", {"d_model": None}, r"lacks \['d_model'\]"),
        ("Dream", {"use_sliding_window": True}, "use_sliding_window is True"),
        ("Dream", {"tie_word_embeddings": True}, "tie_word_embeddings is True"),
        ("Dream", {"block_size": 32}, "block_size is 32"),
        ("Dream", {"rope_scaling": {"rope_type": "yarn"}}, "rope_scaling is .*yarn"),
        ("a2d-qwen3", {"attention_bias": True}, "attention_bias is True"),
        (
            "a2d-qwen3",
            {"rope_parameters": {"rope_type": "linear", "factor": 2.0}},
            "rope_type is 'linear'",
        ),
        ("a2d-qwen3", {"head_dim": None}, r"lacks \['head_dim'\]"),
        (
            "a2d-qwen3",
            {"model_type": "a2d-qwen33"},
            "unknown model_type 'a2d-qwen33'; did you mean 'a2d-qwen3'",
        ),
    ],
)
def test_settings_that_the_stock_module_does_not_compute_are_refused(
    tmp_path, kind, changes, message
):
    folder, _ = write_checkpoint(tmp_path, kind, **changes)
    with pytest.raises(ValueError, match=message):
        load_lm(folder)


def test_both_spellings_of_dream_are_one_family(tmp_path):
    assert load_lm(write_checkpoint(tmp_path, "Dream", model_type="dream")[0]).shifted


def test_rope_parameters_may_be_nested(tmp_path, rng):
    """The newer layout of config.json, and LLaDA's n_kv_heads left out, are the same model."""
    flat = load_lm(write_checkpoint(tmp_path / "flat", "a2d-qwen3")[0])
    nested = load_lm(
        write_checkpoint(
            tmp_path / "nested",
            "a2d-qwen3",
            rope_theta=None,
            rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        )[0]
    )
    ids, real = canvas(flat, rng)
    assert torch.equal(aligned(flat, ids, real)[0], aligned(nested, ids, real)[0])
    assert stock_config("llada", CONFIGS["llada"] | {"n_kv_heads": None}).num_key_value_heads == 4


def test_a_block_causal_sibling_is_refused(tmp_path):
    """dllm's bd3lm models carry the same model_type; only the name tells."""
    folder, _ = write_checkpoint(tmp_path / "Qwen3-0.6B-diffusion-bd3lm-v0.1", "a2d-qwen3")
    with pytest.raises(ValueError, match="block-causal"):
        load_lm(folder)


def drop(weights):
    weights.pop("model.transformer.blocks.1.attn_out.weight")


def add(weights):
    weights["model.transformer.blocks.1.attn_out.bias"] = torch.zeros(32)


def reshape(weights):
    weights["model.transformer.blocks.0.ff_proj.weight"] = torch.zeros(32, 48)


@pytest.mark.parametrize(
    "change, message",
    [
        (drop, r"1 missing_keys \['model.transformer.blocks.1.attn_out.weight'"),
        (
            add,
            r"1 unexpected_keys \['model.transformer.blocks.1.attn_out.bias in "
            r"model-0000\d-of-00002.safetensors",
        ),
        (
            reshape,
            r"1 mismatched_keys \['model.transformer.blocks.0.ff_proj.weight in model-0.*"
            r"\[32, 48\], not \[48, 32\]",
        ),
    ],
)
def test_keys_that_do_not_fit_are_named(tmp_path, change, message):
    weights = random_weights("llada")
    change(weights)
    folder, _ = write_checkpoint(tmp_path, "llada", shards=2, weights=weights)
    with pytest.raises(ValueError, match=message):
        load_lm(folder)


def test_shards_that_are_missing_or_truncated_are_named(tmp_path):
    folder, _ = write_checkpoint(tmp_path, "llada", shards=2)
    last = folder / "model-00002-of-00002.safetensors"
    data = last.read_bytes()
    last.write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        load_lm(folder)
    last.unlink()
    with pytest.raises(ValueError, match=r"lacks \['model-00002-of-00002.safetensors'\].*download"):
        load_lm(folder)


def test_pickled_weights_are_refused(tmp_path):
    folder, weights = write_checkpoint(tmp_path, "Dream")
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"lacks \['model.safetensors'\].*pickled weights"):
        load_lm(folder)


DAMAGED = ["", "[]", "3", "null", "{", "[" * 100_000]


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: repr(text[:5]))
@pytest.mark.parametrize("name", ["config.json", "model.safetensors.index.json"])
def test_damaged_json_is_named(tmp_path, name, text):
    folder, _ = write_checkpoint(tmp_path, "Dream", shards=2)
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=f"{name} (cannot be read|should hold an object)"):
        load_lm(folder)


@pytest.mark.parametrize("text", DAMAGED, ids=lambda text: repr(text[:5]))
@pytest.mark.parametrize("kind, name", [("llada", "tokenizer.json"), ("Dream", "vocab.json")])
def test_a_damaged_tokenizer_is_named(tmp_path, kind, name, text):
    folder, _ = write_checkpoint(tmp_path, kind)
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=f"{re.escape(str(folder))}.*(cannot be read|no token)"):
        load_lm(folder)


@pytest.mark.parametrize("places", [[], None, "x", {"a": 3}, {"a": None}])
def test_an_index_that_is_no_index_is_named(tmp_path, places):
    folder, _ = write_checkpoint(tmp_path, "Dream", shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    with pytest.raises(ValueError, match="weight_map should name the file of each tensor"):
        load_lm(folder)


@pytest.mark.parametrize("number", [-1, 104, 10**30, 1.5, "<mask>", {}])
def test_a_mask_token_that_is_not_there_is_named(tmp_path, number):
    folder, _ = write_checkpoint(tmp_path, "llada", mask_token_id=number)
    with pytest.raises(ValueError, match="its mask token|mask_token_id must be the number"):
        load_lm(folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"d_model": "x"},
        {"n_layers": [1]},
        {"n_heads": 0},
        {"rope_theta": {"a": 1}},
        {"rms_norm_eps": "small"},
        {"embedding_size": -1},
    ],
    ids=str,
)
def test_values_of_another_type_are_named(tmp_path, changes):
    folder, _ = write_checkpoint(tmp_path, "llada", **changes)
    with pytest.raises(ValueError, match=re.escape(str(folder))):
        load_lm(folder)


@pytest.mark.parametrize(
    "template, error",
    [
        ("{{ raise_exception('no roles') }}", "TemplateError: no roles"),
        ("{% for m in messages %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages[0].content / 2 }}", "TypeError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)
def test_a_chat_template_that_fails_is_named(template, error):
    tokenizer = build_tokenizer()
    tokenizer.chat_template = template
    with pytest.raises(ValueError, match=f"chat template fails on the prompt '1.1' .{error}"):
        encode_prompts(tokenizer, ["1+1"])


def test_unknown_quantisation_is_named():
    with pytest.raises(ValueError, match="quantize must be"):
        load_lm("tiny", quantize="8bit")


def test_a_hub_id_is_downloaded_without_code_and_pickles(tmp_path, monkeypatch):
    """The download asks for weights, configuration and tokenizer alone, at the revision wanted."""
    folder, _ = write_checkpoint(tmp_path / "snapshot", "llada")
    asked = []

    def fake(name, revision=None, allow_patterns=None):
        asked.append((name, revision))
        kept = tmp_path / "kept"
        kept.mkdir()
        for pattern in allow_patterns:
            for path in folder.glob(pattern):
                shutil.copy(path, kept)
        return str(kept)

    for name in ("modeling_llada.py", "pytorch_model.bin", "weights.pt"):
        (folder / name).write_text("harm")
    monkeypatch.setattr(checkpoints, "snapshot_download", fake)
    lm = load_lm("GSAI-ML/LLaDA-8B-Instruct", revision="main")
    assert asked == [("GSAI-ML/LLaDA-8B-Instruct", "main")] and lm.family == "llada"
    assert not {"modeling_llada.py", "pytorch_model.bin", "weights.pt"} & {
        p.name for p in (tmp_path / "kept").iterdir()
    }


def test_what_the_hub_does_not_have_is_answered_with_both_readings(tmp_path, monkeypatch):
    def offline(name, **_):
        raise checkpoints.LocalEntryNotFoundError("no connection")

    monkeypatch.setattr(checkpoints, "snapshot_download", offline)
    with pytest.raises(
        ValueError,
        match="nor a folder with config.json.*the hub said.*no connection.*did you mean "
        "'GSAI-ML/LLaDA-8B-Instruct'",
    ):
        load_lm("GSAI-ML/LLaDA-8b-Instrct")
    with pytest.raises(ValueError, match="exists but has no config.json"):
        load_lm(tmp_path)
    with pytest.raises(ValueError, match="revision 'v1' is for a hub id"):
        load_lm(write_checkpoint(tmp_path / "here", "Dream")[0], revision="v1")
