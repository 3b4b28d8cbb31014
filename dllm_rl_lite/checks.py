"""Exercise checks: each prints `todo`, `right`, or the likely mistake, and never raises (papermill stops at an error)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch


def _judge(name: str, answer, mistakes: list[tuple[Callable[[], bool], str]]) -> None:
    """Print the verdict on one exercise.

    mistakes: (is it this one?, what to say), tried in order; the first that is true is named, none means right.
    """
    if answer is None:
        print(f"{name}: todo - replace None with your answer and run the cell again")
        return
    for made, message in mistakes:
        try:
            if made():
                print(f"{name}: not yet - {message}")
                return
        except Exception as error:  # a learner's function may fail in any way: say how, and go on
            print(f"{name}: not yet - it raised {type(error).__name__}: {error}")
            return
    print(f"{name}: right")


def _differs(value, wanted: float, tolerance: float = 1e-6) -> bool:
    """True unless value is a number within tolerance of wanted."""
    number = float(value)
    return not math.isfinite(number) or abs(number - wanted) > tolerance


def _tensor_differs(value, wanted: torch.Tensor, tolerance: float = 1e-6) -> bool:
    """True unless value is a tensor of wanted's shape within tolerance, on whatever device."""
    value = torch.as_tensor(value).detach().cpu().double()
    return value.shape != wanted.shape or bool((value - wanted.double()).abs().max() > tolerance)


def _result_of(function, *arguments):
    """function(*arguments), or None where there is no function yet or it is still a stub; never raises."""
    try:
        return function(*arguments) if callable(function) else function
    except Exception:  # raised again, and named, by the first question that `_judge` asks
        return ()


def ex_02_1(answer) -> None:
    """Share of a minority truth (0.3) that two tied positions spell: (confidence, random, temperature 0)."""
    def at(i: int, *values: float) -> bool:
        return any(not _differs(answer[i], v, 2e-3) for v in values)

    _judge("ex_02_1", answer, [
        (lambda: not isinstance(answer, (tuple, list)) or len(answer) != 3,
         "give three numbers: (confidence, random, temperature 0)"),
        (lambda: any(not 0 <= float(v) <= 1 for v in answer), "shares lie between 0 and 1: write 0.25, not 25"),
        (lambda: not at(2, 0),
         "at temperature 0 every position proposes its likeliest token, so the minority is never written"),
        (lambda: at(0, 0.3) and at(1, 0.09),
         "the two orders are swapped: which of them looks at the drawn candidates?"),
        (lambda: at(1, 0.09), "in random order the first revealed position decides the other one: one draw, not two"),
        (lambda: not at(1, 0.3), "random order does not look at the candidates, so it leaves the law as it is"),
        (lambda: at(0, 0.3),
         "0.3 is the model's own share; confidence order compares two draws and keeps the surer one"),
        (lambda: at(0, 0.51),
         "one position with the truth is not enough: the other one's candidate is surer, and wins"),
        (lambda: at(0, 0.42, 0.21),
         "where the two candidates disagree, the surer one is revealed, and that is the habit"),
        (lambda: at(0, 0.49), "0.49 is the chance that both positions propose the habit; ask for the truth"),
        (lambda: not at(0, 0.09), "the truth is written only if both positions propose it in the same forward pass"),
    ])


def ex_02_2(threshold_reveal) -> None:
    """threshold_reveal(confidence (n, L), active (n, L) bool, tau) -> (n, L) bool, as `rules.Threshold` reveals."""
    generator = torch.Generator().manual_seed(2)
    # twentieths that all differ within a row: no ties, and tau itself occurs
    c = torch.stack([(torch.randperm(19, generator=generator)[:8] + 1) / 20 for _ in range(64)])
    active = torch.rand(64, 8, generator=generator) < 0.6
    active[0], active[1] = False, True
    tau = float(c[1].median())
    surest = _highest(c, active)
    wanted = (active & (c >= tau)) | surest

    def got() -> torch.Tensor:
        return torch.as_tensor(threshold_reveal(c.clone(), active.clone(), tau)).cpu()

    _judge("ex_02_2", _result_of(threshold_reveal, c.clone(), active.clone(), tau), [
        (lambda: not callable(threshold_reveal), "pass the function itself, not what it returns"),
        (lambda: got() is None, "it returns None"),
        (lambda: got().dtype != torch.bool, "return a tensor of bools"),
        (lambda: got().shape != c.shape, "return one bool a position: the shape of confidence"),
        (lambda: torch.equal(got(), (c >= tau) | _highest(c, torch.ones_like(active))),
         "it reveals positions that are not active: they are written already, or wait in a later block"),
        (lambda: torch.equal(got(), active & (c >= tau)),
         "a row whose candidates are all below tau reveals nothing and would never end: add its surest one"),
        (lambda: torch.equal(got(), (active & (c >= tau)) | _highest(c, torch.ones_like(active)))
         or torch.equal(got(), active & ((c >= tau) | _highest(c, torch.ones_like(active)))),
         "the surest position is sought among all positions: seek it among the active ones"),
        (lambda: torch.equal(got(), (active & (c > tau)) | surest),
         "a candidate exactly at tau is revealed too: >=, not >"),
        (lambda: torch.equal(got(), surest),
         "it reveals the surest one only: also every other one with confidence >= tau"),
        (lambda: bool((got() & ~active).any()), "it reveals positions that are not active"),
        (lambda: not torch.equal(got(), wanted),
         "it differs from the package's Threshold; reveal what is active and >= tau, or the surest active one"),
    ])


def ex_02_3(gate_logprob) -> None:
    """gate_logprob(confidence, active, reveal, tau, kappa) -> (n,): the log of P(Gate reveals that set)."""
    tau, kappa = 0.6, 0.5
    active = torch.tensor([True, True, False, True])
    reveal = torch.tensor([[b >> i & 1 for i in range(4)] for b in range(16)]).bool()
    reveal = reveal[~(reveal & ~active).any(1)]  # the 8 subsets of three active positions
    active = active.expand_as(reveal)
    c = torch.tensor([0.9, 0.7, 0.95, 0.3]).double().expand_as(reveal)
    p = ((c - tau).clamp(min=0) / (1 - tau)) ** kappa
    chosen, none, alone, some = _gate_terms(p, active, reveal, c)
    wanted = torch.where(alone, chosen + none, chosen) * some
    low = torch.full_like(c, 0.5) + torch.arange(4) / 100  # every candidate below tau: the surest one, surely
    wanted_low = (reveal.sum(1) == 1) & reveal[:, 3]

    def call(confidence: torch.Tensor) -> torch.Tensor:
        value = gate_logprob(confidence.clone(), active.clone(), reveal.clone(), tau, kappa)
        return torch.as_tensor(value).detach().cpu().double()

    def same(candidate: torch.Tensor) -> bool:
        return not _tensor_differs(call(c).exp(), candidate, 1e-5)

    linear = _gate_terms((c - tau).clamp(min=0) / (1 - tau), active, reveal, c)
    _judge("ex_02_3", _result_of(gate_logprob, c.clone(), active.clone(), reveal.clone(), tau, kappa), [
        (lambda: not callable(gate_logprob), "pass the function itself, not what it returns"),
        (lambda: call(c).shape != wanted.shape, "return one number a row, of shape (n,)"),
        (lambda: not _tensor_differs(call(c), wanted, 1e-5), "these are the probabilities: return their logarithm"),
        (lambda: same(chosen) or same(chosen * some),
         "where the gate picks none, the surest position is revealed all the same: that case belongs to its set, and "
         "to no other"),
        (lambda: same(torch.where(alone, chosen + none, chosen)),
         "the empty set cannot happen: at least one is revealed"),
        (lambda: same(torch.where(reveal, p, 1.0).prod(1)) or same(torch.where(reveal, p, 1.0).prod(1) * some),
         "the positions that stay masked count as well: each was passed over with probability 1 - p"),
        (lambda: same(torch.where(alone, none, chosen) * some),
         "the surest alone can come about in two ways: the gate picks just it, or picks none; add the two "
         "probabilities"),
        (lambda: same(torch.where(linear[2], linear[0] + linear[1], linear[0]) * some),
         "kappa is missing: raise to it"),
        (lambda: same(_all_positions(p, reveal, alone, none, some)),
         "positions that are not active do not take part: leave their 1 - p out"),
        (lambda: bool(call(c).isnan().any()),
         "it has not-a-number entries: 0 times log 0; multiply probabilities, then log"),
        (lambda: not same(wanted),
         "the probabilities of the sets are not the gate's; over all sets they must sum to 1"),
        (lambda: _tensor_differs(call(low).exp(), wanted_low.double(), 1e-5),
         "where every candidate is below tau the surest active one is revealed with probability 1"),
    ])


def _highest(c: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
    """(n, L) bool: the position of the largest allowed value of each row; none where nothing is allowed."""
    best = c.masked_fill(~allowed, float("-inf")).argmax(1, keepdim=True)
    return torch.zeros_like(allowed).scatter(1, best, True) & allowed


def _gate_terms(p: torch.Tensor, active: torch.Tensor, reveal: torch.Tensor, c: torch.Tensor):
    """Of each set: the gate picks exactly it; the gate picks none; is it the surest alone; is it not empty."""
    chosen = torch.where(active, torch.where(reveal, p, 1 - p), 1.0).prod(1)
    none = torch.where(active, 1 - p, 1.0).prod(1)
    return chosen, none, (reveal == _highest(c, active)).all(1), reveal.any(1)


def _all_positions(p, reveal, alone, none, some) -> torch.Tensor:
    """The gate's law as it looks where inactive positions are counted as passed over."""
    chosen = torch.where(reveal, p, 1 - p).prod(1)
    return torch.where(alone, chosen + (1 - p).prod(1), chosen) * some


def _outcome(function: Callable, *arguments):
    """What a learner's function returns, or the exception it raised."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


def _raised(outcome) -> bool:
    """Raise the exception that `_outcome` caught, so that `_judge` names it."""
    if isinstance(outcome, Exception):
        raise outcome
    return False


def ex_01_1(answer) -> None:
    """Chapter 01, warm-up: the lowest loss any model can reach on one-step chains with a habit share of 0.8."""
    entropy = -0.8 * math.log(0.8) - 0.2 * math.log(0.2)
    floor, near = 0.5 * entropy / 10, 2e-4

    def is_near(value: float) -> Callable[[], bool]:
        return lambda: not _differs(answer, value, near)

    _judge("ex_01_1", answer, [
        (is_near(0.0), "not even a perfect model knows which of two demonstrations it will be shown"),
        (is_near(floor / math.log(2)), "that is in bits; use the natural logarithm, the loss is in nats"),
        (is_near(0.5 * entropy), "that is a whole text; the loss counts nats a token, so divide by L = 10"),
        (is_near(entropy), "that is a whole text with a minus; only half have one, and the loss counts nats a token"),
        (is_near(entropy / 10), "only half of the problems have a minus; the others leave nothing to guess"),
        (is_near(0.5 * -math.log(0.8) / 10), "-log(0.8) is paid for the habit only; average it with the right "
                                              "workings, which are 2 in 10 and cost -log(0.2)"),
        (lambda: _differs(answer, floor, near), "take the entropy of one minus, in nats, times the minuses a text "
                                                "holds on average, divided by its 10 tokens"),
    ])


def ex_01_2(draw: Callable) -> None:
    """Chapter 01, core: masks by count. `draw(n, length, generator)` -> (masked (n, L) bool, weight (n,))."""
    n, length = 6000, 4
    outcome = _outcome(draw, n, length, torch.Generator().manual_seed(0))
    if outcome is None:
        return _judge("ex_01_2", None, [])
    facts = _outcome(_facts_01_2, outcome, n, length)  # None where outcome is not a pair of the right shapes

    def fact(name: str) -> Callable[[], bool]:
        return lambda: _raised(facts) or facts[name]

    _judge("ex_01_2", draw, [
        (lambda: _raised(outcome), ""),
        (lambda: facts is None, f"return a pair: masked, bool of shape (n, L), and weight of shape (n,); for n = {n} "
                                f"and L = {length} it was something else"),
        (fact("empty"), "a canvas without a blank teaches nothing: draw the number of blanks m from 1 to L first"),
        (fact("counts"), "the number of blanks must be uniform over 1..L; here it is not"),
        (fact("places"), "given m, each set of m positions must be as likely as any other; are rows masked alike, or "
                         "always from the same end?"),
        (fact("no_weight"), "a weight of 1 makes a text with many blanks count for more: what does each m owe?"),
        (fact("mean"), "1/m averages over the blanks, which gives nats a token; the bound is for the whole text"),
        (fact("time"), "with m drawn first there is no t: the weight may depend on m and L only"),
        (fact("weight"), "the weight of a row with m blanks is wrong: its weights must add up to L"),
    ])


def _facts_01_2(outcome, n: int, length: int) -> dict[str, bool] | None:
    """What is wrong with 6000 masks and weights, by name; None where the shapes are."""
    if not isinstance(outcome, (tuple, list)) or len(outcome) != 2:
        return None
    masked, weight = (torch.as_tensor(v).detach().cpu() for v in outcome)
    if masked.shape != (n, length) or masked.dtype != torch.bool or weight.numel() != n:
        return None
    m, weight = masked.sum(1), weight.reshape(n).double()
    wanted, slack = n / length, 6 * math.sqrt(n / length)  # six standard deviations of a count
    counts = torch.bincount(m, minlength=length + 1)[1:length + 1]
    sets = torch.bincount((masked.long() << torch.arange(length)).sum(1), minlength=2**length)
    sizes = [bin(s).count("1") for s in range(2**length)]
    odd_sets = [abs(int(sets[s]) - wanted / math.comb(length, k)) > slack for s, k in enumerate(sizes) if k]
    by_count = [weight[m == k] for k in range(1, length + 1)]
    return {"empty": bool((m == 0).any()), "counts": bool(((counts - wanted).abs() > slack).any()),
            "places": any(odd_sets), "no_weight": not _tensor_differs(weight, torch.ones(n)),
            "mean": not _tensor_differs(weight * m, torch.ones(n)),
            "time": any(len(w) and bool((w - w[0]).abs().max() > 1e-6) for w in by_count),
            "weight": _tensor_differs(weight * m, torch.full((n,), float(length)))}


def ex_01_3(log_p: Callable) -> None:
    """Chapter 01, stretch: `log_p(table)` of a (2**L, L) float64 table of log-probabilities, averaged over orders."""
    length = 5
    table = -3 * torch.rand(2**length, length, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    visible = (torch.arange(2**length)[:, None] >> torch.arange(length)) & 1 == 1
    table = table.masked_fill(visible, math.nan)  # a visible token has no log-probability: using it must show
    paths = []
    for order in itertools.permutations(range(length)):
        before = [sum(1 << i for i in order[:k]) for k in range(length)]
        paths.append(sum(table[s, i].item() for s, i in zip(before, order, strict=True)))
    logs = torch.tensor(paths, dtype=torch.float64)
    truth = logs.logsumexp(0).item() - math.log(len(paths))
    outcome = _outcome(log_p, table.clone())
    if outcome is None:
        return _judge("ex_01_3", None, [])

    def is_near(value: float) -> Callable[[], bool]:
        return lambda: not _differs(outcome, value, 1e-9)

    _judge("ex_01_3", log_p, [
        (lambda: _raised(outcome), ""),
        (lambda: math.isnan(float(outcome)), "not a number: the table holds nan where a token is already visible; "
                                             "look only at the blanks of each set"),
        (is_near(logs.mean().item()), "that is the average of the logarithms, the bound; average the probabilities"),
        (is_near(-logs.mean().item()), "that is the average loss, the bound; average the probabilities and take the "
                                       "logarithm of that"),
        (is_near(logs.logsumexp(0).item()), "that is the sum over orders; each of the L! orders is drawn with "
                                            "probability 1 / L!"),
        (is_near(paths[0]), "that is one order, left to right; average the probabilities over all L! of them"),
        (is_near(-truth), "the sign: log p is negative"),
        (is_near(math.exp(truth)), "that is the probability; return its logarithm"),
        (lambda: _differs(outcome, truth, 1e-9), "not the average over orders: from a set with k visible tokens, each "
                                                 "of the L - k blanks is filled next with probability 1 / (L - k)"),
    ])


def ex_20_1(answer) -> None:
    """The advantage of the lone failure among five successes."""
    _judge("exercise 1", answer, [
        (lambda: not _differs(answer, 5 / 6), "the sign: a failure earns less than the mean of its group"),
        (lambda: not _differs(answer, -1), "subtract the mean of all six, the failure included"),
        (lambda: _differs(answer, -5 / 6, 1e-2), "reward minus the mean reward of the group"),
    ])


def ex_20_2(dead_share) -> None:
    """The chance that all siblings are right or all are wrong."""
    _judge("exercise 2", _result_of(dead_share, 0.5, 2), [
        (lambda: not _differs(dead_share(0.3, 4), 0.3**4), "all wrong is dead too"),
        (lambda: not _differs(dead_share(0.3, 4), 0.7**4), "all right is dead too"),
        (lambda: not _differs(dead_share(0.3, 4), 1 - 0.3**4 - 0.7**4), "that is the chance of a mixed group"),
        (lambda: _differs(dead_share(0.3, 4), 0.3**4 + 0.7**4), "add the chance of all right and that of all wrong"),
        (lambda: _differs(dead_share(0.0, 8), 1.0), "a prompt that is never solved is always dead"),
    ])


def ex_20_3(shuffled) -> None:
    """Rewards permuted within each group, by the caller's generator."""
    rewards = torch.arange(400.0).view(50, 8)  # all different, so that a permutation shows

    def call(seed: int) -> torch.Tensor:
        return shuffled(rewards.clone(), torch.Generator().manual_seed(seed))

    _judge("exercise 3", _result_of(shuffled, rewards.clone(), torch.Generator()), [
        (lambda: call(0).shape != rewards.shape, "the shape must stay (B, G)"),
        (lambda: not torch.equal(call(0).flatten().sort().values, rewards.flatten()), "no reward may be lost or repeated"),
        (lambda: not torch.equal(call(0).sort(1).values, rewards), "permute within each group, not across groups"),
        (lambda: not torch.equal(call(0), call(0)), "take all chance from the generator"),
        (lambda: torch.equal(call(0), rewards), "the order did not change"),
        (lambda: len({tuple((row - row.min()).tolist()) for row in call(0)}) == 1, "each group needs a permutation of its own"),
    ])


def ex_00_1(answer) -> None:
    """The upper end of the Wilson interval of 0 of 10."""
    _judge("exercise 1", answer, [
        (lambda: isinstance(answer, tuple), "that is the whole interval: give its upper end"),
        (lambda: not _differs(answer, 0.0, 1e-3), "zero of ten tries is no proof of zero"),
        (lambda: not _differs(answer, 27.75, 0.1), "give a share between 0 and 1, not per cent"),
        (lambda: _differs(answer, 0.2775, 1e-3), "evaluate wilson(0, 10)"),
    ])


def ex_00_2(answer) -> None:
    """The smallest even n whose interval at one half is at most 0.04 wide."""
    _judge("exercise 2", answer, [
        (lambda: 590 <= float(answer) <= 610, "the interval must be 0.04 wide in all, not 0.04 on each side"),
        (lambda: float(answer) == 9604 or float(answer) > 9000, "that is for a width of 0.02: it asks for 0.04 in all"),
        (lambda: float(answer) == 2401, "close: that is the textbook formula; Wilson's interval needs slightly fewer"),
        (lambda: _differs(answer, 2398), "find the smallest even n with high - low <= 0.04 by a loop"),
    ])


def ex_00_3(by_habit) -> None:
    """The last digit of the sum of all digits of a chain."""
    _judge("exercise 3", _result_of(by_habit, "8-3+4-6"), [
        (lambda: by_habit("8-3+4-6") == 3, "that is the right answer: the habit works each minus as a plus"),
        (lambda: by_habit("8-3+4-6") == 21, "keep the last digit only: a clock has ten hours"),
        (lambda: int(by_habit("8-3+4-6")) != 1, "8+3+4+6 = 21, so 1"),
        (lambda: any(int(by_habit(p)) != w for p, w in (("9-9-9", 7), ("1+2-3", 6), ("5-5", 0))), "try 9-9-9, which gives 7"),
    ])
