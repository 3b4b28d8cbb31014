"""How sure is a number? Intervals for proportions, means and differences, pass@k, and the paired
comparison of two runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

T95 = (
    12.7062,
    4.3027,
    3.1824,
    2.7764,
    2.5706,
    2.4469,
    2.3646,
    2.3060,
    2.2622,
    2.2281,
)  # Student's t, df 1 to 10


def t_interval(values: list[float]) -> tuple[float, float]:
    """(mean, half width) of the 95 % interval t * s / sqrt(n) of n >= 2 values, s with n - 1 below
    the line."""
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over seeds needs at least 2 of them, got {n}")
    df = n - 1  # beyond the table the series in 1 / df is right to 2e-4
    t = (
        T95[df - 1]
        if df <= len(T95)
        else 1.95996 + 2.37227 / df + 2.82250 / df**2 + 2.55585 / df**3
    )
    return statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(n)


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion; stays inside [0, 1] and is honest at 0 and n."""
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"need 0 <= right <= n and n >= 1, got {right} of {n}")
    centre = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_interval(right: list[int], samples: int) -> tuple[float, float, float]:
    """Accuracy and its 95 % interval over problems, of which problem i was solved right[i] times
    out of `samples`.

    One sample a problem: Wilson's. More: Student's t over the problems' own shares, since texts of
    one problem are not independent; where all problems have one share it has no width, so Wilson's
    on the problems is taken there.
    """
    if not right or samples < 1 or not all(0 <= r <= samples for r in right):
        raise ValueError(
            f"need at least one problem and counts within 0..{samples}, got {right[:8]}"
        )
    shares = [r / samples for r in right]
    mean = statistics.fmean(shares)
    if samples == 1 or len(set(shares)) == 1:
        return mean, *wilson(round(sum(shares)), len(shares))
    half = t_interval(shares)[1]
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The unbiased estimate of P(at least one of k fresh texts is right) from `right` of `samples`
    (Chen et al., eq. 1).

    Raises ValueError unless 1 <= k <= samples and 0 <= right <= samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(
            f"need 1 <= k <= samples and 0 <= right <= samples, got k {k}, {right} right of {samples}"
        )
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def pass_at(right: list[int], samples: int, k: int) -> tuple[float, float, float]:
    """pass@k over problems with its 95 % t-interval over problems (no interval for one problem: it
    is the point twice)."""
    values = [pass_at_k(r, samples, k) for r in right]
    mean, half = t_interval(values) if len(values) > 1 else (values[0], 0.0)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same problems, problem by problem."""

    n: int  # problems that both runs have
    difference: float  # mean of (second - first)
    low: float  # 95 % t-interval of the paired differences
    high: float
    both: (
        int  # problems solved by both (share 1), by the first only, by the second only, by neither
    )
    first_only: int
    second_only: int
    neither: int
    # exact two-sided sign test (McNemar's): were the problems on which they differ a fair coin?
    p: float

    def __str__(self) -> str:
        return (
            f"second - first: {100 * self.difference:+.1f} points [{100 * self.low:+.1f}, {100 * self.high:+.1f}] over "
            f"{self.n} shared problems; solved by both {self.both}, only the first {self.first_only}, only the second "
            f"{self.second_only}, neither {self.neither}; sign test p = {self.p:.3g}"
        )


def compare(first: dict[str, float], second: dict[str, float]) -> Comparison:
    """Pair two runs by problem: key -> score in 0..1 each. Problems that only one run has are left
    out.

    Raises ValueError where fewer than two problems are shared: the runs are of different problems.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        raise ValueError(
            f"the runs share {len(shared)} problems (of {len(first)} and {len(second)}): a paired comparison "
            "needs the same problems in both, that is the same task, split, n and problem seed"
        )
    mean, half = t_interval([second[k] - first[k] for k in shared])
    a, b = ({k for k in shared if run[k] >= 1} for run in (first, second))
    up, down = len(b - a), len(a - b)
    tail = sum(math.comb(up + down, i) for i in range(min(up, down) + 1)) / 2 ** (up + down)
    return Comparison(
        len(shared),
        mean,
        mean - half,
        mean + half,
        len(a & b),
        down,
        up,
        len(shared) - len(a | b),
        min(1.0, 2 * tail),
    )
