"""The symbols of the course: each letter has one meaning in all chapters."""

from __future__ import annotations

import re

from IPython.display import Markdown

# Symbol, shape or kind, meaning.
SYMBOLS = {
    "Sizes": [
        (
            r"$B$, $G$, $N$",
            "numbers",
            "problems of a batch, completions of a problem (its group), rows $N = BG$",
        ),
        (r"$P$, $L$, $S$", "numbers", "tokens of a prompt, of a completion (the canvas), of both"),
        (r"$V$, $K$", "numbers", "tokens of the vocabulary; positions whose logits are asked for"),
        (r"$T$, $T_i$", "numbers", "denoising steps (forward passes of a row); those of row $i$"),
        (r"$D$, $\theta$", "number, (D,)", "parameters of the network: how many, and their values"),
        (
            r"$k$, $n$, $n_1$",
            "numbers",
            "how many are drawn or allowed (steps, views, samples); how many are counted, "
            "and how many of these are right",
        ),
    ],
    "Indices": [
        (r"$i$, $j$", "", "a row (one completion); a position on its canvas"),
        (
            r"$s$, $u$, $v$",
            "",
            "a denoising step, from 0; a view, mask draw or inner update; a token of the "
            "vocabulary",
        ),
    ],
    "Texts": [
        (r"$q$", "(P,)", "a prompt"),
        (
            r"$x$, $x_{ij}$, $\hat x$, $\lvert x \rvert$",
            "(L,)",
            "a completion, one of its tokens, candidates for the blanks, how many tokens count",
        ),
        (r"$y$, $y_s$", "(L,)", "a canvas: a completion with blanks; before step $s$"),
        (
            r"$M$, $\bar M$, $m$",
            "(L,) bool, number",
            "masked positions, the others, how many are masked: $m = \\lvert M \\rvert$",
        ),
        (r"$U$, $R_s$", "(L,) bool", "positions that are written; those that step $s$ reveals"),
        (r"$\sigma$", "(L,)", "the order in which positions are written; $(x, \\sigma)$ is a path"),
        (
            r"$\alpha$, $\tilde\alpha$, $\hat\alpha$",
            "text",
            "a true answer, its anchor at the end of the canvas, the answer predicted again",
        ),
    ],
    "Chance": [
        (r"$p$", "number", "a probability; in brackets: of what"),
        (
            r"$\pi$, $\pi^{\mathrm{old}}$, $\pi^{\mathrm{ref}}$",
            "number",
            "the policy's probability: now, when it wrote the rollouts, of the reference "
            "it started from; $\\pi^*$ the best, $\\pi_F$ and $\\pi_G$ of free and guided "
            "rows",
        ),
        (
            r"$\ell$",
            "nats",
            "a log-probability under the policy; $\\ell^{\\mathrm{old}}$, "
            "$\\ell^{\\mathrm{ref}}$ likewise",
        ),
        (r"$c$", "number", "confidence: the probability of a candidate, temperature 1"),
        (r"$H$", "nats", "entropy"),
        (r"$t$", "number", "rate: the probability that a token is masked"),
        (
            r"$f$, $\bar f_m$, $\bar f_t$",
            "nats",
            "log-probability of the tokens in a mask, all the others seen; its mean over "
            "masks of $m$ tokens, at rate $t$",
        ),
        (
            r"$w$, $\varphi$",
            "numbers",
            "a weight; a token's estimate, summed over views with their weights",
        ),
        (r"$\mathcal U$, $\xi$", "", "a uniform distribution; a random number"),
        (r"$E$, $W$", "(V, ...)", "a token's embedding; the matrix that makes logits"),
        (r"$F$, $Z$", "", "a distribution function; what a distribution is divided by to sum to 1"),
        (r"$\mathbb E$, $e$", "", "a mean over draws; the number 2.718"),
    ],
    "Learning": [
        (r"$r$, $\bar r$, $J$", "number", "reward, its mean, its expected value"),
        (
            r"$b$, $A$, $\hat A$",
            "number",
            "baseline; advantage, reward minus baseline; what a method makes of the advantage",
        ),
        (r"$O$", "rows", "the others, which a completion is compared with"),
        (r"$a_s$", "number", "MDPO's advantage of a step before it is compared with the group"),
        (r"$g$, $\hat g$", "(D,)", "a gradient, an estimate of it"),
        (
            r"$\rho$, $d$",
            "number",
            "ratio of new to old probability; a difference of two log-probabilities",
        ),
        (r"$\mathcal L$", "number", "a loss, to be minimised"),
        (r"$\varepsilon$", "number", "a ratio counts within $1 \\pm \\varepsilon$"),
        (
            r"$k_1$, $k_2$, $k_3$; $\beta$",
            "numbers",
            "penalties for the distance from the reference, and their weight",
        ),
        (r"$\mu$", "number", "optimiser steps on one batch of rollouts"),
        (r"$I$, $\lambda$", "number", "change of a task's mean reward; the weight of the reward"),
        (
            r"$\psi$, $\delta$",
            "number",
            "strength of wd1's and GDSD's weights; of TA-GRPO-d's timing",
        ),
        (r"$z$", "number", "a deviation in units of its standard deviation"),
        (r"$h$", "number", "share of the canvas that is still masked"),
        (r"$\tau$, $\kappa$", "numbers", "threshold and exponent of a gate"),
        (r"$\Delta$", "number", "a difference between two runs or two moments"),
        (r"$\mathcal P_k$", "", "the Legendre polynomial of degree $k$"),
    ],
}

FORMULA = re.compile(r"\$\$.*?\$\$|\$[^$\n]+\$", re.S)
WORDS = re.compile(r"\\(?:text|mathrm|mathtt|operatorname|begin|end)\s*\{[^{}]*\}")
CALLIGRAPHIC = re.compile(r"\\math(?:bb|cal)\s*\{?([A-Z])\}?")
GREEK = re.compile(
    r"\\(?:var)?(?:alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|pi|rho|"
    r"sigma|tau|phi|chi|psi|omega|ell|Gamma|Delta|Theta|Lambda|Sigma|Phi|Psi|Omega)(?![A-Za-z])"
)


def symbols() -> Markdown:
    """The table of all symbols, as a cell's last expression."""
    lines = ["| symbol | shape | meaning |", "|---|---|---|"]
    for part, rows in SYMBOLS.items():
        lines.append(f"| **{part}** | | |")
        for symbol, shape, meaning in rows:
            lines.append(f"| {symbol} | {shape} | {meaning} |")
    return Markdown("\n".join(lines))


def letters(text: str) -> set[str]:
    """The letters that stand for something in the formulas of a text; words are none."""
    found = set()
    for formula in FORMULA.findall(text):
        tex = WORDS.sub(" ", formula)
        found.update(f"calligraphic {letter}" for letter in CALLIGRAPHIC.findall(tex))
        tex = CALLIGRAPHIC.sub(" ", tex)
        found.update(GREEK.findall(tex))
        found.update(re.findall(r"[A-Za-z]", re.sub(r"\\[A-Za-z]+", " ", tex)))
    return found
