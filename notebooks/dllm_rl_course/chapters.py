"""`make chapters`: writes into the notebooks, README and texts what `notebooks/chapters.yaml` says.

File names, titles, times, maps, *Next* lines, the numbers in links and README's table come from
that one table; `tests/course/test_chapters.py` fails while anything differs from it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
WORDS_A_MINUTE = 180
CODE_LINES_A_MINUTE = 12
TEXTS = [
    "README.md",
    "Makefile",
    "benchmarks/*.py",
    "dllm_rl_lite/**/*.py",
    "notebooks/**/*.ipynb",
    "notebooks/**/*.md",
    "notebooks/**/*.py",
    "notebooks/configs/*.yaml",
    "tests/**/*.py",
]


@dataclass(frozen=True)
class Chapter:
    """One chapter of the table.

    Args:
        number: two digits.
        name: of the notebook, without its number.
        title: as in its first line.
        question: that it answers, one sentence.
        build: what the reader builds.
        track: "core" or "advanced".
        minutes: that it runs on two CPU cores.
        part: of the course that it belongs to.
    """

    number: str
    name: str
    title: str
    question: str
    build: str
    track: str
    minutes: float
    part: str

    @property
    def stem(self) -> str:
        return f"{self.number}_{self.name}"

    @property
    def label(self) -> str:
        return f"{self.number} {self.title}"


def read_table(root: Path = ROOT) -> list[Chapter]:
    """The chapters of `notebooks/chapters.yaml`, in reading order."""
    parts = yaml.safe_load((root / "notebooks" / "chapters.yaml").read_text())
    chapters = []
    for part in parts:
        for row in part["chapters"]:
            chapters.append(Chapter(**row, part=part["part"]))
    return chapters


def reading_minutes(notebook: dict) -> tuple[float, float]:
    """Minutes to read a notebook: its words and its lines of code; the map is not read.

    Returns:
        of the main line, and of what may be skipped: the sections whose "## " heading starts with
        "Going deeper".
    """
    minutes = {False: 0.0, True: 0.0}
    deeper = False
    for cell in notebook["cells"]:
        source = "".join(cell["source"])
        markdown = cell["cell_type"] == "markdown"
        for line in re.sub(r"\*\*Map\*\*.*", "", source).splitlines():
            if markdown and line.startswith("## "):
                deeper = line.startswith("## Going deeper")
            if markdown:
                minutes[deeper] += len(line.split()) / WORDS_A_MINUTE
            elif line.strip():
                minutes[deeper] += 1 / CODE_LINES_A_MINUTE
    return minutes[False], minutes[True]


def reading_time(notebook: dict) -> tuple[int, int]:
    """The same in steps of five minutes; the second is 0 where nothing may be skipped."""
    main, deeper = reading_minutes(notebook)
    return rounded(main), rounded(deeper) if deeper else 0


def rounded(minutes: float) -> int:
    return max(5, 5 * round(minutes / 5))


def new_name(path: Path, chapters: list[Chapter]) -> Path:
    """Where a notebook of the table belongs; any other path is returned as it is."""
    for chapter in chapters:
        if re.fullmatch(rf"\d\d_{chapter.name}\.ipynb", path.name):
            return path.with_name(f"{chapter.stem}.ipynb")
    return path


def with_numbers(text: str, chapters: list[Chapter]) -> str:
    """A text whose file names and links have the numbers and titles of the table.

    A link's text is changed if it is a number, alone or after a word, a number and a title, or a
    file name; a text in words is left alone.
    """
    for chapter in chapters:
        text = re.sub(rf"(?<!\w)\d\d_{chapter.name}(?!\w)", chapter.stem, text)
        link = rf"\]\([a-z./]*{chapter.stem}\.ipynb\)"
        text = re.sub(rf"\[([A-Za-z]+ )?\d\d(?={link})", rf"[\g<1>{chapter.number}", text)
        text = re.sub(rf"\[\d\d [^\]]+(?={link})", f"[{chapter.label}", text)
    return text


def map_of(chapters: list[Chapter], here: Chapter) -> str:
    """The map of the course in a chapter's first cell."""
    parts = {}
    for chapter in chapters:
        entry = f"[{chapter.label}]({chapter.stem}.ipynb)"
        if chapter == here:
            entry = f"**▶ {chapter.label}**"
        parts.setdefault(chapter.part, []).append(entry)
    lines = [f"*{part}:* {' · '.join(entries)}." for part, entries in parts.items()]
    return f"**Map** (▶ you are here). {' '.join(lines)}"


def head(source: str, chapters: list[Chapter], chapter: Chapter, reading: tuple[int, int]) -> str:
    """A chapter's first cell with its title, times and map."""
    main, deeper = reading
    more = f" (*Going deeper*: {deeper} more, may be skipped)" if deeper else ""
    time = (
        f"**Time and machine:** {main} minutes to read{more}, {chapter.minutes:g} to run on two "
        f"CPU cores, offline; {chapter.track} track"
    )
    source = re.sub(r"^# .*", f"# {chapter.label}", source)
    source = re.sub(r"\*\*Time and machine.*?(core|advanced) track", time, source, flags=re.S)
    return re.sub(r"\*\*Map\*\*.*", map_of(chapters, chapter), source)


def next_line(chapters: list[Chapter], chapter: Chapter) -> str:
    """What the last cell of a chapter ends with."""
    following = chapters[chapters.index(chapter) + 1]
    return f"**Next:** [{following.label}]({following.stem}.ipynb) *{following.question}*"


def with_header(cell: dict, number: str, minutes: float | None) -> None:
    """Number (and minutes) in the call of `show.header` and in what it printed."""
    source = "".join(cell["source"])
    call = re.search(r'show\.header\("(\d\d)( solutions)?"(?:, minutes=([\d.]+))?\)', source)
    if call is None:
        return
    old_minutes = call[3]
    new_minutes = old_minutes if minutes is None else f"{minutes:g}"
    new_call = call[0].replace(f'"{call[1]}', f'"{number}', 1)
    if old_minutes:
        new_call = new_call.replace(f"minutes={old_minutes}", f"minutes={new_minutes}")
    cell["source"] = source.replace(call[0], new_call).splitlines(keepends=True)
    for output in cell["outputs"]:
        text = "".join(output["text"]).replace(f"Notebook {call[1]}", f"Notebook {number}", 1)
        text = text.replace(f"about {old_minutes} min", f"about {new_minutes} min")
        output["text"] = text.splitlines(keepends=True)


def with_notebook(text: str, chapters: list[Chapter], chapter: Chapter, solution: bool) -> str:
    """A notebook's text with all that the table decides."""
    notebook = json.loads(text)
    cells = notebook["cells"]
    for cell in cells:
        if cell["cell_type"] == "code":
            with_header(cell, chapter.number, None if solution else chapter.minutes)
    first = "".join(cells[0]["source"])
    if solution:
        first = re.sub(r"^# \d\d", f"# {chapter.number}", first)
    else:
        first = head(first, chapters, chapter, reading_time(notebook))
        if chapter != chapters[-1]:
            last = "".join(cells[-1]["source"])
            last = re.sub(r"\*\*Next:\*\*.*", next_line(chapters, chapter), last, flags=re.S)
            cells[-1]["source"] = last.splitlines(keepends=True)
    cells[0]["source"] = first.splitlines(keepends=True)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def readme_table(chapters: list[Chapter], reading: dict[str, tuple[int, int]]) -> str:
    """README's table of the chapters."""
    lines = [
        "| chapter | question | you build | read (+ going deeper), run (minutes) |",
        "|---|---|---|---|",
    ]
    for chapter in chapters:
        title = f"[{chapter.label}](notebooks/{chapter.stem}.ipynb)"
        if chapter.track == "advanced":
            title += " ✦"
        main, deeper = reading[chapter.name]
        more = f" (+ {deeper})" if deeper else ""
        times = f"{main}{more}, {chapter.minutes:g}"
        lines.append(f"| {title} | {chapter.question} | {chapter.build} | {times} |")
    return "\n".join(lines)


def texts(root: Path = ROOT) -> list[Path]:
    """The files that may name a notebook."""
    found = []
    for pattern in TEXTS:
        found += sorted(root.glob(pattern))
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def changes(paths: list[Path], root: Path = ROOT) -> dict[Path, tuple[Path, str]]:
    """What the table changes in these files.

    Returns:
        by file: where it belongs, and its text; files that stay as they are are left out.
    """
    chapters = read_table(root)
    by_stem = {chapter.stem: chapter for chapter in chapters}
    reading = {}
    found = {}
    for path in paths:
        target = new_name(path, chapters)
        text = with_numbers(path.read_text(), chapters)
        if path.suffix == ".ipynb" and target.stem in by_stem:
            chapter = by_stem[target.stem]
            solution = path.parent.name == "solutions"
            text = with_notebook(text, chapters, chapter, solution)
            if not solution:
                reading[chapter.name] = reading_time(json.loads(text))
        found[path] = (target, text)
    readme = root / "README.md"
    if readme in found:
        table = f"<!-- chapters -->\n{readme_table(chapters, reading)}\n<!-- end -->"
        text = re.sub(
            r"<!-- chapters -->.*?<!-- end -->", lambda _: table, found[readme][1], flags=re.S
        )
        found[readme] = (readme, text)
    return {p: (t, text) for p, (t, text) in found.items() if t != p or text != p.read_text()}


def write(found: dict[Path, tuple[Path, str]]) -> None:
    """Make these changes; two notebooks may have exchanged their numbers."""
    for path in found:
        path.unlink()
    for target, text in found.values():
        target.write_text(text)
        print(target)


if __name__ == "__main__":
    write(changes(texts()))
