"""What a reader of the notebooks asked for: plain words, answers that can be found, tables that
fit the page, chapters of at most an hour."""

import json
import re
from pathlib import Path

import pytest
from dllm_rl_course import chapters as course

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
CHAPTERS = sorted(NOTEBOOKS.glob("[0-9]*.ipynb"))
WIDEST_TABLE = 119  # characters in a line of a JupyterLab page of 1150 pixels; more is wrapped
PRIVATE = r"laws?|push(es|ed)?|pull(s|ed)?|loud(ly)?|dear(er|ly)?|one's own"
# Questions of a fresh reader that a chapter once left open: where, and what the answer says.
ANSWERS = {
    "is the network told the noise level?": ("masked_diffusion", r"network is not told \$t\$"),
    "which canvas lengths were trained?": ("masked_diffusion", r"from 10 tokens .* to 32"),
    "what are the five questions?": ("the_whole_loop", r"\(5\) How does that become a loss\?"),
    "which penalty is to be taken?": ("grpo", r"\*\*Which one to take\?\*\* In the loss \$k_2\$"),
    "what is SAPO's gate?": ("grpo", r"SAPO .* replaces the clip by a smooth gate"),
    "over what does d1 average?": ("grpo", r"d1's code, whose micro-batch is one group"),
    "which LoRA targets do LLaDA runs train?": ("train", r"q, k, v and `up_proj`"),
    "how is a run resumed?": ("train", r"`run_dir=FOLDER`"),
    "what does an 8B model need?": ("train", r"39\.3 GiB at most"),
    "when does AG-GRPO help?": ("ag_grpo", r"AG-GRPO pays where the control is stuck"),
    "why pad to the group's longest?": ("ta_grpo_d", r"\*\*Padded to what\?\*\*"),
    "wd1 or GDSD?": ("without_ratios", r"neither is shown to be better"),
}


def cells(path, kind):
    return [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == kind]


def prose(path):
    return "\n\n".join("".join(c["source"]) for c in cells(path, "markdown"))


def printed(path):
    """The lines that a notebook prints."""
    found = []
    for cell in cells(path, "code"):
        for output in cell["outputs"]:
            found += "".join(output.get("text", [])).splitlines()
    return found


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_words_are_those_of_the_field(path):
    """`law` stands for an option of that name only."""
    words = re.sub(r"`[^`]*`|```.*?```|law of total variance", "", prose(path), flags=re.S)
    lines = [line for line in printed(path) if not line.startswith("views: law")]
    for text in [words, *lines]:
        found = re.search(rf"\b({PRIVATE})\b", text, re.I)
        assert not found, f"say it in the field's words: {found[0]!r} in {text[:80]!r}"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_printed_tables_fit_the_page(path):
    rules = [line for line in printed(path) if re.fullmatch(r"-+(  +-+)+", line.strip())]
    for line in rules:
        assert len(line) <= WIDEST_TABLE, f"a table of {len(line)} characters: {line[:40]} ..."


@pytest.mark.parametrize("chapter", course.read_table(), ids=lambda chapter: chapter.name)
def test_the_main_line_reads_in_less_than_an_hour(chapter):
    path = NOTEBOOKS / f"{chapter.stem}.ipynb"
    main, _ = course.reading_time(json.loads(path.read_text()))
    assert main <= 55


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_a_chapter_is_not_named_by_a_bare_number(path):
    outside = re.sub(r"\[[^\]]*\]\([^)]*\)|`[^`]*`|\$[^$]*\$|^# .*", "", prose(path), flags=re.M)
    outside = re.sub(r"\*\*▶.*?\*\*", "", outside)
    assert not re.findall(r"(?<![\w.,])0\d(?![\w.,])[^%]{0,30}", outside)


@pytest.mark.parametrize("question", ANSWERS)
def test_what_readers_asked_is_answered(question):
    name, answer = ANSWERS[question]
    (path,) = NOTEBOOKS.glob(f"[0-9][0-9]_{name}.ipynb")
    assert re.search(answer, prose(path))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_exercises_have_one_wording(path):
    """`**Exercise 1 (5 minutes)`, so that they are found at a glance."""
    if path.stem < "20":
        assert not re.findall(r"^\*\*\d \(\d+ minutes", prose(path), re.M)
