"""What the notebooks show before they are run: pages that need no script, figures that can be
read."""

import base64
import re
import struct
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))
PICTURES = sorted((ROOT / "notebooks" / "figures").glob("*.png"))
DPI = 100  # at 100 % zoom smaller figures cannot be read

# Of what JupyterLab keeps in a notebook that is not trusted, what this course uses.
TAGS = {"div", "p", "pre", "span", "strong", "table", "thead", "tbody", "tr", "th", "td"}
STYLES = {
    "background",
    "border",
    "border-radius",
    "color",
    "display",
    "font-family",
    "font-size",
    "line-height",
    "margin",
    "max-height",
    "min-width",
    "overflow",
    "padding",
    "text-align",
    "white-space",
}


def outputs(path, kind):
    """The outputs of one kind, in order."""
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    data = [output.get("data", {}) for cell in cells for output in cell.outputs]
    return [found[kind] for found in data if kind in found]


class Untrusted(HTMLParser):
    """A page as JupyterLab shows it before it is run: scripts and style sheets are gone."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(re.sub(r"<(script|style)\b.*?</\1>", "", page, flags=re.DOTALL))

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_saved_pages_look_right_without_scripts_and_style_sheets(path):
    for page in outputs(path, "text/html"):
        left = Untrusted(page)
        assert set(left.tags) <= TAGS, "controls without their script are dead"
        assert "<style" not in page, "a style sheet is stripped: set styles on the elements"
        handlers = [name for name, _ in left.attributes if name.startswith("on")]
        assert not handlers, "handlers are stripped"
        for name, value in left.attributes:
            if name == "style":
                used = {part.split(":")[0].strip() for part in value.split(";") if part.strip()}
                assert used <= STYLES and "var(" not in value
        if "<script" in page:
            assert "Run the cells up to this one" in left.text, "say how it comes to life"


def resolution(png):
    """(width in inches, dots per inch) that a PNG says of itself."""
    width = struct.unpack(">I", png[16:20])[0]
    at = png.index(b"pHYs") + 4
    dpi = struct.unpack(">I", png[at : at + 4])[0] * 0.0254
    return width / dpi, dpi


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_saved_figures_can_be_read(path):
    for picture in outputs(path, "image/png"):
        inches, dpi = resolution(base64.b64decode(picture))
        assert dpi > DPI - 1
        assert inches < 14, "wider than a page: it is scaled down"


@pytest.mark.parametrize("path", PICTURES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_committed_figures_can_be_read(path):
    assert resolution(path.read_bytes())[1] > DPI - 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_no_notebook_sets_a_resolution_of_its_own(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert not [c.source for c in cells if re.search(r"dpi", c.source)], "show.style() does"
