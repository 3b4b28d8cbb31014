"""The look of all figures, and the header of a notebook."""

from __future__ import annotations

import platform
from importlib.metadata import version

import matplotlib.pyplot as plt
import torch

from .. import __version__
from .charts import CYCLE


def style() -> None:
    """Set readable matplotlib defaults: sizes, a colour-blind-safe cycle, no top and right
    spines."""
    plt.rcParams.update(
        {
            "figure.figsize": (6.4, 3.8),
            "figure.dpi": 100,
            "savefig.dpi": 100,
            "figure.facecolor": "white",
            "font.size": 11,
            "axes.titlesize": 12,
            "axes.labelsize": 11,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "lines.linewidth": 1.8,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.25,
            "axes.axisbelow": True,
            "axes.prop_cycle": plt.cycler(color=CYCLE),
        }
    )


def header(number: str, minutes: float | None = None) -> None:
    """Print what this notebook runs on, and apply `style()`.

    Args:
        number: of the notebook.
        minutes: its measured runtime on two CPU cores.
    """
    style()
    device = f"cuda ({torch.cuda.get_device_name()})" if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    runtime = "" if minutes is None else f" · about {minutes:g} min on two CPU cores"
    print(f"Notebook {number}{runtime}")
    print(
        f"python {platform.python_version()} · torch {torch.__version__} · "
        f"transformers {version('transformers')} · dllm_rl_lite {__version__}"
    )
    print(f"device {device} · {threads} torch thread" + ("s" if threads != 1 else ""))
