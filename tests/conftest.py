"""Small models whose numbers are known, shared by the tests."""

import copy
import itertools
import multiprocessing

import pytest
import torch
from torch import nn
from updates import PROMPTS

from dllm_rl_lite.models import MaskedDiffusionLM, new_tiny_lm
from dllm_rl_lite.sampler import Schedule, denoise

torch.set_num_threads(1)


def sharpen(
    lm: MaskedDiffusionLM, layers: float = 0.24, embedding: float = 0.04, head: float = 0.5
):
    """Give an untrained model's matrices these standard deviations, so that its predictions differ
    by position and context and are confident, whatever the package's own initialisation is."""
    with torch.no_grad():
        for name, p in lm.named_parameters():
            if "norm" in name:
                continue
            deviation = layers
            if "lm_head" in name:
                deviation = head
            elif "embed" in name:
                deviation = embedding
            p.mul_(deviation / p.std())
    return lm.eval()


class Spy(nn.Module):
    """A model that notes what it is asked: `calls` holds (ids, attention_mask, where) of each
    forward pass."""

    def __init__(self, lm):
        super().__init__()
        self.lm = lm
        self.calls = []

    def __getattr__(self, name):
        if name == "lm":
            return super().__getattr__(name)
        return getattr(self.lm, name)

    def forward(self, ids, attention_mask, where):
        self.calls.append((ids.clone(), attention_mask.clone(), where.clone()))
        return self.lm(ids, attention_mask, where)


class Biased(nn.Module):
    """A model with some logits raised, to make a token (end-of-sequence, say) as likely as a test
    needs."""

    def __init__(self, lm, bias: dict[int, float]):
        super().__init__()
        self.lm = lm
        kept = ("tokenizer", "mask_id", "eos_id", "pad_id", "device", "max_length", "backbone")
        for name in kept:
            setattr(self, name, getattr(lm, name))
        self.register_buffer("bias", torch.zeros(len(lm.tokenizer)))
        for token, value in bias.items():
            self.bias[token] = value

    def forward(self, ids, attention_mask, where):
        return self.lm(ids, attention_mask, where) + self.bias


class TableLM:
    """A model so small that every path can be enumerated: its logits are a table over all canvases.

    Tokens 0, 1, 2 are text, 3 is the mask. Without `eos` no token ends a text.
    """

    mask_id = 3
    pad_id = 0
    tokenizer = None
    device = torch.device("cpu")
    max_length = 16

    def __init__(self, length: int = 3, seed: int = 1, scale: float = 1.0, eos: int = -1):
        self.length = length
        self.eos_id = eos
        g = torch.Generator().manual_seed(seed)
        self.table = scale * torch.randn(4**length, length, 4, generator=g)
        self.table[..., self.mask_id] = float("-inf")
        self.place = 4 ** torch.arange(length)

    def __call__(self, ids, attention_mask, where):
        canvas = ids[:, -self.length :]
        return self.table[(canvas * self.place).sum(1)][where[:, -self.length :]].clone()

    def logits(self, canvas: tuple[int, ...]) -> torch.Tensor:
        """(L, 4) float64 logits of one canvas."""
        return self.table[int((torch.tensor(canvas) * self.place).sum())].double()

    def prompts(self, n: int):
        return torch.zeros(n, 1, dtype=torch.long), torch.ones(n, 1, dtype=torch.bool)

    def texts(self) -> list[tuple[int, ...]]:
        return list(itertools.product(range(3), repeat=self.length))


@pytest.fixture(scope="session")
def new_lm():
    """A function that builds a small, sharp, untrained model from a seed."""

    def build(seed: int = 0):
        return sharpen(
            new_tiny_lm(hidden=32, layers=2, heads=2, feed_forward=64, max_length=64, seed=seed)
        )

    return build


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    """A folder with a model for whole runs."""
    folder = tmp_path_factory.mktemp("model")
    lm = new_tiny_lm(hidden=32, layers=1, heads=2, feed_forward=32, max_length=512, seed=0)
    lm.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def lm(new_lm):
    """One such model, shared: tests must leave it as it is."""
    return new_lm(seed=1)


@pytest.fixture(scope="session")
def spy():
    return Spy


@pytest.fixture(scope="session")
def biased():
    return Biased


@pytest.fixture(scope="session")
def table_lm():
    return TableLM


@pytest.fixture(scope="session")
def forks():
    """What starts processes that have the package imported already: importing it takes longer than
    most of what is done in them. They run functions of a file's top level."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dllm_rl_lite.train"])
    return context


@pytest.fixture
def rng():
    """A function: seed -> generator."""
    return lambda seed=0: torch.Generator().manual_seed(seed)


@pytest.fixture(scope="session")
def policy(lm, biased):
    """A model that ends some texts early, so that rows have different lengths."""
    return biased(lm, {lm.eos_id: 3.0})


@pytest.fixture(scope="session")
def reference(new_lm, biased):
    other = new_lm(seed=2)
    return biased(other, {other.eos_id: 3.0})


@pytest.fixture(scope="session")
def later(policy):
    """The policy after an update: every weight moved a little, so that ratios are not 1."""
    moved = copy.deepcopy(policy)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in moved.parameters():
            p.mul_(1 + 0.03 * torch.randn(p.shape, generator=g))
    return moved


@pytest.fixture(scope="session")
def batch(policy):
    g = torch.Generator().manual_seed(1)
    return denoise(
        policy, PROMPTS, 8, Schedule(4, "random"), temperature=1.0, generator=g, record=True
    )
