"""The sandbox: right values, and no harm from programs that try."""

import os
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from dllm_rl_lite import sandbox
from dllm_rl_lite.sandbox import run_expressions
from dllm_rl_lite.tasks.python_function import reward

OS = "[c for c in ().__class__.__base__.__subclasses__() if c.__name__=='_wrap_close'][0].__init__.__globals__"


def children():
    """Processes whose parent this one is (Linux)."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.parent.name, stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        if rest[1] == str(os.getpid()):
            found.add(pid)
    return found


def unscreened(expression, inputs=(1,)):
    """Run a program past the screen for attributes: what the child's own walls hold back."""
    return sandbox._run.__wrapped__(expression, inputs)


def test_right_values():
    """Expressions in x at each input, in order; the allowed functions work."""
    programs = [("x+1", [1, 2, 3]), ("2*x*x-3", [0, -4]), ("[x,x*2]", [1]), ("x/2", [3]), ("'a'*x", [2]), ("x>1", [1, 2]),
                ("sum(range(x))+max(1,min(x,2))+abs(-x)", [4]), ("len(str(x))", [100]), ("sorted([3,x])[0]", [1]),
                ("x ", [5]), ("x", [])]
    assert run_expressions(programs) == [[2, 3, 4], [-3, 29], [[1, 2]], [1.5], ["aa"], [False, True], [12], [3], [1], [5],
                                         []]
    assert run_expressions([]) == []


@pytest.mark.parametrize("expression", [
    "", " ", "x+", "x=1", "print(x)", "y", "x/0", "1;2", "import os", "lambda: 1", "x # no", "(yield)", "x" * 201,
    "\x00", "x+\ud800", "{x}", "range(3)", "x)+(x", "open('/etc/passwd')", "exit()", "quit()",
    "__import__('os')", "eval('1')", "exec('1')", "getattr(x,'real')", "globals()", "breakpoint()", "input()",
    "[0][x]", "int('9'*5000)", "9**9999", "1e999**2 if 0 else f'{x.real}'", "str(x).upper()",
])
def test_what_is_no_answer_is_none(expression):
    """Malformed, over-long, failing, unprintable or forbidden programs: None, and no exception."""
    assert run_expressions([(expression, [1, 2])]) == [None]


def test_one_failing_input_fails_the_program():
    """Values come for all inputs or for none."""
    assert run_expressions([("6//x", [1, 2, 0]), ("6//x", [1, 2])]) == [None, [6, 3]]


def test_attributes_are_refused_before_anything_runs(monkeypatch):
    """No program with an attribute starts a process, however it hides it."""
    monkeypatch.setattr(sandbox, "_run", lambda *_: pytest.fail("a process was started"))
    for text in ("x.real", "().__class__", "f'{x.real}'", "'{0.real}'.format(x)", "(i for i in [1]).gi_frame",
                 "[y.real for y in [x]]", "(lambda y: y . real)(x)", OS + "['kill'](1,9)"):
        assert run_expressions([(text[:200], [1])]) == [None]


def test_runaway_programs_are_stopped():
    """An endless loop, a huge power, a huge list, deep recursion: None within the limits, and no process is left."""
    before = children()
    start = time.monotonic()
    programs = ["sum(1 for i in range(10**18))", "9**9**9", "[x]*10**10", "'a'*10**10", "(lambda f:f(f))(lambda f:f(f))",
                "len(str(7**10**7))"]
    assert run_expressions([(p, [1]) for p in programs]) == [None] * 6
    assert time.monotonic() - start < 6 * (sandbox.SECONDS + 3)  # a bound on hanging, no claim about speed
    assert children() == before


def test_a_flood_of_output_is_cut():
    """The child sends at most OUTPUT + 1 bytes; what is longer than OUTPUT is no answer."""
    fits = sandbox.OUTPUT - 4  # brackets and quotes of the list and the string
    assert run_expressions([(f"'a'*{fits}", [1])]) == [["a" * fits]]
    assert run_expressions([(f"'a'*{fits + 1}", [1]), ("'a'*10**7", [1])]) == [None, None]


def test_the_child_sends_no_more_than_its_limit(monkeypatch):
    """Measured at the pipe: ten million characters come out as OUTPUT + 1 bytes."""
    sizes, communicate = [], subprocess.Popen.communicate

    def watched(self, *args, **kwargs):
        output, error = communicate(self, *args, **kwargs)
        sizes.append(len(output))
        return output, error
    monkeypatch.setattr(subprocess.Popen, "communicate", watched)
    assert unscreened("'b'*10**7") is None
    assert sizes == [sandbox.OUTPUT + 1]


def test_expected_values_never_enter_the_child(monkeypatch):
    """What goes to the child holds the inputs and no expected value."""
    sent, communicate = [], subprocess.Popen.communicate

    def watched(self, data=None, **kwargs):
        sent.append((self.args, self.args[-1], data))
        return communicate(self, data, **kwargs)
    monkeypatch.setattr(subprocess.Popen, "communicate", watched)
    sandbox._run.cache_clear()
    tests = [[1, 987123], [2, 987124]]
    assert reward(["p"], ["<answer>x+987122</answer>"], [tests]) == [1.0]
    assert reward(["p"], ["<answer>x+1</answer>"], [tests]) == [0.0]
    assert len(sent) == 2
    for _, _, data in sent:
        assert b"987123" not in data and b"987124" not in data
    assert all("987123" not in part for args, _, _ in sent for part in args)


def test_equal_programs_run_once(monkeypatch):
    """Within a call and across calls, also when several threads ask at the same time."""
    started, popen = [], subprocess.Popen

    def counted(*args, **kwargs):
        started.append(threading.get_ident())
        return popen(*args, **kwargs)
    monkeypatch.setattr(sandbox.subprocess, "Popen", counted)
    sandbox._run.cache_clear()
    assert run_expressions([("x+41", [1])] * 8 + [("x+42", [1])]) == [[42]] * 8 + [[43]]
    assert len(started) == 2
    assert run_expressions([("x+41", [1]), ("x+41", [2])]) == [[42], [43]]
    assert len(started) == 3
    answers = run_expressions([("[x]", [1])] * 2)
    answers[0][0] = "changed"
    assert answers[1] == [[1]]


# ------------------------------------------------ the child's own walls, for a program that got past the screen


def test_the_way_to_os_exists_without_the_screen():
    """The attacks below are real: past the screen, a program can reach the os module (and does no harm with getpid)."""
    assert isinstance(unscreened(OS + "['getpid']()")[0], int)


def test_no_file_is_read_or_written(tmp_path):
    """open, os.open and builtins' open all fail: no descriptor is left to open."""
    os.chmod(tmp_path, 0o777)
    target = tmp_path / "harm"
    for attempt in (f"['open']('{target}',65,511)", f"['__builtins__']['open']('{target}','w')",
                    "['open']('/etc/passwd',0)", f"['mkdir']('{target}') or 1"):
        assert unscreened(OS + attempt) is None or attempt.startswith("['mkdir']")
    assert not target.is_file()


def test_no_socket_is_opened():
    """socket.socket fails, and a listener in the parent hears nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        socket_ = OS + "['sys'].modules['_socket'].socket()"
        imported = f"{OS}['__builtins__']['__import__']('socket').create_connection(('127.0.0.1',{port}))"
        assert unscreened(socket_) is None and unscreened(imported) is None
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_process_is_started():
    """fork, system and popen fail, and nothing is left behind."""
    before = children()
    for attempt in ("['fork']()", "['popen']('true').read()", "['posix_spawn']('/bin/true',['true'],{})"):
        assert unscreened(OS + attempt) is None, attempt
    assert children() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be dropped; others rely on the screen for attributes")
def test_root_is_dropped_so_that_no_signal_arrives():
    """Run by root, the child cannot signal its parent even past the screen."""
    arrived = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: arrived.append(1))
    try:
        assert unscreened(f"{OS}['kill']({os.getpid()},{int(signal.SIGUSR1)})") is None
        assert unscreened(f"{OS}['kill']({os.getpid()},0)") is None
        time.sleep(0.05)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert not arrived


def test_no_signal_arrives_through_the_front_door():
    """The same attempt as an answer: refused, for every user."""
    arrived = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: arrived.append(1))
    try:
        kill = f"{OS}['kill']({os.getpid()},{int(signal.SIGUSR1)})"
        assert len(kill) <= 200 and run_expressions([(kill, [1])]) == [None]
        time.sleep(0.05)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert not arrived


def test_ending_early_or_writing_by_itself_earns_nothing():
    """os._exit(0) and a forged line on the pipe are no answer."""
    assert unscreened(OS + "['_exit'](0)") is None
    assert unscreened(OS + "['write'](1,b'[2]')") is None
