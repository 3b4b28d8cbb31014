"""What nbval runs of the notebooks, and what it compares. It reads this file only here or beside
the notebooks."""

IGNORED = ("stderr", "application/javascript", "image/svg+xml")
# Parameters under test: live runs and samples are smaller than the saved ones, as what is compared
# does not depend on them. `make notebooks` runs them in full.
SHORTER = {
    "notebooks/00_start_here.ipynb": {"live_steps": 2},
    "notebooks/01_masked_diffusion.ipynb": {"steps": 48},
    "notebooks/02_sampling.ipynb": {"n_test": 24},
    "notebooks/04_policy_gradient.ipynb": {"n_batches": 4, "sets": 2, "order_steps": 3},
    "notebooks/05_the_whole_loop.ipynb": {"turns": 4, "test_every": 2},
    "notebooks/08_diffu_grpo.ipynb": {"n_batches": 2, "steps": 4},
    "notebooks/09_coupled_grpo.ipynb": {"train_steps": 3},
    "notebooks/10_gdpo.ipynb": {"train_steps": 4},
    "notebooks/11_without_ratios.ipynb": {"train_steps": 5},
    "notebooks/12_visited_steps.ipynb": {"train_steps": 3},
    "notebooks/13_every_prediction_rewarded.ipynb": {
        "train_steps": 3,
        "n_backslide": 32,
        "n_problems": 32,
    },
    "notebooks/14_ag_grpo.ipynb": {"train_steps": 4},
    "notebooks/15_ta_grpo_d.ipynb": {"steps": 4},
    "notebooks/20_train.ipynb": {"steps": 10},
    "notebooks/33_before_and_beside.ipynb": {
        "n_countdown": 12,
        "first_steps": 3,
        "second_budget": 1500,
        "n_test": 16,
    },
}


def pytest_collectstart(collector):
    if getattr(collector, "path", None) is not None and collector.path.suffix == ".ipynb":
        collector.skip_compare += IGNORED


def pytest_itemcollected(item):
    """Put the shorter values below the cell of parameters."""
    shorter = SHORTER.get(item.nodeid.split("::")[0])
    if shorter and "parameters" in item.cell.metadata.get("tags", []):
        for name, value in shorter.items():
            item.cell.source += f"\n{name} = {value}"
