"""A file is replaced whole, or stays what it was; one process holds it; what is read is checked."""

import errno
import fcntl
import subprocess
import sys

import pytest

from dllm_rl_lite import files
from dllm_rl_lite.files import locked, read_object, write_atomically


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


HOLD = """
import sys, time, pathlib
from dllm_rl_lite.files import locked
with locked(pathlib.Path(sys.argv[1]), "it"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lock_is_held_until_the_end_or_the_death_of_its_holder(tmp_path):
    """Between processes and within one."""
    path = tmp_path / "runs" / "lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, path], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="the run is in use: another process works on it"):
            locked(path, "the run").__enter__()
    finally:
        holder.kill()
        holder.communicate()
    with locked(path, "it"):
        with pytest.raises(ValueError, match="it is in use"), locked(path, "it"):
            pass
        with locked(path.with_name("other"), "another"):
            pass
    with pytest.raises(KeyError), locked(path, "it"):
        raise KeyError
    with locked(path, "it"):
        pass
    assert not list(path.parent.iterdir())


def test_a_lock_that_its_holder_has_just_removed_is_none(tmp_path, monkeypatch):
    """Opened before, locked after: whoever came later holds a new file of that name."""
    path = tmp_path / "lock"
    real = fcntl.flock

    def after_removal(*arguments):
        path.unlink()
        real(*arguments)

    monkeypatch.setattr(fcntl, "flock", after_removal)
    with pytest.raises(ValueError, match="in use"), locked(path, "it"):
        pass


def test_without_locks_work_goes_on(tmp_path, monkeypatch):
    """On a file system, or a system, that has none."""

    def fail(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", fail)
    with locked(tmp_path / "lock", "it"):
        pass
    monkeypatch.setattr(files, "fcntl", None)
    with locked(tmp_path / "lock", "it"):
        pass


def test_what_cannot_be_locked_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="it cannot be written .*(Not a directory|exists)"):
        locked(tmp_path / "file" / "lock", "it").__enter__()


@pytest.mark.parametrize("text", ["", "[1]", "null", "{", "[" * 100_000, "\udcff"])
def test_an_object_is_read_or_its_file_named(tmp_path, text):
    path = tmp_path / "config.json"
    path.write_text("\ufeff" + '{"a": "∎"}', encoding="utf-8")
    assert read_object(path) == {"a": "∎"}
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(ValueError, match="config.json (cannot be read|should hold an object)"):
        read_object(path)
    with pytest.raises(ValueError, match="none.json cannot be read .FileNotFoundError"):
        read_object(tmp_path / "none.json")
