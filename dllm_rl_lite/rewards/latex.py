"""Are two LaTeX answers the same mathematics? math-verify says so, in a process of its own that may
be killed.

Text that a model writes can ask sympy for 9^9^9^9: no alarm in this process stops that, and an
alarm works in the main thread only. So a batch is judged by a child whose processor time is limited
for each pair; if the system kills it, the pair at fault counts as different and a fresh child
goes on after it.
"""

from __future__ import annotations

import json
import subprocess
import sys

SECONDS = 4.0  # processor time for one pair; an ordinary pair takes a few hundredths
START_SECONDS = 120  # wall time for a child to start on a busy machine
# Characters of an answer that is looked at; the longest gold answer of MATH-500 has 53.
LONGEST = 300
MEMORY = 4 << 30  # bytes of address space of the child


def equivalent(pairs: list[tuple[str, str]]) -> list[bool]:
    """Is the answer equal to the gold answer, for each (gold, answer)?

    Args:
        pairs: LaTeX without \\boxed or dollar signs around it, any text.
    Returns:
        True if the texts agree apart from white space, or math-verify finds them equal; False if
        it does not, cannot read one of them, or needs more than SECONDS or MEMORY, and for an
        answer longer than LONGEST.
    Raises:
        RuntimeError: if the child cannot start at all, as without math-verify.
    """
    same = {pair: _squeezed(pair[0]) == _squeezed(pair[1]) for pair in pairs}
    waiting = []
    for gold, answer in same:
        readable = gold.strip() and 0 < len(answer.strip()) <= LONGEST
        if readable and not same[gold, answer]:
            waiting.append((gold, answer))
    while waiting:
        verdicts = _child(waiting)
        same.update(zip(waiting, verdicts, strict=False))
        # The first one without a verdict killed the child: it stays False.
        waiting = waiting[len(verdicts) + 1 :]
    return [same[pair] for pair in pairs]


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _child(pairs: list[tuple[str, str]]) -> list[bool]:
    """The verdicts that one child reached before it was done or killed."""
    # -P: this folder's names must not hide the library's modules
    command = [sys.executable, "-P", __file__, str(SECONDS)]
    try:
        run = subprocess.run(
            command,
            input=json.dumps(pairs).encode(),
            capture_output=True,
            timeout=START_SECONDS + 3 * SECONDS * len(pairs),
        )
        output = run.stdout
        errors = run.stderr
    except subprocess.TimeoutExpired as stopped:
        output = stopped.stdout or b""
        errors = stopped.stderr or b""
    lines = output.split()
    if not lines or lines[0] != b"ready":
        raise RuntimeError(
            "the process that runs math-verify did not start: "
            + errors.decode(errors="replace")[-500:]
        )
    return [line == b"1" for line in lines[1:]]


def work() -> None:
    """The child: pairs as JSON on standard input; "ready" and then 1 or 0 for each on standard
    output."""
    import logging
    import resource
    import signal
    from contextlib import suppress

    from math_verify import parse, verify
    from math_verify.parser import LatexExtractionConfig

    # Nothing that a library prints is taken for a verdict.
    verdicts = sys.stdout
    sys.stdout = sys.stderr
    # It warns that its own time limits are off: here the system sets them.
    logging.disable(logging.CRITICAL)
    # macOS has no such limit; the one on processor time holds there as well.
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Ends the process at once, whatever C code it is in.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)

    def read(text: str) -> list:
        return parse(
            f"\\boxed{{{text}}}",
            [LatexExtractionConfig(boxed_match_priority=0)],
            "no_fallback",
            parsing_timeout=None,
        )

    read("1")
    print("ready", file=verdicts, flush=True)
    for gold, answer in json.load(sys.stdin):
        signal.setitimer(signal.ITIMER_PROF, float(sys.argv[1]))
        try:
            is_same = verify(read(gold), read(answer), timeout_seconds=None)
        # whatever sympy raises on a model's text: not the gold answer
        except Exception:
            is_same = False
        print(int(is_same), file=verdicts, flush=True)


if __name__ == "__main__":
    work()
