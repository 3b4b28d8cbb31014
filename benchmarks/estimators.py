"""Every likelihood estimator against the exact truth: `python benchmarks/estimators.py`.

Makes notebooks/results/estimators.csv and notebooks/figures/estimators.png. Three states of the
tiny model (untrained, the shipped base, and the base after 20 steps of agrpo) write one-sum texts
with three decoders; every text's log-probability under its decoder is enumerated, and each recipe
of `ESTIMATORS` is placed by bias, spread, gradient direction and forward passes. What is recorded
is not run again, so a new entry of `ESTIMATORS` is added to the table and the figure; delete the
table to start over.
"""

import argparse
import time
import zlib
from pathlib import Path

import torch
from result_tables import record

from dllm_rl_lite import show
from dllm_rl_lite.estimators import ESTIMATORS, directions, distinct, errors, exact_gradient, truth
from dllm_rl_lite.evaluation import read_results
from dllm_rl_lite.models import load_lm, new_tiny_lm
from dllm_rl_lite.sampler import Schedule, denoise
from dllm_rl_lite.tasks import load_task
from dllm_rl_lite.train import train
from dllm_rl_lite.training import TrainConfig

ROOT = Path(__file__).parents[1]
OUT = ROOT / "notebooks" / "results" / "estimators.csv"
KEY = ("state", "decoder", "estimator")
LENGTH = 9  # tokens of `6-4=2<answer>2</answer>` and the end
# seven series that can be told apart in one picture
PICTURED = [
    "one_step",
    "random_masks",
    "coupled",
    "quadrature",
    "complement_pairs half",
    "visited_steps",
    "all_steps",
]
DECODERS = {
    "random order": Schedule(LENGTH, "random"),
    "confidence order": Schedule(LENGTH),
    "confidence order, two a step": Schedule(5),
}
STATES = {"untrained": new_tiny_lm, "base": lambda: load_lm("tiny"), "trained": lambda: trained()}


def trained():
    """The base after 20 steps of agrpo on two-step chains."""
    return train(
        TrainConfig(
            method="agrpo",
            task="chain2",
            steps=20,
            run_dir=str(ROOT / "runs" / "estimators"),
            eval_every=0,
        )
    ).lm.eval()


def texts(lm, rule, prompts: int, rollouts: int, seed: int):
    """Rollouts of problems with a minus, and credit: the share of tokens as in the right text, less
    its mean.

    Texts that end before the last token are left out: the recipes differ in what they score after
    the end.
    """
    examples = [e for e in load_task("chain1").sample(60, "train", seed) if "-" in e.prompt][
        :prompts
    ]
    rows = [e for e in examples for _ in range(rollouts)]
    rollout = denoise(
        lm,
        [e.prompt for e in rows],
        LENGTH,
        rule,
        temperature=1.0,
        generator=torch.Generator().manual_seed(seed),
    )
    kept = ~(rollout.tokens[:, :-1] == lm.eos_id).any(1)
    right = [
        f"{e.prompt}={e.answer}<answer>{e.answer}</answer>{lm.tokenizer.eos_token}" for e in rows
    ]
    agree = (
        (rollout.tokens == torch.tensor(lm.tokenizer(right)["input_ids"]))[kept].double().mean(1)
    )
    return rollout.select(kept), (agree - agree.mean()).float()


def place(state: str, decoder: str, lm, names: list[str], options) -> list[dict]:
    """The table's rows of these estimators for one state and one decoder; each has draws of its
    own."""
    start = time.time()
    rule = DECODERS[decoder]
    rollout, credit = texts(lm, rule, options.prompts, options.rollouts, options.seed)
    logp, elbo = truth(lm, rollout, rule)
    exact = exact_gradient(lm, rollout, credit, rule)
    common = {
        "state": state,
        "decoder": decoder,
        "texts": len(logp),
        "distinct": len(distinct(rollout)[0]),
        "draws": options.draws,
        "exact_logprob": float(logp.mean()),
        "exact_elbo": float(elbo.mean()),
    }
    rows = []
    for name in names:
        recipe = {name: ESTIMATORS[name]}
        g = torch.Generator().manual_seed(options.seed + zlib.crc32(name.encode()))
        (error,) = errors(lm, rollout, logp, g, options.draws, recipe)
        (angle,) = directions(lm, rollout, credit, exact, g, options.gradients, recipe)
        rows.append({**common, **error, **angle})
    print(
        f"{state}, {decoder}: {len(logp)} texts ({common['distinct']} distinct), "
        f"mean log p {logp.mean():.3f} nats, {len(names)} estimators, "
        f"{time.time() - start:.0f} s",
        flush=True,
    )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--prompts", type=int, default=6, help="problems (6)")
    parser.add_argument("--rollouts", type=int, default=8, help="texts a problem (8)")
    parser.add_argument("--draws", type=int, default=8, help="draws of each estimator a text (8)")
    parser.add_argument("--gradients", type=int, default=4, help="gradients of each estimator (4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    rows = read_results(options.out) if options.out.is_file() else []
    for state, make in STATES.items():
        done = {(r["state"], r["decoder"], r["estimator"]) for r in rows}
        lm = None  # made when the first decoder needs it
        for decoder in DECODERS:
            names = [name for name in ESTIMATORS if (state, decoder, name) not in done]
            if names:
                lm = lm or make()
                new = place(state, decoder, lm, names, options)
                record(new, options.out, KEY, digits=5)
                rows += new
    print(f"{len(rows)} rows in {options.out}")
    if options.out == OUT:
        show.style()
        figure = show.estimator_map(rows, ["untrained", "base"], series=PICTURED)
        figure.savefig(ROOT / "notebooks" / "figures" / "estimators.png")


if __name__ == "__main__":
    main()
