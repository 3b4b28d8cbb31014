"""The chapters' numbers, names, times and links are those of `notebooks/chapters.yaml`."""

import json
import re
from pathlib import Path

import pytest
from dllm_rl_course import chapters as course

ROOT = Path(__file__).parents[2]
CHAPTERS = course.read_table()
TEXTS = course.texts()
NOTEBOOKS = [path for path in TEXTS if path.suffix == ".ipynb"]
PROSE = [path for path in TEXTS if path.suffix in (".ipynb", ".md")]


def prose(path):
    """What a reader sees as text: the markdown cells of a notebook, or the whole page."""
    if path.suffix == ".md":
        return path.read_text()
    cells = json.loads(path.read_text())["cells"]
    return "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")


def test_the_table_names_every_notebook_in_order():
    stems = [chapter.stem for chapter in CHAPTERS]
    assert stems == sorted(stems) and len({s[:2] for s in stems}) == len(stems)
    for folder in ("notebooks", "notebooks/solutions"):
        found = sorted(path.stem for path in (ROOT / folder).glob("*.ipynb"))
        assert stems == [stem for stem in found if stem < "90"]  # the others are appendices
    assert {chapter.track for chapter in CHAPTERS} == {"core", "advanced"}


def test_everything_is_as_the_table_says():
    """Titles, times, maps, next lines, numbers in links and README's table; also that the reading
    times are those of today's text."""
    stale = [str(path.relative_to(ROOT)) for path in course.changes(TEXTS)]
    assert not stale, f"run `make chapters`: {stale} differ from notebooks/chapters.yaml"


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.stem)
def test_chapters_are_linked_and_every_link_leads_somewhere(path):
    """A chapter's number stands only inside a link to it, where `make chapters` keeps it right."""
    text = prose(path)
    for target in re.findall(r"\]\(([^)#\s]+)", text):
        assert "://" in target or (path.parent / target).exists(), f"no file {target}"
    outside = re.sub(r"\[[^\]]*\]\([^)]*\)", "", text)
    loose = re.findall(r"(?:chapter|notebook)s?\s+\d\d\b.{0,30}", outside, re.I)
    assert not loose, "link the chapter: [07](07_name.ipynb)"


@pytest.mark.parametrize("path", [p for p in TEXTS if p not in PROSE], ids=lambda path: path.name)
def test_code_names_chapters_without_their_numbers(path):
    if path == Path(__file__):
        return
    loose = re.findall(r"(?:chapters?|notebooks?) \d\d\b.{0,30}", path.read_text())
    assert not loose, "name the chapter by its title, which stays when numbers change"


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)
def test_the_main_line_of_the_core_track_reads_in_45_minutes(chapter):
    """What goes deeper stands at the end, before a last section that is not skipped."""
    path = ROOT / "notebooks" / f"{chapter.stem}.ipynb"
    main, deeper = course.reading_time(json.loads(path.read_text()))
    if chapter.track == "core":
        assert main <= 45
    if deeper:
        headings = re.findall(r"^## (.*)", prose(path), re.M)
        skipped = [heading.startswith("Going deeper") for heading in headings]
        assert skipped == sorted(skipped[:-1]) + [False]


def cell(kind, source, output=None):
    made = {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True)}
    if kind == "code":
        made["outputs"] = [{"name": "stdout", "output_type": "stream", "text": [output]}]
    return made


def write_course(root, table):
    """A course of two chapters, `first` and `second`, whose files hold old numbers and titles."""
    (root / "notebooks" / "solutions").mkdir(parents=True)
    (root / "notebooks" / "chapters.yaml").write_text(table)
    (root / "README.md").write_text(
        "<!-- chapters -->\n<!-- end -->\nRead [chapter 05](notebooks/05_first.ipynb).\n"
    )
    for number, name, other in (("05", "first", "06_second"), ("06", "second", "05_first")):
        notebook = {
            "cells": [
                cell(
                    "markdown",
                    f"# {number} Old\n\n**You need** [{other[:2]}]({other}.ipynb).\n\n"
                    "**Time and machine:** core track (measured today).\n\n**Map** none",
                ),
                cell(
                    "code",
                    f'show.header("{number}", minutes=3)',
                    f"Notebook {number} · about 3 min on two CPU cores\n",
                ),
                cell("markdown", f"{'word ' * 1800}\n\nSee [{other[:2]} Old]({other}.ipynb)."),
                cell("markdown", f"Done.\n\n## Going deeper: more\n\n{'word ' * 900}"),
                cell("code", "line\n\n" * 60, "60"),
                cell("markdown", "## Recap\n\nRecap.\n\n**Next:** nothing"),
            ]
        }
        path = root / "notebooks" / f"{number}_{name}.ipynb"
        path.write_text(json.dumps(notebook, indent=1) + "\n")
        solution = {
            "cells": [
                cell(
                    "markdown", f"# {number} Solutions\n\nOf [{number}](../{number}_{name}.ipynb)."
                )
            ]
        }
        path = root / "notebooks" / "solutions" / path.name
        path.write_text(json.dumps(solution, indent=1) + "\n")


def test_a_section_of_going_deeper_has_its_own_reading_time():
    cells = [
        cell("markdown", f"# Title\n\n{'word ' * 178}**Map** {'entry ' * 999}"),
        cell("code", "line\n\n" * 12, ""),
        cell("markdown", f"{'word ' * 180}\n\n## Going deeper: more\n\n{'word ' * 176}"),
        cell("code", "## Recap\n" * 24, ""),
        cell("markdown", f"### More\n\n{'word ' * 178}\n\n## Recap\n\n{'word ' * 178}"),
    ]
    assert course.reading_minutes({"cells": cells}) == pytest.approx((4, 4))
    assert course.reading_time({"cells": cells}) == (5, 5)
    assert course.reading_time({"cells": cells[:2]}) == (5, 0)


EXCHANGED = """
- part: All
  chapters:
  - {number: "05", name: second, title: New second,
     question: "Why?", build: b, track: core, minutes: 2}
  - {number: "06", name: first, title: New first,
     question: "How?", build: b, track: advanced, minutes: 4}
"""


def test_an_edit_of_the_table_renumbers_everything(tmp_path):
    write_course(tmp_path, EXCHANGED)
    course.write(course.changes(course.texts(tmp_path), tmp_path))
    notebooks = tmp_path / "notebooks"
    assert sorted(p.name for p in notebooks.glob("*.ipynb")) == [
        "05_second.ipynb",
        "06_first.ipynb",
    ]
    first = json.loads((notebooks / "06_first.ipynb").read_text())["cells"]
    head, call, body = ("".join(c["source"]) for c in first[:3])
    assert head.startswith("# 06 New first\n") and "[05](05_second.ipynb)" in head
    assert (
        "10 minutes to read (*Going deeper*: 10 more, may be skipped), 4 to run on two CPU cores, "
        "offline; advanced track (mea" in head
    )
    assert "*All:* [05 New second](05_second.ipynb) · **▶ 06 New first**." in head
    assert call == 'show.header("06", minutes=4)'
    assert first[1]["outputs"][0]["text"] == ["Notebook 06 · about 4 min on two CPU cores\n"]
    assert body.endswith("See [05 New second](05_second.ipynb).")
    second = json.loads((notebooks / "05_second.ipynb").read_text())["cells"]
    assert "".join(second[-1]["source"]) == (
        "## Recap\n\nRecap.\n\n**Next:** [06 New first](06_first.ipynb) *How?*"
    )
    solved = json.loads((notebooks / "solutions" / "06_first.ipynb").read_text())["cells"]
    assert "".join(solved[0]["source"]) == "# 06 Solutions\n\nOf [06](../06_first.ipynb)."
    readme = (tmp_path / "README.md").read_text()
    assert "Read [chapter 06](notebooks/06_first.ipynb)." in readme
    assert "| [06 New first](notebooks/06_first.ipynb) ✦ | How? | b | 10 (+ 10), 4 |" in readme
    assert not course.changes(course.texts(tmp_path), tmp_path), "a second time changes nothing"
