"""A file is replaced whole, or stays what it was."""

import pytest

from dllm_rl_lite.files import write_atomically


def test_a_text_takes_the_place_of_the_old_one_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "log.csv"
    for text in ("old\n", "neu: ∎\n"):
        write_atomically(path, text)
        assert path.read_text(encoding="utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


def test_a_text_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "log.csv"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "\ud800")  # half a character
    assert path.read_text() == "old"
