"""LoRA: explicit targets and exact counts, nothing changed at the start, saved, merged, refused;
the reference is it off."""

import copy
import json

import pytest
import torch
from checkpoints import CONFIGS, write_checkpoint
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from test_families import REAL

from dllm_rl_lite.models import (
    MaskedDiffusionLM,
    ReferencePolicy,
    adapters_off,
    add_adapters,
    build_tokenizer,
    checkpoints,
    load_adapters,
    load_lm,
    merge_adapters,
    new_tiny_lm,
    reference_policy,
    save_adapters,
    trainable_parameters,
)
from dllm_rl_lite.models.adapters import (
    PUBLISHED,
    adapted_layers,
    adapter_parameters,
    checkpoint_gradients,
    count_parameters,
    describe_parameters,
    lora_targets,
    training_mode,
)
from dllm_rl_lite.models.families import FAMILIES, stock_config


@pytest.fixture
def fresh(new_lm):
    """A function that gives a small model of one's own."""
    return lambda seed=1: new_lm(seed)


def stir(lm, seed=0, size=0.2):
    """Adapters as after some training: no longer zero."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in adapter_parameters(lm).values():
            parameter.add_(size * torch.randn(parameter.shape, generator=g))
    return lm


def logits(lm, n=2, s=12):
    ids = torch.randint(3, 104, (n, s), generator=torch.Generator().manual_seed(5))
    where = torch.ones_like(ids, dtype=torch.bool)
    with torch.no_grad():
        return lm(ids, where, where)[:, 3:]


@pytest.mark.parametrize("targets, adapted", [("all", 335_544_320), ("published", 167_772_160)])
def test_llada_8b_has_the_published_counts(targets, adapted):
    """At rank 128, on LLaDA-8B's own configuration, without memory: 3 (d + d) + (d + f) by layer,
    or seven maps' worth."""
    values, total = REAL["llada"]
    with torch.device("meta"):
        lm = MaskedDiffusionLM(
            FAMILIES["llada"].module(stock_config("llada", values)), build_tokenizer()
        )
        add_adapters(lm, targets, r=128, alpha=64)
    assert count_parameters(lm) == (adapted, total + adapted)
    d, f = 4096, 12288
    by_layer = {"published": 3 * 2 * d + (d + f), "all": 4 * 2 * d + 3 * (d + f)}[targets]
    assert adapted == 32 * 128 * by_layer
    assert describe_parameters(lm).startswith(f"trainable {adapted:,} of {total + adapted:,}")


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_targets_are_named_and_never_the_head(tmp_path, kind):
    """ "all" is seven maps a layer everywhere; "published" is four on LLaDA, seven where the
    published names were right."""
    for targets in ("all", "published"):
        lm = load_lm(write_checkpoint(tmp_path / targets, kind)[0])
        add_adapters(lm, targets, r=2)
        names = lora_targets(lm, targets)
        assert len(names) == (4 if (targets, kind) == ("published", "llada") else 7)
        assert len(adapted_layers(lm)) == 2 * len(names)
        assert {place.rsplit(".", 1)[1] for place in adapted_layers(lm)} == set(names)
        frozen = {n for n, p in lm.named_parameters() if not p.requires_grad}
        assert not any("lora_" in n for n in frozen) and any(
            "lm_head" in n or "embed" in n for n in frozen
        )
    assert PUBLISHED["llada"] == ("q_proj", "k_proj", "v_proj", "up_proj")


def test_fresh_adapters_change_nothing(fresh):
    """B starts at zero: the same logits to the bit; A depends on its seed only, and the global
    generator on nothing."""
    plain, before = logits(fresh()), torch.get_rng_state()
    one, same, other = (add_adapters(fresh(), r=4, seed=s) for s in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(logits(one), plain)
    a, b, c = (
        torch.cat([p.flatten() for p in adapter_parameters(m).values()]) for m in (one, same, other)
    )
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert not torch.equal(logits(stir(one)), plain)


def test_adapters_stay_float32_on_a_bfloat16_base(tmp_path):
    """Small updates would be rounded away in bfloat16; the model still computes, and gives float32
    logits."""
    lm = add_adapters(load_lm("tiny", dtype=torch.bfloat16), r=4)
    assert {p.dtype for p in trainable_parameters(lm)} == {torch.float32}
    assert lm.backbone.lm_head.weight.dtype == torch.bfloat16 and logits(lm).isfinite().all()


@pytest.mark.parametrize("checkpointed", [False, True])
def test_adapters_on_a_bfloat16_base_multiply_in_bfloat16_and_learn_in_float32(checkpointed):
    """Float32 products would cost as much as all the rest; the gradient is float32, and that of a
    float32 base but for bfloat16's 8 bits."""
    gradients = {}
    for dtype in (torch.float32, torch.bfloat16):
        lm = stir(add_adapters(load_lm("tiny", dtype=dtype), r=4), size=0.02)
        if checkpointed:
            checkpoint_gradients(lm)
        seen = set()
        for layer in adapted_layers(lm).values():
            layer.lora_A["default"].register_forward_hook(
                lambda m, x, y, seen=seen: seen.add(y.dtype)
            )
        ids = torch.randint(3, 104, (4, 12), generator=torch.Generator().manual_seed(5))
        where = torch.ones_like(ids, dtype=torch.bool)
        with training_mode(lm, 0):
            lm(ids, where, where).log_softmax(-1)[:, 7].sum().backward()
        assert seen == {dtype} and all(
            p.grad.dtype == torch.float32 for p in trainable_parameters(lm)
        )
        gradients[dtype] = torch.cat([p.grad.flatten() for p in trainable_parameters(lm)])
    assert torch.nn.functional.cosine_similarity(*gradients.values(), dim=0) > 0.999


def test_the_reference_is_the_base_without_a_copy(fresh):
    """Adapters off: the base's logits to the bit, through the policy's own memory; afterwards
    everything is as before."""
    lm = fresh()
    plain = logits(lm)
    stir(add_adapters(lm, r=4))
    reference, adapted = reference_policy(lm), logits(lm)
    assert isinstance(reference, ReferencePolicy) and not isinstance(reference, torch.nn.Module)
    held = {p.data_ptr() for p in lm.parameters()}
    assert (
        vars(reference) == {"lm": lm} and {p.data_ptr() for p in reference.lm.parameters()} == held
    )
    assert torch.equal(logits(reference), plain) and not torch.equal(adapted, plain)
    assert torch.equal(logits(lm), adapted)
    flags = [p.requires_grad for p in lm.parameters()]
    trainable_parameters(lm)[0].requires_grad_(False)
    changed = [p.requires_grad for p in lm.parameters()]
    with pytest.raises(KeyError), adapters_off(lm):
        raise KeyError
    assert [p.requires_grad for p in lm.parameters()] == changed != flags
    assert torch.equal(logits(lm), adapted)


def test_without_adapters_the_reference_is_a_frozen_copy(fresh):
    lm = fresh()
    reference = reference_policy(lm)
    assert not any(p.requires_grad for p in reference.parameters()) and all(
        p.requires_grad for p in lm.parameters()
    )
    with torch.no_grad():
        lm.backbone.lm_head.weight.zero_()
    assert not torch.equal(logits(reference), logits(lm))


def test_saved_adapters_come_back(tmp_path):
    """On the same base: equal weights and logits, the rank and scale of the file, in peft's own
    layout."""
    lm = stir(add_adapters(load_lm("tiny"), "published", r=4, alpha=12))
    save_adapters(lm, tmp_path)
    again = load_lm("tiny", adapters=tmp_path)
    assert torch.equal(logits(lm), logits(again)) and not again.training
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["peft_type"], settings["r"], settings["lora_alpha"]) == ("LORA", 4, 12)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight" in tensors
    assert "with adapters" in again.name
    half = load_lm(
        "tiny", dtype=torch.bfloat16, adapters=tmp_path
    )  # the base is known whatever its precision
    assert adapter_parameters(half).keys() == adapter_parameters(lm).keys()


def test_peft_itself_reads_what_is_saved(tmp_path):
    """The files are peft's: its own loader gives the same model."""
    from peft import PeftModel

    lm = stir(add_adapters(load_lm("tiny"), r=4))
    save_adapters(lm, tmp_path)
    base = load_lm("tiny")
    PeftModel.from_pretrained(base.backbone, tmp_path)  # injects in place
    assert torch.equal(logits(base), logits(lm))


def test_adapters_in_the_checkpoints_own_names_are_read(tmp_path):
    """Released LLaDA adapters name LLaDA's modules: attn_out is o_proj, the block's ff_out
    down_proj."""
    folder, _ = write_checkpoint(tmp_path / "base", "llada")
    lm = stir(add_adapters(load_lm(folder), r=4))
    save_adapters(lm, tmp_path / "adapters")
    file = tmp_path / "adapters" / "adapter_model.safetensors"
    tensors = load_file(file)
    spelled = {
        "layers": "transformer.blocks",
        "self_attn.o_proj": "attn_out",
        "self_attn.": "",
        "mlp.gate_proj": "ff_proj",
        "mlp.up_proj": "up_proj",
        "mlp.down_proj": "ff_out",
    }
    renamed = {}
    for key, tensor in tensors.items():
        for ours, theirs in spelled.items():
            key = key.replace(ours, theirs)
        renamed[key] = tensor
    assert "base_model.model.model.transformer.blocks.1.ff_out.lora_B.weight" in renamed
    save_file(renamed, file)
    assert torch.equal(logits(load_lm(folder, adapters=tmp_path / "adapters")), logits(lm))


def test_another_base_is_refused(fresh, tmp_path):
    """Same shapes, other weights; other shapes; and a folder without an identity is taken on
    trust."""
    lm = stir(add_adapters(fresh(1), r=4))
    save_adapters(lm, tmp_path)
    with pytest.raises(ValueError, match="trained on another base"):
        load_adapters(fresh(2), tmp_path)
    merged = merge_adapters(copy.deepcopy(lm))
    with pytest.raises(ValueError, match="trained on another base"):
        load_adapters(merged, tmp_path)
    identity = json.loads((tmp_path / "base.json").read_text())
    packed = identity | {"matrices": None}  # as 4 bits leave it: the rest has to do
    (tmp_path / "base.json").write_text(json.dumps(packed))
    load_adapters(fresh(1), tmp_path)
    with pytest.raises(ValueError, match="trained on another base"):
        load_adapters(fresh(2), tmp_path)
    (tmp_path / "base.json").unlink()
    load_adapters(fresh(2), tmp_path)
    with pytest.raises(ValueError, match="keys or shapes differ"):
        load_adapters(new_tiny_lm(hidden=64, layers=2, heads=2), tmp_path)
    with pytest.raises(ValueError, match="no linear layer"):
        load_adapters(new_tiny_lm(hidden=32, layers=1, heads=2, feed_forward=64), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_4"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "loftq"},
        {"init_lora_weights": "corda"},
        {"init_lora_weights": "lora_ga"},
        {"init_lora_weights": "mica"},
        {"alora_invocation_tokens": [1, 2]},
        {"use_dora": True},
        {"use_rslora": True},
        {"use_qalora": True},
        {"lora_bias": True},
        {"bias": "all"},
        {"fan_in_fan_out": True},
        {"rank_pattern": {"q_proj": 8}},
        {"alpha_pattern": {"q_proj": 8}},
        {"modules_to_save": ["lm_head"]},
        {"trainable_token_indices": [3]},
        {"target_parameters": ["weight"]},
        {"layer_replication": [[0, 1]]},
        {"arrow_config": {"top_k": 1}},
        {"peft_type": "ADALORA"},
        {"a_variant_of_tomorrow": True},
    ],
    ids=str,
)
def test_an_adapter_that_is_not_plain_lora_is_refused_by_name(fresh, tmp_path, change):
    """Another start takes out of the base what it puts into the adapter, another variant computes
    something else: read as plain LoRA, either is another model."""
    save_adapters(add_adapters(fresh(), r=4), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    (name,) = change
    with pytest.raises(ValueError, match=f"{name} is .*only plain LoRA is supported"):
        load_adapters(fresh(), tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": False},
        {"a_variant_of_tomorrow": None, "another": {}},
        {"layers_to_transform": [0], "task_type": "CAUSAL_LM", "inference_mode": True},
    ],
    ids=str,
)
def test_what_changes_nothing_is_read(fresh, tmp_path, change):
    lm = stir(add_adapters(fresh(), r=4))
    save_adapters(lm, tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert torch.equal(logits(load_adapters(fresh(), tmp_path)), logits(lm))


def test_peft_writes_a_pissa_start_under_the_name_that_is_refused(fresh, tmp_path):
    """With peft's own files: the base that it leaves is not the published one."""
    base = fresh()
    plain = logits(base)
    config = LoraConfig(r=2, init_lora_weights="pissa", target_modules=["q_proj"])
    get_peft_model(base.backbone, config).save_pretrained(tmp_path)
    with adapters_off(base):
        assert not torch.allclose(logits(base), plain, atol=0.01)
    with pytest.raises(ValueError, match="init_lora_weights is 'pissa'"):
        load_adapters(fresh(), tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"r": None}, "r must be a whole number of at least 1, got None"),
        ({"r": 0}, "r must be a whole number"),
        ({"lora_alpha": "8"}, "alpha must be a finite number above 0, got '8'"),
        ({"lora_alpha": float("nan")}, "alpha must be a finite number above 0, got nan"),
        ({"lora_dropout": 1}, "dropout must be a number from 0 to below 1, got 1"),
    ],
    ids=str,
)
def test_numbers_of_an_adapter_that_cannot_be_are_named(fresh, tmp_path, change, message):
    save_adapters(add_adapters(fresh(), r=4), tmp_path)
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    lm = fresh()
    with pytest.raises(ValueError, match=message):
        load_adapters(lm, tmp_path)
    assert not lm.has_adapters


def test_a_truncated_adapter_is_named(fresh, tmp_path):
    save_adapters(add_adapters(fresh(), r=4), tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    for _ in range(2):  # cut off, and missing
        with pytest.raises(ValueError, match="the adapter in .* cannot be read"):
            load_adapters(fresh(), tmp_path)
        file.unlink(missing_ok=True)


@pytest.mark.parametrize("name", ["adapter_config.json", "base.json"])
@pytest.mark.parametrize("text", ["", "[]", "3", "{", "[" * 100_000, b"\xff\xfe"], ids=repr)
def test_damaged_files_of_an_adapter_are_named(fresh, tmp_path, name, text):
    save_adapters(add_adapters(fresh(), r=4), tmp_path)
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"{name} (cannot be read|should hold an object)"):
        load_adapters(fresh(), tmp_path)


def test_the_same_adapters_are_the_same_bytes(fresh, tmp_path):
    """peft keeps the targets as a set, which each process orders anew."""
    save_adapters(add_adapters(fresh(), r=4), tmp_path)
    targets = json.loads((tmp_path / "adapter_config.json").read_text())["target_modules"]
    assert targets == sorted(targets) and len(targets) == 7


def test_merged_weights_are_the_same_model(fresh, tmp_path):
    """Logits equal to float32 rounding (the sum is taken in another order); then it is plain:
    saved, loaded, trainable."""
    lm = stir(add_adapters(fresh(), r=4, alpha=4))
    adapted = logits(lm)
    with pytest.raises(ValueError, match="merge_adapters"):
        lm.save_pretrained(tmp_path)
    merge_adapters(lm)
    scale = float(adapted.abs().max())
    torch.testing.assert_close(logits(lm), adapted, rtol=0, atol=2e-5 * scale)
    assert not adapted_layers(lm) and all(p.requires_grad for p in lm.parameters())
    lm.save_pretrained(tmp_path)
    assert torch.equal(logits(load_lm(tmp_path)), logits(lm))
    add_adapters(lm, r=2)  # and may have new ones


def test_calls_that_make_no_sense_are_refused(fresh, tmp_path):
    lm = fresh()
    for call in (lambda: merge_adapters(lm), lambda: save_adapters(lm, tmp_path)):
        with pytest.raises(ValueError, match="no adapters"):
            call()
    with pytest.raises(
        ValueError, match="unknown lora_targets 'publisht'; did you mean 'published'"
    ):
        add_adapters(lm, "publisht")
    with pytest.raises(ValueError, match="r must be a whole number of at least 1, got 0"):
        add_adapters(lm, r=0)
    with pytest.raises(ValueError, match="adapter_config.json cannot be read"):
        load_adapters(lm, tmp_path / "nowhere")
    assert all(p.requires_grad for p in lm.parameters()), "a refused call leaves the model alone"
    add_adapters(lm, r=2)
    with pytest.raises(ValueError, match="has adapters"):
        add_adapters(lm, r=2)


def gradients(lm):
    ids = torch.randint(3, 104, (2, 12), generator=torch.Generator().manual_seed(5))
    where = torch.ones_like(ids, dtype=torch.bool)
    lm.zero_grad()
    lm(ids, where, where)[:, 3:].log_softmax(-1)[:, 7].sum().backward()
    return [p.grad.clone() for p in trainable_parameters(lm)]


@pytest.mark.parametrize("adapted", [False, True])
def test_gradient_checkpointing_changes_no_gradient(fresh, adapted, monkeypatch):
    """With and without, to the bit, also where the embedding is frozen; layers are really computed
    again."""
    lm = stir(add_adapters(fresh(), r=4)) if adapted else fresh()
    calls = []
    for layer in lm.backbone.model.layers:
        layer.input_layernorm.register_forward_hook(lambda *_: calls.append(1))
    plain, once = gradients(lm), len(calls)
    checkpoint_gradients(lm)
    with training_mode(lm, 0):
        assert lm.training
        again = gradients(lm)
    assert not lm.training and len(calls) == once + 2 * once
    assert all(g.abs().sum() > 0 for g in plain)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


def test_dropout_draws_from_its_seed(fresh):
    """Only in training mode; the same seed gives the same gradient, and the global generator is
    left alone."""
    lm = stir(add_adapters(fresh(), r=4, dropout=0.3))
    before, plain = torch.get_rng_state(), gradients(lm)
    found = []
    for seed in (1, 1, 2):
        with training_mode(lm, seed):
            found.append(gradients(lm))
    assert torch.equal(before, torch.get_rng_state()) and torch.equal(plain[1], gradients(lm)[1])
    assert torch.equal(found[0][1], found[1][1]) and not torch.equal(found[0][1], found[2][1])
    assert not torch.equal(found[0][1], plain[1])


def test_four_bits_need_their_extra(monkeypatch):
    monkeypatch.setattr(checkpoints.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e .\[quantized\]"):
        load_lm("tiny", quantize="4bit")


def test_four_bits_are_the_dequantised_model():
    """With bitsandbytes: nf4, double quantisation, weights 9 % off; logits and gradients are the
    dequantised weights'."""
    bitsandbytes = pytest.importorskip("bitsandbytes")
    packed, plain = load_lm("tiny", quantize="4bit"), load_lm("tiny")
    packed.train()  # in evaluation mode its CPU path may pack weights in another way
    for name, layer in packed.backbone.named_modules():
        if isinstance(layer, bitsandbytes.nn.Linear4bit):
            state, weight = layer.weight.quant_state, plain.backbone.get_submodule(name).weight.data
            assert state.nested and state.quant_type == "nf4"
            value = bitsandbytes.functional.dequantize_4bit(layer.weight.data, state).to(
                weight.dtype
            )
            assert 0.05 < (value - weight).norm() / weight.norm() < 0.15
            weight.copy_(value)
    assert type(packed.backbone.lm_head) is torch.nn.Linear
    assert count_parameters(packed)[1] == count_parameters(plain)[1]
    torch.testing.assert_close(logits(packed), logits(plain), rtol=1e-5, atol=1e-4)
    for lm in (packed, plain):
        add_adapters(lm, r=4)
        lm.train()
    for one, other in zip(gradients(packed), gradients(plain), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4 * float(other.abs().max() + 1))
    with pytest.raises(ValueError, match="4-bit base"):
        merge_adapters(packed)
    with pytest.raises(ValueError, match="only plain weights"):
        packed.save_pretrained("nowhere")
