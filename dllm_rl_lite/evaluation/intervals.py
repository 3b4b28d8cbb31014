"""How sure is a number? Intervals for proportions, means and differences, pass@k, and the paired
comparison of two runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

# Student's t for a two-sided 95 % interval, for 1 to 10 degrees of freedom.
T95 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def t_interval(values: list[float]) -> tuple[float, float]:
    """(mean, half width) of the 95 % interval t * s / sqrt(n) of n >= 2 values, s with ddof=1."""
    n = len(values)
    if n < 2:
        raise ValueError(f"an interval over seeds needs at least 2 of them, got {n}")
    df = n - 1
    series = 1.95996 + 2.37227 / df + 2.82250 / df**2 + 2.55585 / df**3  # right to 2e-4 for df > 10
    t = T95[df - 1] if df <= len(T95) else series
    return statistics.fmean(values), t * statistics.stdev(values) / math.sqrt(n)


def wilson(right: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """95 % Wilson score interval of a proportion; stays inside [0, 1] and is honest at 0 and n."""
    if n < 1 or not 0 <= right <= n:
        raise ValueError(f"need 0 <= right <= n and n >= 1, got {right} of {n}")
    centre = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    return max(0.0, centre - half), min(1.0, centre + half)


def accuracy_interval(shares: list[float]) -> tuple[float, float, float]:
    """Accuracy and its 95 % interval over problems, however many texts each of them has.

    If every problem was solved always or never, as with one text each, it is Wilson's. Otherwise it
    is Student's t over the shares, since texts of one problem are not independent; if all problems
    have one share that has no width, so it is Wilson's there too.

    Args:
        shares: of each problem, the share of its texts that are right, 0..1.
    Returns:
        (accuracy, low, high).
    Raises:
        ValueError: for no problems, or a share out of range.
    """
    if not shares or not all(0 <= share <= 1 for share in shares):
        raise ValueError(f"need at least one problem and shares within 0..1, got {shares[:8]}")
    mean = statistics.fmean(shares)
    if len(set(shares)) == 1 or set(shares) <= {0, 1}:
        return mean, *wilson(round(sum(shares)), len(shares))
    _, half = t_interval(shares)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def pass_at_k(right: int, samples: int, k: int) -> float:
    """The unbiased estimate of P(at least one of k fresh texts is right) from `right` of `samples`
    (Chen et al., eq. 1).

    Raises ValueError unless 1 <= k <= samples and 0 <= right <= samples.
    """
    if not 1 <= k <= samples or not 0 <= right <= samples:
        raise ValueError(
            f"need 1 <= k <= samples and 0 <= right <= samples, "
            f"got k {k}, {right} right of {samples}"
        )
    return 1.0 - math.comb(samples - right, k) / math.comb(samples, k)


def pass_at(right: list[int], samples: int, k: int) -> tuple[float, float, float]:
    """pass@k over problems with its 95 % t-interval over problems, which has no width for one."""
    values = [pass_at_k(r, samples, k) for r in right]
    if len(values) == 1:
        return values[0], values[0], values[0]
    mean, half = t_interval(values)
    return mean, max(0.0, mean - half), min(1.0, mean + half)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same problems, problem by problem."""

    n: int  # problems that both runs have
    difference: float  # mean of (second - first)
    low: float  # 95 % t-interval of the paired differences
    high: float
    both: int  # problems that both solved (share 1)
    first_only: int
    second_only: int
    neither: int
    # exact two-sided sign test (McNemar's): were the problems on which they differ a fair coin?
    p: float

    def __str__(self) -> str:
        return (
            f"second - first: {100 * self.difference:+.1f} points "
            f"[{100 * self.low:+.1f}, {100 * self.high:+.1f}] over {self.n} shared problems; "
            f"solved by both {self.both}, only the first {self.first_only}, "
            f"only the second {self.second_only}, neither {self.neither}; "
            f"sign test p = {self.p:.3g}"
        )


def paired_comparison(first: dict[str, float], second: dict[str, float]) -> Comparison:
    """Pair two runs by problem; problems that only one run has are left out.

    Args:
        first: problem -> mean reward, 0..1.
        second: the same of the other run.
    Raises:
        ValueError: if fewer than two problems are shared: the runs are of different problems.
    """
    shared = sorted(first.keys() & second.keys())
    if len(shared) < 2:
        raise ValueError(
            f"the runs share {len(shared)} problems (of {len(first)} and {len(second)}): a paired "
            "comparison needs the same problems in both, that is the same task, split, n and "
            "problem seed"
        )
    mean, half = t_interval([second[k] - first[k] for k in shared])
    solved_first = {k for k in shared if first[k] >= 1}
    solved_second = {k for k in shared if second[k] >= 1}
    first_only = len(solved_first - solved_second)
    second_only = len(solved_second - solved_first)
    differ = first_only + second_only
    fewer = min(first_only, second_only)
    tail = sum(math.comb(differ, i) for i in range(fewer + 1)) / 2**differ
    return Comparison(
        n=len(shared),
        difference=mean,
        low=mean - half,
        high=mean + half,
        both=len(solved_first & solved_second),
        first_only=first_only,
        second_only=second_only,
        neither=len(shared) - len(solved_first | solved_second),
        p=min(1.0, 2 * tail),
    )
