"""What is drawn is what happened: filmstrip, player, curves and tables against the records they
were made from."""

import html
import json
import math
import re
import shutil
import statistics
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import pytest
import torch

from dllm_rl_lite import show
from dllm_rl_lite.evaluation import read_log, t_interval, wilson
from dllm_rl_lite.models import new_tiny_lm
from dllm_rl_lite.sampler import (
    Rollout,
    RunningConfidence,
    Schedule,
    denoise,
    denoise_with_drafts,
)
from dllm_rl_lite.show import filmstrips
from dllm_rl_lite.tasks import Example
from dllm_rl_lite.training.checkpoint import write_log


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def lm():
    return new_tiny_lm()


def rolled(lm, length=24, rule=None, prompts=("6-4+7",), temperature=1.0, seed=0, **more):
    rule, g = rule or Schedule(length // 2), torch.Generator().manual_seed(seed)
    return denoise(lm, list(prompts), length, rule, temperature=temperature, generator=g, **more)


def remasked(lm):
    """Two steps of three cells by hand: the first token is withdrawn after step 0 and written anew
    by step 2."""
    ids = lm.tokenizer("abcde$", add_special_tokens=False)["input_ids"]
    a, b, c, d, e, _ = ids
    m = lm.mask_id
    history = torch.tensor([[[m, m, m]], [[a, b, m]], [[m, b, m]]])
    return Rollout(
        torch.tensor([ids]),
        torch.ones(1, 6, dtype=torch.bool),
        torch.tensor([[d, b, e]]),
        torch.tensor([[2, 0, 2]]),
        torch.tensor([[0.5, 0.25, 1.0]]).log(),
        torch.ones(1, 3),
        torch.tensor([3]),
        m,
        lm.eos_id,
        history,
    )


def expected(rollout, tokenizer, k, row=0):
    """The texts of frame k, straight from the rollout: `canvas_at`, or the tokens at the end."""
    ids = rollout.canvas_at(k)[row] if k < rollout.n_forwards[row] else rollout.tokens[row]
    names = {rollout.mask_id: "·", rollout.eos_id: "∎"}
    return [
        names.get(i) or tokenizer.decode([i]).replace(" ", "␣").replace("\n", "↵")
        for i in ids.tolist()
    ]


# The filmstrip


def strip_cells(fig):
    """frame -> the texts of its cells, left to right, as drawn."""
    cells = {}
    for text in fig.axes[0].texts:
        if (text.get_gid() or "").startswith("cell "):
            k, i = map(int, text.get_gid().split()[1:])
            cells.setdefault(k, {})[i] = text.get_text()
    return {k: [found[i] for i in range(len(found))] for k, found in cells.items()}


def outlined(fig):
    edge = matplotlib.colors.to_rgba(filmstrips.NEW)
    return (
        sum(p.get_edgecolor() == edge for p in fig.axes[0].patches) - 1
    )  # one of them is the legend's


@pytest.mark.parametrize("length, row", [(24, 0), (24, 1), (8, 0), (32, 0)])
def test_filmstrip_cells_are_the_canvases(lm, length, row):
    rollout = rolled(lm, length, prompts=("6-4+7", "1+1"))
    cells = strip_cells(show.filmstrip(rollout, lm.tokenizer, row=row))
    assert min(cells) == 0 and max(cells) == length // 2 and len(cells) <= 8
    for k, texts in cells.items():
        assert texts == expected(rollout, lm.tokenizer, k, row)
    assert set(cells[0]) == {"·"} and "·" not in cells[max(cells)]


def test_filmstrip_outlines_what_is_new_and_numbers_the_order(lm):
    rollout = rolled(lm, 8, Schedule(4))
    fig = show.filmstrip(rollout, lm.tokenizer, title="untrained")
    assert outlined(fig) == 8  # each token is new once
    # The first line of a choice is compared with the frame before it.
    assert outlined(show.filmstrip(rollout, lm.tokenizer, steps=[2, 4])) == 2 + 4
    order = [t.get_text() for t in fig.axes[0].texts if (t.get_gid() or "").startswith("order ")]
    assert order == [str(s) for s in rollout.unmask_step[0].tolist()]
    assert fig.axes[0].get_title("left") == "untrained\nprompt: 6-4+7"
    assert not plt.get_fignums()  # closed, so a notebook shows it once


def test_filmstrip_colours_are_the_confidences(lm):
    rollout = rolled(lm, 8, Schedule(4))
    rollout = replace(rollout, logprob=torch.linspace(0.05, 1, 8)[None].log())
    fig = show.filmstrip(rollout, lm.tokenizer, steps=[4])
    faces = [matplotlib.colors.to_hex(p.get_facecolor()) for p in fig.axes[0].patches[:8]]
    wanted = [
        matplotlib.colors.to_hex(filmstrips.CONFIDENCE(round(p, 2)))
        for p in torch.linspace(0.05, 1, 8).tolist()
    ]
    assert faces == wanted and len(set(faces)) == 8


def test_filmstrip_shows_given_and_withdrawn_cells(lm):
    anchor = torch.full((1, 6), lm.mask_id)
    anchor[0, 4:] = torch.tensor(lm.tokenizer("42", add_special_tokens=False)["input_ids"])
    fig = show.filmstrip(rolled(lm, 6, Schedule(2), anchor=anchor), lm.tokenizer)
    assert all(texts[4:] == ["4", "2"] for texts in strip_cells(fig).values())
    assert [t.get_text() for t in fig.axes[0].texts if t.get_gid() in ("order 4", "order 5")] == [
        "–",
        "–",
    ]
    rollout = remasked(lm)
    assert strip_cells(show.filmstrip(rollout, lm.tokenizer)) == {
        0: ["·", "·", "·"],
        1: ["a", "b", "·"],
        2: ["·", "b", "·"],
        3: ["d", "b", "e"],
    }
    assert [row[0] for row in filmstrips.kinds(rollout)] == ["m", "w", "m", "k"]
    assert [row[1] for row in filmstrips.kinds(rollout)] == ["m", "k", "k", "k"]


def test_frames_agree_with_a_remasking_rule_and_with_rows_that_stop(lm):
    rollout = rolled(lm, 8, RunningConfidence(4), prompts=("6-4+7", "1+1"))
    assert show.frames(rollout, 1).tolist() == [rollout.canvas_at(k)[1].tolist() for k in range(5)]
    stop = replace(
        rolled(lm, 4, Schedule(2)),
        tokens=torch.tensor([[9, lm.eos_id, lm.eos_id, lm.eos_id]]),
        unmask_step=torch.tensor([[0, 0, 1, 1]]),
        n_forwards=torch.tensor([1]),
    )
    assert show.frames(stop).tolist() == [
        [lm.mask_id] * 4,
        stop.tokens[0].tolist(),
    ]  # filled without a forward pass
    assert filmstrips.kinds(stop)[-1] == ["k", "e", "e", "e"]


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"row": 1}, "row must be in 0..0, got 1"),
        ({"row": -1}, "got -1"),
        ({"steps": [0, 13]}, "within 0..12"),
        ({"steps": [3, 2]}, "increase"),
        ({"steps": []}, "increase"),
        ({"max_frames": 1}, "at least 2"),
    ],
)
def test_filmstrip_names_bad_arguments(lm, arguments, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        show.filmstrip(rolled(lm), lm.tokenizer, **arguments)


def test_dollars_are_text_not_mathematics(lm):
    fig = show.filmstrip(remasked(lm), lm.tokenizer, title="$5 and $6")
    assert not any(
        t.get_parse_math() for t in fig.axes[0].texts if (t.get_gid() or "").startswith("cell")
    )
    assert (
        fig.axes[0].get_title("left") == "$5 and $6\nprompt: abcde$"
        and not fig.axes[0]._left_title.get_parse_math()
    )
    fig.canvas.draw()


# The player


class Cells(HTMLParser):
    """The token cells of a page, player by player: attributes and visible text."""

    def __init__(self, page):
        super().__init__()
        self.players, self.inside = [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        if ("class", "dllm-player mathjax_ignore tex2jax_ignore") in attributes:
            self.players.append([])
        self.inside = tag == "span" and "title" in dict(attributes)
        if self.inside:
            self.players[-1].append({**dict(attributes), "text": ""})

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.players[-1][-1]["text"] += data


def script_data(page):
    """What the player's script is told."""
    return json.loads(re.search(r"const data = (.*);\n", page)[1])


def played(page, k):
    """What the script shows at slider position k: of each cell the last change up to k."""
    cells = script_data(page)["cells"]
    return [[text for at, _, text in c["changes"] if at <= k][-1] for c in cells]


@pytest.mark.parametrize(
    "make", [lambda lm: rolled(lm), lambda lm: rolled(lm, 8, RunningConfidence(4)), remasked]
)
def test_player_frames_are_the_canvases(lm, make):
    rollout = make(lm)
    page = show.player(rollout, lm.tokenizer).data
    (cells,) = Cells(page).players
    last = int(rollout.n_forwards[0])
    for k in range(last + 1):
        assert played(page, k) == expected(rollout, lm.tokenizer, k)
    # Seen without scripts: the end.
    assert [c["text"] for c in cells] == expected(rollout, lm.tokenizer, last)
    assert f"Finished after {last} steps. <strong>Run the cells up to this one</strong>" in page
    assert script_data(page)["last"] == last


def test_player_tooltips_and_colours(lm):
    rollout = rolled(lm)
    (cells,) = Cells(show.player(rollout, lm.tokenizer).data).players
    for i, cell in enumerate(cells):
        p = math.exp(rollout.logprob[0, i])
        assert cell["title"] == (
            f"unmask_step {rollout.unmask_step[0, i]}, confidence {p:.2f}, "
            f"entropy {rollout.entropy[0, i]:.2f} nats"
        )
        colour = matplotlib.colors.to_hex(filmstrips.CONFIDENCE(round(p, 2)))
        assert f";background:{colour};" in cell["style"]
        assert cell["style"].endswith(filmstrips.NEW) == (rollout.unmask_step[0, i] == 11)


def test_player_is_small_deterministic_and_self_contained(lm):
    page = show.player(rolled(lm, 64, Schedule(32)), lm.tokenizer).data
    assert page == show.player(rolled(lm, 64, Schedule(32)), lm.tokenizer).data
    assert len(page.encode()) <= 40_000
    assert " id=" not in page and "http" not in page and "url(" not in page


def test_an_untrusted_player_is_complete(lm):
    """What is left where a notebook is not trusted: no script, no style sheet, no controls."""
    page = show.player(rolled(lm), lm.tokenizer).data
    left = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert set(re.findall(r"<(\w+)", left)) == {"div", "p", "strong", "span"}
    assert not re.search(r"<style|<script|<input|<button|\son\w+=|var\(", left)
    (cells,) = Cells(left).players
    assert all("background:#" in c["style"] and ";color:#" in c["style"] for c in cells)
    legend = re.findall(r"padding:0 5px;background:(#\w{6})\">([\d.]+)</span>", left)
    assert [number for _, number in legend] == ["0", "0.25", "0.5", "0.75", "1"]
    assert "0</span> <span" in left  # the numbers of the legend do not run together


def test_player_escapes_what_the_model_writes(lm):
    nasty = lm.tokenizer("<'&\"> ", add_special_tokens=False)["input_ids"]
    rollout = replace(
        rolled(lm, 6, Schedule(3)),
        tokens=torch.tensor([nasty]),
        prompt=torch.tensor([nasty]),
        prompt_mask=torch.ones(1, 6, dtype=torch.bool),
    )
    page = show.player(rollout, lm.tokenizer).data
    (cells,) = Cells(page).players
    assert [c["text"] for c in cells] == ["<", "'", "&", '"', ">", "␣"] == played(page, 3)
    assert f"prompt: {html.escape(chr(60) + chr(39) + '&' + chr(34) + '>')}" in page
    assert "<" not in re.search(r"const data = (.*);\n", page)[1]  # nothing can end the script


def test_player_in_a_browser(lm, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium on PATH")
    first, second = rolled(lm, temperature=0.0), rolled(lm, 16, prompts=("1+1",), seed=1)
    pages = [show.player(r, lm.tokenizer).data for r in (first, second, first)]
    script = (
        "const s=document.querySelector('.dllm-player input');s.value=5;"
        "s.dispatchEvent(new Event('input'));"
        "document.querySelectorAll('.dllm-player button')[2].click();"
    )
    page = tmp_path / "page.html"
    page.write_text(
        f'<!doctype html><meta charset="utf-8"><body>{"".join(pages)}'
        f"<script>{script}</script></body>"
    )
    dumped = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=1200",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    shown = [[c["text"] for c in cells] for cells in Cells(dumped).players]
    lines = re.findall(r"<output>(step .*?)</output>", dumped)
    assert shown[0] == expected(first, lm.tokenizer, 5) and lines[0] == "step 5 of 12, 14 masked"
    assert (
        shown[1] == expected(second, lm.tokenizer, 8) and lines[1] == "step 8 of 8, 0 masked"
    )  # left alone
    at = int(
        re.match(r"step (\d+) of 12", lines[2]).group(1)
    )  # the play button started over and is on its way
    assert 1 <= at <= 4 and shown[2] == expected(first, lm.tokenizer, at)
    outline = matplotlib.colors.to_rgb(filmstrips.NEW)
    words = f"rgb({', '.join(str(round(255 * part)) for part in outline)})"
    new = [words in c["style"] for c in Cells(dumped).players[0]]
    assert new == (first.unmask_step[0] == 4).tolist()


def test_player_shows_accepted_and_rejected_drafts(lm):
    """Frame k + 1: what stands after round k, the drafts that it rejected in their blanks."""
    found = denoise_with_drafts(lm, ["1+2", "6-4"], 12, "last", 4)
    for row in (0, 1):
        page = show.player(found, lm.tokenizer, row).data
        data = script_data(page)
        rounds = int(found.calls[row])
        assert data["last"] == rounds and data["unit"] == "round"
        letters = []
        for k in range(rounds):
            stands = found.written[row] <= k
            tokens = torch.where(stands, found.rollout.tokens[row], found.drafts[k, row])
            wanted = [show.cell_text(found.rollout, lm.tokenizer, t) for t in tokens.tolist()]
            assert played(page, k + 1) == wanted
            now = [[c for at, c, _ in cell["changes"] if at <= k + 1][-1] for cell in data["cells"]]
            rejected = ~stands & (found.drafts[k, row] != lm.mask_id)
            assert [c == "r" for c in now] == rejected.tolist()
            letters += now
        assert {"a", "r"} <= set(letters)
        kept = [c == "a" for c in now]
        assert kept == found.accepted[:, row].any(0).tolist()
        assert "accepted draft" in page and f"Finished after {rounds} rounds." in page
    assert "accepted draft" not in show.player(found.rollout, lm.tokenizer).data


# Curves and intervals


def rows(values, column="reward"):
    return [{"step": i, column: v} for i, v in enumerate(values)]


def line(ax, label):
    return next(li for li in ax.lines if li.get_label().startswith(label))


def band(ax, at):
    """(low, high) of the first band at x = at."""
    points = ax.collections[0].get_paths()[0].vertices
    found = [y for x, y in points if x == at]
    return min(found), max(found)


def test_curve_is_the_mean_and_the_band_students_t():
    seeds = [[0.1, 0.5, 0.6], [0.3, 0.4, 0.9], [0.2, 0.9, 0.6]]
    ax = show.curves({"agrpo": [rows(s) for s in seeds]}, "reward")
    assert line(ax, "agrpo").get_ydata() == pytest.approx(
        [statistics.fmean(v) for v in zip(*seeds, strict=True)]
    )
    for at, values in enumerate(zip(*seeds, strict=True)):
        low, high = band(ax, at)
        assert high - low == pytest.approx(
            2 * 4.302653 * statistics.stdev(values) / math.sqrt(3), rel=1e-4
        )
    thin = [li.get_ydata() for li in ax.lines if li.get_label().startswith("_")]
    assert [list(y) for y in thin] == seeds
    assert line(ax, "agrpo").get_color() == show.METHOD_COLOURS["agrpo"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "reward")
    assert ax.get_legend().get_texts()[0].get_text() == "agrpo (mean of 3 seeds)"
    assert ax.get_legend().get_title().get_text() == "band: 95 % interval over seeds"


@pytest.mark.parametrize("n", [2, 3, 6, 11, 12, 20, 61])
def test_t_interval_covers_95_percent_of_students_t(n):
    mean, half = t_interval([float(i) for i in range(n)])
    t, df = half * math.sqrt(n) / statistics.stdev(range(n)), n - 1
    x = torch.linspace(
        0, math.atan(t / math.sqrt(df)), 20_001, dtype=torch.float64
    )  # t = sqrt(df) tan x
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(math.pi)
    inside = 2 * constant * torch.trapezoid(x.cos() ** (df - 1), x).item()
    assert mean == (n - 1) / 2 and inside == pytest.approx(0.95, abs=2e-5)
    with pytest.raises(ValueError, match="at least 2"):
        t_interval([1.0])


def test_curve_skips_empty_cells_and_keeps_to_shared_steps():
    first = [
        {"step": 0, "reward": None},
        {"step": 1, "reward": 0.5},
        {"step": 2},
        {"step": 3, "reward": 1.0},
    ]
    second = [{"step": 1, "reward": 0.25}, {"step": 2, "reward": ""}, {"step": 5, "reward": 0.5}]
    ax = show.curves({"x": [first, second]}, "reward")
    assert list(line(ax, "x").get_xdata()) == [1] and list(line(ax, "x").get_ydata()) == [0.375]
    with pytest.raises(ValueError, match="share no value of 'step'"):
        show.curves({"x": [first[:1] + first[3:], second]}, "reward")


def test_a_single_run_has_the_interval_of_its_evaluation():
    log = [
        {
            "step": s,
            "eval_accuracy": k / 256,
            "eval_low": wilson(k, 256)[0],
            "eval_high": wilson(k, 256)[1],
        }
        for s, k in ((0, 64), (10, 128))
    ]
    ax = show.curves({"base": [log]}, "eval_accuracy", percent=True)
    assert list(line(ax, "base").get_ydata()) == [25, 50]
    assert band(ax, 10) == pytest.approx([100 * v for v in wilson(128, 256)])
    assert (
        ax.get_ylabel() == "eval accuracy (%)" and -2 <= ax.get_ylim()[0] < ax.get_ylim()[1] <= 102
    )
    assert ax.get_legend().get_title().get_text() == "band: 95 % interval over problems"
    assert not show.curves({"base": [rows([1, 2])]}, "reward").collections  # no interval is made up


def test_curves_colours_differ_and_errors_name_the_column():
    labels = ("base", "agrpo", "diffu-grpo", "mine", "yours")
    ax = show.curves({label: [rows([0, i])] for i, label in enumerate(labels)}, "reward")
    assert len({li.get_color() for li in ax.lines}) == 5
    many = [f"mine {i}" for i in range(9)]  # more than the cycle has
    assert set(show.charts.colours(many).values()) == set(show.CYCLE)
    assert show.charts.colours([*many, "agrpo"])["agrpo"] == show.METHOD_COLOURS["agrpo"]
    with pytest.raises(
        ValueError, match="'mine' has a value: unknown column 'rewards'; did you mean 'reward'"
    ):
        show.curves({"mine": [rows([1, 2])]}, "rewards")
    for empty in ({}, {"mine": []}):
        with pytest.raises(ValueError, match="nothing to draw"):
            show.curves(empty, "reward")


def test_no_band_is_cut_off():
    ax = show.curves({"x": [rows([0.0, 1.0]), rows([0.2, 0.4])]}, "reward")
    low, high = band(ax, 1)
    assert ax.get_ylim()[0] < low < -3 and 4 < high < ax.get_ylim()[1]
    shares = show.curves({"x": [rows([0.0, 1.0]), rows([0.2, 0.4])]}, "reward", percent=True)
    assert shares.get_ylim() == (-2, 102)  # no share is beyond 0 and 100 %
    assert show.curves({"x": [rows([0, 0])]}, "reward").get_ylim() == (-0.05, 1)


def test_seeds_of_unequal_cost_are_averaged_at_equal_steps():
    def log(values, passes):
        return [row | {"forwards": passes * row["step"]} for row in rows(values)]

    ax = show.curves({"x": [log([0.0, 1.0], 10), log([0.5, 2.0], 30)]}, "reward", x="forwards")
    assert line(ax, "x").get_xdata().tolist() == [0, 20]
    assert line(ax, "x").get_ydata().tolist() == [0.25, 1.5]
    thin = [li for li in ax.lines if li.get_label().startswith("_")]
    assert [li.get_xdata().tolist() for li in thin] == [[0, 10], [0, 30]]


def test_intervals_are_where_they_are_said_to_be():
    ax = show.intervals({"base": (30, 25, 36), "mine": (49, 43, 55)}, xlabel="accuracy (%)")
    assert [t.get_text() for t in ax.get_yticklabels()] == [
        "base",
        "mine",
    ] and ax.get_xlabel() == "accuracy (%)"
    bars = [c.get_segments()[0] for c in ax.collections]
    assert [b.tolist() for b in bars] == [[[25, 0], [36, 0]], [[43, 1], [55, 1]]]
    assert ax.get_ylim() == (1.5, -0.5)  # the first label on top
    with pytest.raises(ValueError, match="'mine': need low <= value <= high, got value 1"):
        show.intervals({"mine": (1, 2, 3)})
    with pytest.raises(ValueError, match="empty"):
        show.intervals({})


# Logs, tables, header


def test_a_log_reads_back_as_it_was_written(tmp_path):
    log = [
        {"step": 0, "eval_accuracy": 0.1 + 0.2},
        {"step": 1, "reward": -1.5e-07, "forwards_update": 24},
    ]
    write_log(tmp_path / "log.csv", log)
    back = read_log(tmp_path / "log.csv")
    assert back == [
        {"step": 0, "eval_accuracy": 0.1 + 0.2, "reward": None, "forwards_update": None},
        {"step": 1, "eval_accuracy": None, "reward": -1.5e-07, "forwards_update": 24},
    ]
    assert isinstance(back[0]["step"], int) and isinstance(back[1]["reward"], float)


@pytest.mark.parametrize(
    "text, words",
    [
        ("step,reward\n0,0.5\n1\n", "log.csv line 3: 1 values for 2 columns"),
        ("step,reward\n0,0.5,7\n", "log.csv line 2: 3 values for 2 columns"),
        ("step,reward\n0,1\n1,1\n2,hello\n", "log.csv line 4: column 'reward' holds 'hello'"),
        ("step,step\n0,1\n", "log.csv line 1"),
        ("", "log.csv line 1"),
        ("step,reward\n0,0.5\n\n", "log.csv line 3: 0 values"),
    ],
)
def test_a_malformed_log_names_file_and_line(tmp_path, text, words):
    (tmp_path / "log.csv").write_text(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        read_log(tmp_path / "log.csv")


def test_a_missing_log_names_the_path_and_the_fix(tmp_path):
    with pytest.raises(
        FileNotFoundError, match="no training log at .*nowhere.*train with this run_dir"
    ):
        read_log(tmp_path / "nowhere" / "log.csv")


def test_table_is_aligned_plain_text():
    assert show.table(
        [{"method": "agrpo", "lr": 1e-5, "n": 3}, {"method": "x", "lr": 0.25, "n": None}]
    ) == ("method     lr  n\n------  -----  -\nagrpo   1e-05  3\nx       0.250  –")
    assert show.table([{"a": 1, "b": 2 / 3}], ["b"]).splitlines()[-1] == "0.667"
    with pytest.raises(ValueError, match="at least one row"):
        show.table([])
    with pytest.raises(ValueError, match="unknown column 'methd'; did you mean 'method'"):
        show.table([{"method": 1}], ["methd"])


def test_before_after_marks_right_and_wrong():
    examples = [Example("6-4+7", "9"), Example("1+1", "2"), Example("x\ny", "3")]
    long = "\n" + "a" * 50 + "z"
    text = show.before_after(
        examples, ["8", "2", long], ["9", "2", "5"], [0.0, 1.0, 0.5], [1, 1, 0], n=3
    )
    lines = [re.split(r"  +", x) for x in text.splitlines()]
    assert lines[0] == ["prompt", "right answer", "before", "after"]
    assert lines[2:4] == [["6-4+7", "9", "✗ 8", "✓ 9"], ["1+1", "2", "✓ 2", "✓ 2"]]
    assert lines[4] == ["x↵y", "3", f"✗ {'a' * 22}…{'a' * 20}z", "✗ 5"]
    assert (
        len(
            show.before_after(
                examples, *[["1", "2", "3"]] * 2, [1, 0, 1], [1, 1, 1], n=2
            ).splitlines()
        )
        == 4
    )
    with pytest.raises(ValueError, match="after has 1 entries for 3 examples"):
        show.before_after(examples, ["1", "2", "3"], ["1"], [0, 0, 0], [0, 0, 0])
    with pytest.raises(ValueError, match="n must be at least 1"):
        show.before_after(examples, *[["1", "2", "3"]] * 2, [1, 0, 1], [1, 1, 1], n=0)


def test_header_names_versions_and_no_path(capsys):
    with matplotlib.rc_context():
        show.header("03", 4.5)
        assert not plt.rcParams["axes.spines.top"] and plt.rcParams["figure.dpi"] == 100
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"] == show.CYCLE
    text = capsys.readouterr().out
    assert (
        text.startswith("Notebook 03 · about 4.5 min on two CPU cores\n")
        and len(text.splitlines()) == 3
    )
    for part in (
        f"torch {torch.__version__}",
        "transformers ",
        "dllm_rl_lite 0.",
        f"{torch.get_num_threads()} torch",
    ):
        assert part in text
    assert "/" not in text
