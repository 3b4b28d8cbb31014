"""README's picture, notebooks/figures/before_after.png: `python benchmarks/before_after.py`.

Trains agrpo on two-step chains (some minutes on two cores) and shows a test problem that the base
model fails and the trained one solves.
"""

import io
from pathlib import Path

from PIL import Image

from dllm_rl_lite import show
from dllm_rl_lite.evaluate import evaluate
from dllm_rl_lite.methods import METHODS
from dllm_rl_lite.models import MaskedDiffusionLM, load_lm
from dllm_rl_lite.sampler import Rule, denoise
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig

ROOT = Path(__file__).parents[1]
DPI = 110
PICTURE = ROOT / "notebooks" / "figures" / "before_after.png"
CONFIG = TrainConfig(
    method="agrpo",
    task="chain2",
    steps=1000,
    forwards=155_000,
    run_dir=str(ROOT / "runs" / "before_after"),
    checkpoint_every=50,
)


def learned_prompt(base: MaskedDiffusionLM, trained: MaskedDiffusionLM, rule: Rule) -> str:
    """The first test problem that only the trained model solves."""
    before = evaluate(base, CONFIG.task, rule, n=64).generations
    after = evaluate(trained, CONFIG.task, rule, n=64).generations
    for wrong, right in zip(before, after, strict=True):
        if wrong["reward"] < 1 and right["reward"] == 1:
            return wrong["prompt"]
    raise RuntimeError("the trained model solves no problem that the base model fails")


def strip(lm: MaskedDiffusionLM, prompt: str, rule: Rule, title: str) -> Image.Image:
    """The filmstrip of a model's text."""
    rollout = denoise(lm, [prompt], load_task(CONFIG.task).length, rule)
    figure = show.filmstrip(rollout, lm.tokenizer, title=title, max_frames=6)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=DPI)
    return Image.open(buffer)


def main() -> None:
    base = load_lm("tiny")
    trained = train(CONFIG).lm
    rule = METHODS[CONFIG.method].tiny.rule(load_task(CONFIG.task).length)
    prompt = learned_prompt(base, trained, rule)
    above = strip(base, prompt, rule, f"before: wrong   {prompt}")
    below = strip(trained, prompt, rule, f"after: right   {prompt}")
    both = Image.new("RGB", (max(above.width, below.width), above.height + below.height), "white")
    both.paste(above, (0, 0))
    both.paste(below, (0, above.height))
    both.save(PICTURE, optimize=True, dpi=(DPI, DPI))


if __name__ == "__main__":
    main()
