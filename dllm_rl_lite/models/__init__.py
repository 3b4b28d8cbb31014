"""The network that scores a masked canvas: the tiny model, published checkpoints, LoRA adapters, a
key-value cache. `load_lm` is the way in; everything else in the package takes an `lm` and tensors.
"""

from .adapters import (
    ReferencePolicy,
    adapters_off,
    add_adapters,
    load_adapters,
    merge_adapters,
    reference_policy,
    save_adapters,
    trainable_parameters,
)
from .checkpoints import SHIPPED, load_lm
from .lm import MaskedDiffusionLM, fingerprint, new_tiny_lm
from .shallow import ShallowLM
from .sharing import Passes, add_passes, count_passes, distinct_rows
from .tokenizer import build_tokenizer, decode, encode_prompts, prompt_lengths
