"""Programs that try to do harm or to pass tests without being right. Each defines f, or fails to.

HOSTILE are run against honest tests and must pass none; "{canary}" is a folder that the test puts
there for them to destroy. ATTEMPTS are expressions that must be refused: as functions of a program
that is otherwise right, so that a wall that is missing shows.
"""

ALWAYS_EQUAL = """
class Yes({base}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __bool__(self): return True
    def __lt__(self, other): return True
    __gt__ = __le__ = __ge__ = __contains__ = __lt__
    def __hash__(self): return 0
    def __getattr__(self, name): return self
    def __call__(self, *a): return self
def f(x): return Yes({args})
"""

HOSTILE = {
    "fork bomb": "import os\ndef f(x):\n    while True:\n        os.fork()",
    "fork bomb that goes on": "import os\ndef f(x):\n    while True:\n        try: os.fork()\n"
    "        except OSError: pass",
    "fork while loaded": "import os\nwhile True: os.fork()",
    "double fork into a session of its own": (
        "import os, time\nif os.fork() == 0:\n    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        time.sleep(600)\ndef f(x): return x"
    ),
    "thread bomb": "import threading, time\ndef f(x):\n    while True:\n"
    "        threading.Thread(target=time.sleep, args=(600,)).start()",
    "thread that outlives": (
        "import _thread, time\n_thread.start_new_thread(time.sleep, (600,))\ndef f(x): return x"
    ),
    "multiprocessing": "import multiprocessing\ndef f(x):\n"
    "    p = multiprocessing.Process(target=print); p.start(); p.join()",
    "subprocess": "import subprocess\ndef f(x): return subprocess.check_output(['sleep', '600'])",
    "shell": "import os\ndef f(x): os.execv('/bin/sh', ['sh', '-c', 'sleep 600'])",
    "system": "import os\ndef f(x): return [x, os.system('sleep 600')]",
    "memory": "def f(x):\n    a = []\n    while True: a.append(bytearray(10**8))",
    "memory at once": "def f(x): return [0] * 10**12",
    "memory by mapping": (
        "import mmap\ndef f(x): return len([mmap.mmap(-1, 2**30) for _ in range(100)])"
    ),
    "string memory": "def f(x):\n    s = 'a'\n    while True: s += s",
    "disk": "def f(x):\n    i = 0\n    while True:\n        i += 1\n"
    "        with open(f'fill{i}', 'wb') as o: o.write(bytes(10**7))",
    "disk everywhere": "import os\ndef f(x):\n"
    "    for d in ('/', '/tmp', '/var/tmp', '/dev/shm', os.path.expanduser('~'), '.'):\n"
    "        open(d + '/hostile_was_here', 'w').write('x' * 10**9)",
    "inodes": (
        "import os\ndef f(x):\n    i = 0\n    while True:\n        i += 1\n"
        "        os.mkdir(f'd{i}')"
    ),
    "output flood": "def f(x):\n    while True: print('x' * 10**6)",
    "flood of every descriptor": (
        "import os\ndef f(x):\n    while True:\n        for fd in range(64):\n"
        "            try: os.write(fd, b'x' * 65536)\n            except OSError: pass"
    ),
    "passed on every descriptor": (
        "import os\nfor fd in range(64):\n    for text in (b'\"\"\\n' * 9, b'passed\\n"
        "', b'1', b'[true]'):\n"
        "        try: os.write(fd, text)\n        except OSError: pass\ndef f(x): return x"
    ),
    "forged messages": "import os, json, struct\ndata = json.dumps(['value', True, {}]).encode()\n"
    "for fd in range(3, 64):\n"
    "    try: os.write(fd, (struct.pack('<I', len(data)) + data) * 50)\n    except OSError: pass\n"
    "def f(x): return x",
    "endless message": "import os, struct\nfor fd in range(3, 64):\n    try:\n"
    "        os.write(fd, struct.pack('<I', 2**32 - 1))\n"
    "        while True: os.write(fd, b'[' * 65536)\n    except OSError: pass\ndef f(x): return x",
    "deep message": "import os, struct\nfor fd in range(3, 64):\n"
    "    try: os.write(fd, struct.pack('<I', 60000) + b'[' * 60000)\n"
    "    except OSError: pass\ndef f(x): return x",
    "signal to the parent": (
        "import os, signal\nfor s in (signal.SIGUSR1, signal.SIGTERM, signal.SIGKILL):\n"
        "    os.kill(os.getppid() or 1, s)\ndef f(x): return x"
    ),
    "signal to everybody": "import os\nos.kill(-1, 9)\ndef f(x): return x",
    "signal to the group": "import os\nos.killpg(0, 9)\ndef f(x): return x",
    "stops itself": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGSTOP)",
    "aborts": "import os\ndef f(x): os.abort()",
    "os._exit while loaded": "import os\nos._exit(0)",
    "os._exit in the function": "import os\ndef f(x): os._exit(0)",
    "sys.exit while loaded": "import sys\nsys.exit(0)",
    "sys.exit in the function": "import sys\ndef f(x): sys.exit(0)",
    "raises SystemExit": "def f(x): raise SystemExit(0)",
    "raises KeyboardInterrupt": "def f(x): raise KeyboardInterrupt",
    "raises GeneratorExit": "def f(x): raise GeneratorExit",
    "raises its own BaseException": "class E(BaseException): pass\ndef f(x): raise E()",
    "raises StopIteration": "def f(x): raise StopIteration(10)",
    "exits at the end": "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): return x",
    "patched builtins": "import builtins\n"
    "builtins.AssertionError = type('A', (Exception,), {'__init__': lambda *a: None})\n"
    "builtins.len = builtins.all = builtins.isinstance = lambda *a: True\n"
    "builtins.compile = builtins.exec = print\n"
    "def f(x): return x",
    "patched modules": (
        "import sys\nfor m in list(sys.modules.values()):\n    for n in list(vars(m)):\n"
        "        if n.startswith(('assert', 'encode', 'decode', 'send', 'error', 'work')):\n"
        "            setattr(m, n, lambda *a, **k: ['value', True, {}])\ndef f(x): return x"
    ),
    "deleted modules": "import sys\nsys.modules.clear()\ndef f(x): return x",
    "names of the tests": (
        "assert_ = check = test = None\ndef check(*a): return True\ndef f(x): return x"
    ),
    "walks the frames": "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n"
    "        for name, v in list(frame.f_locals.items()):\n"
    "            if name in ('expected', 'answer', 'result', 'passed'): return v\n"
    "        frame.f_locals.update(passed=True); frame.f_globals.update(passed=True)\n"
    "        frame = frame.f_back",
    "searches memory": "import gc\ndef f(x):\n    for o in gc.get_objects():\n"
    "        if isinstance(o, dict) and 'tests' in o: return o['tests']",
    "always equal": ALWAYS_EQUAL.format(base="object", args=""),
    "always equal list": ALWAYS_EQUAL.format(base="list", args=""),
    "always equal dict": ALWAYS_EQUAL.format(base="dict", args=""),
    "always equal number": ALWAYS_EQUAL.format(base="int", args="7"),
    "always equal text": ALWAYS_EQUAL.format(base="str", args="'7'"),
    "always equal tuple": ALWAYS_EQUAL.format(base="tuple", args="(7,)"),
    "always equal class": (
        "class M(type):\n    def __eq__(c, o): return True\n    __hash__ = None\n"
        "class f(metaclass=M):\n"
        "    def __new__(c, x): return c"
    ),
    "posing as a list": (
        "class L:\n    __class__ = list\n    __name__ = 'list'\n    def __eq__(s, o): return True\n"
        "def f(x): return L()"
    ),
    "list type replaced": (
        "list = type('list', (), {'__module__': 'builtins', '__eq__': lambda s, o: True})\n"
        "def f(x): return list()"
    ),
    "generator without end": "def f(x):\n    while True: yield 1",
    "recursion": "def f(x): return f(x)",
    "deep recursion in C": "import sys\nsys.setrecursionlimit(10**9)\ndef f(x): return f(x)",
    "loop without end": "def f(x):\n    while True: pass",
    "loop without end while loaded": "while True: pass",
    "sleep": "import time\ndef f(x): time.sleep(600)",
    "waits for input": "def f(x): return input()",
    "huge power": "def f(x): return 9 ** 9 ** 9",
    "huge value": "def f(x): return 'x' * 10**8",
    "deep value": "def f(x):\n    a = []\n    for _ in range(10**6): a = [a]\n    return a",
    "value within itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "slow hash": "class H:\n    def __hash__(s):\n        while True: pass\ndef f(x): return {H()}",
    "segmentation fault": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "debugger": (
        "import ctypes, os\ndef f(x): return ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0)"
    ),
    "removes files": (
        "import shutil\nfor d in ('{canary}', '.'): shutil.rmtree(d, ignore_errors=True)\n"
        "def f(x): return x"
    ),
    "links": (
        "import os\nos.symlink('/etc', 'a')\nos.link('/etc/passwd', '/tmp/hostile_was_here')\n"
        "def f(x): return x"
    ),
    "reads what it can": "import os\ndef f(x):\n"
    "    return [open(p).read() for p in ('/etc/shadow', '/proc/self/environ')] + "
    "[os.listdir('/root')]",
    "connects": "import socket\ndef f(x): return socket.create_connection(('1.1.1.1', 53), 2)",
    "listens": (
        "import socket\ndef f(x):\n    s = socket.socket(); s.bind(('', 0)); s.listen(); s.accept()"
    ),
    "asks for names": "import socket\ndef f(x): return socket.gethostbyname('example.com')",
    "swallows errors": (
        "import sys\nsys.excepthook = sys.unraisablehook = lambda *a: None\ndef f(x):\n"
        "    try: return 1 // 0\n    finally: return None"
    ),
    "traces": (
        "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: sys.exit())\n"
        "def f(x): return x"
    ),
    "no program": "this is no Python",
    "nothing": "",
    "null bytes": "def f(x): return '\\0'\n\0",
    "lone surrogate": "def f(x): return '\ud800'",
    "sets the resource limits": (
        "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (10**6, 10**6))\n"
        "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))\ndef f(x): return x"
    ),
}

# Objects that answer every operator as a test would like it: with 0, with themselves, with the
# operand, with True.
FORGER = """
import functools
class Forger({base}):
    def __new__(cls, *a): return super().__new__(cls{args})
    def zero(self, *a): return 0.0
    def me(self, *a): return self
    def operand(self, other, *a): return other
    def yes(self, *a): return True
    __sub__ = __rsub__ = __abs__ = __round__ = __float__ = __pow__ = __rpow__ = zero
    __neg__ = __pos__ = __truediv__ = __floordiv__ = __mul__ = __getitem__ = __iter__ = me
    __add__ = __radd__ = __and__ = __rand__ = __or__ = __mod__ = __xor__ = __format__ = operand
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = __bool__ = yes
    startswith = endswith = issubset = issuperset = __instancecheck__ = __call__ = yes
    __len__ = __int__ = __index__ = __hash__ = lambda self: 3
    union = intersection = get = count = index = join = operand
    def __getattr__(self, name): return self
    def __next__(self): raise StopIteration
    def __str__(self): return '7922'
    def __repr__(self): return '7922'
def f(x): return {returned}
"""
# Tests that a program which computes nothing once passed, or might. f should give 7922 for 3.
FORGED_TESTS = (
    "assert abs(f(3) - 7922) < 1e-6",
    "import math; assert math.fabs(f(3) - 7922) < 1e-6",
    "assert f(3) - 7922 == 0",
    "assert not f(3) - 7922",
    "assert 7922 - f(3) == 0",
    "assert [abs(a - b) < 1e-6 for a, b in zip([f(3)], [7922])] == [True]",
    "import unittest; unittest.TestCase().assertAlmostEqual(f(3), 7922)",
    "import unittest; unittest.TestCase().assertEqual(f(3), 7922)",
    "import unittest; unittest.TestCase().assertIn(7922, f(3))",
    "def check(candidate):\n    assert abs(candidate(3) - 7922) < 1e-6\ncheck(f)",
    "def check(candidate):\n    assert all(abs(a - 7922) < 1e-6 for a in [candidate(3)])\ncheck(f)",
    "assert f(3) % 11 == 2 and f(3) % 7919 == 3",
    "assert f(3) & 7922 == 7922",
    "assert f(3) | 7922 == 7922",
    "assert f(3) + [] == [7922]",
    "assert f(3) + 0 == 7922",
    "assert 0 + f(3) == 7922",
    "assert sum([f(3)]) == 7922",
    "assert f(3) ^ 7922 == 0",
    "assert f(3) / 7922 == 1",
    "assert f(3) * 2 == 15844",
    "assert f(3) ** 0.5 == 7922 ** 0.5",
    "assert round(f(3), 2) == 7922",
    "assert -f(3) == -7922",
    "assert f(3) == 7922",
    "assert 7922 == f(3)",
    "assert not f(3) != 7922",
    "assert 7921 < f(3) < 7923",
    "assert f(3) in (7922, 7923)",
    "assert {f(3): 1}[7922] == 1",
    "assert {f(3)} == {7922}",
    "assert max(f(3), 7922) == f(3) == min(f(3), 7922)",
    "assert sorted([f(3), 7922]) == [7922, 7922]",
    "assert [7922].index(f(3)) == 0",
    "assert [7922].count(f(3)) == 1",
    "assert f'{f(3):7922}' == '7922'",
    "assert '%d' % f(3) == '7922'",
    "assert str(f(3)) == '7922'",
    "assert f(3).startswith('79')",
    "assert f(3).issuperset({7922})",
    "assert f(3).union({7922}) == {7922}",
    "assert f(3)[7922] == 7922",
    "assert 7922 in f(3)",
    "assert len(f(3)) == 3 and all(a == b for a, b in zip(f(3), (7, 9, 2)))",
    "for a in f(3): assert a == 7922",
    "a, b = f(3); assert (a, b) == (79, 22)",
    "import pytest; assert f(3) == pytest.approx(7922)",
    "import pytest; assert [f(3)] == pytest.approx([7922])",
    "import math; assert math.isclose(f(3), 7922)",
    "import operator; assert operator.eq(f(3), 7922) and operator.sub(f(3), 7922) == 0",
    "import functools; assert functools.reduce(lambda a, b: a - b, [f(3), 7922]) == 0",
    "import decimal; assert abs(f(3) - decimal.Decimal(7922)) < 1",
    "import fractions; assert f(3) - fractions.Fraction(7922) == 0",
    "import datetime; assert f(3) - datetime.timedelta(7922) == datetime.timedelta()",
    "import json; assert json.loads(json.dumps(f(3))) == 7922",
    "assert isinstance(7922, f(3))",
    "assert f(3)(7922) - 7922 == 0",
    "assert [abs(a - 7922) for a in f(3)] in ([0], [0.0])",
)
# Programs against the same tests, each in another dress.
FORGERS = {
    "object": FORGER.format(base="object", args="", returned="Forger()"),
    "function": FORGER.format(base="object", args="", returned="Forger"),
    "number": FORGER.format(base="int", args=", 5", returned="Forger()"),
    "float": FORGER.format(base="float", args=", 5", returned="Forger()"),
    "text": FORGER.format(base="str", args=", 'x'", returned="Forger()"),
    "list": FORGER.format(base="list", args="", returned="Forger()"),
    "tuple": FORGER.format(base="tuple", args=", (5,)", returned="Forger()"),
    "set": FORGER.format(base="set", args="", returned="Forger()"),
    "dict": FORGER.format(base="dict", args="", returned="Forger()"),
    "exception": FORGER.format(base="Exception", args="", returned="Forger()"),
    "in a list": FORGER.format(base="object", args="", returned="[Forger()]"),
}
# Exceptions that would end the iteration of the test, and tests that iterate.
ENDING = (
    "StopIteration",
    "StopAsyncIteration",
    "GeneratorExit",
    "SystemExit",
    "KeyboardInterrupt",
    "type('Own', (StopIteration,), {})()",
    "type('Own', (BaseException,), {})()",
)
ITERATING = (
    "assert all(map(lambda c: f(c[0]) == c[1], [(3, 7922)]))",
    "for a, b in zip(map(f, [3]), [7922]): assert a == b",
    "assert not list(filter(lambda x: f(x) != 7922, [3]))",
    "class T:\n    def __iter__(self): return self\n    def __next__(self): return f(3)\n"
    "for a in T(): assert a == 7922",
    "for a in iter(lambda: f(3), 7922): assert False",
    "import itertools\nfor a in itertools.starmap(f, [(3,)]): assert a == 7922",
    "def g():\n    yield f(3)\nfor a in g(): assert a == 7922",
    "assert next(map(f, [3]), 7922) == 7922",
)
# Other ways to silence or mislead a test: (program, test).
SWALLOWED = {
    "ends in a raises": (
        "import os\ndef f(x): os._exit(0)",
        "import pytest\nwith pytest.raises(Exception): f(3)",
    ),
    "ends in a raises of OSError": (
        "import os\ndef f(x): os._exit(0)",
        "import pytest\nwith pytest.raises(OSError): f(3)",
    ),
    "ends in a bare except": ("import os\ndef f(x): os._exit(0)", "try: f(3)\nexcept: pass"),
    "forges a message in a raises": (
        "import os\nfor fd in range(3, 64):\n"
        "    try: os.write(fd, b'\\2\\0\\0\\0[]' * 50)\n    except OSError: pass\n"
        "def f(x): return 1",
        "import pytest\nwith pytest.raises(ValueError): f(3)",
    ),
    "Exception under another name": (
        "Mine = Exception\ndef f(x): raise ValueError",
        "import pytest\nwith pytest.raises(Mine): assert f(3) == 7922",
    ),
    "AssertionError under another name": (
        "Mine = AssertionError\ndef f(x): return 1",
        "try: assert f(3) == 7922\nexcept Mine: pass",
    ),
    "class that is the parent of all": (
        "class M(type):\n    def __instancecheck__(c, o): return True\n"
        "    def __subclasscheck__(c, o): return True\n"
        "class Mine(Exception, metaclass=M): pass\ndef f(x): raise ValueError",
        "import pytest\nwith pytest.raises(Mine): f(3)",
    ),
    "context that swallows": (
        "class f:\n    def __init__(self, x): pass\n    def __enter__(self): return 1\n"
        "    def __exit__(self, *a): return True",
        "with f(3) as got: assert got == 7922",
    ),
    "text of an exception": (
        "class E(ValueError):\n    __eq__ = lambda s, o: True\n"
        "    args = property(lambda s: type('T', (str,), {'__eq__': lambda s, o: True})())\n"
        "def f(x): raise E()",
        "try: f(3)\nexcept ValueError as e: assert e.args == ('bad',) and str(e) == 'bad'",
    ),
    "attribute of an exception": (
        FORGER.format(base="object", args="", returned="1")
        + "class Mine(ValueError): pass\ndef f(x):\n    e = Mine(); e.code = Forger(); raise e",
        "try: f(3)\nexcept ValueError as e: assert e.code == 7922",
    ),
    "argument of a callback": (
        FORGER.format(base="object", args="", returned="1") + "def f(x, g): return g(Forger())",
        "assert f(3, lambda x: abs(x - 7922) < 1e-6)",
    ),
    "item of a generator": (
        FORGER.format(base="object", args="", returned="1") + "def f(x): yield Forger()",
        "for a in f(3): assert a - 7922 == 0",
    ),
    "key of a dict": (
        FORGER.format(base="object", args="", returned="1")
        + "def f(x): return {Forger(): Forger()}",
        "for k, v in f(3).items(): assert k == 7922 and v == 7922",
    ),
    "class that has it all": (
        FORGER.format(base="object", args="", returned="1") + "f = Forger",
        "assert f(3) - 7922 == 0",
    ),
    "argument changed into a forger": (
        FORGER.format(base="object", args="", returned="1") + "def f(x): x[0] = Forger()",
        "a = [1]; f(a); assert a[0] - 7922 == 0",
    ),
    "named tuple with an equality": (
        "import collections\nclass P(collections.namedtuple('P', 'a')):\n"
        "    __eq__ = lambda s, o: True\n    __sub__ = lambda s, o: 0\n    __hash__ = None\n"
        "def f(x): return P(1)",
        "assert f(3) == (7922,)",
    ),
    "named tuple with a field of that name": (
        "def f(x):\n    class P(tuple):\n        _fields = ('__eq__',)\n    return P([1])",
        "assert f(3) == (7922,)",
    ),
    "dict with a default": (
        "import collections\nclass D(collections.defaultdict):\n"
        "    def __missing__(self, key): return 7922\n"
        "    def __getitem__(self, key): return 7922\ndef f(x): return D(lambda: 7922)",
        "assert f(3)['a'] == 7922",
    ),
}

# What must be refused at each level: an expression.
ATTEMPTS = {
    "fork": "os.fork()",
    "thread": "_thread.start_new_thread(print, ())",
    "exec": "os.execv('/bin/sh', ['sh'])",
    "spawn": "os.posix_spawn('/bin/true', ['true'], {})",
    "socket": "socket.socket()",
    "socket pair": "socket.socketpair()",
    "signal": "os.kill(os.getppid(), 0)",
    "signal to itself": "os.kill(os.getpid(), 0)",
    "home": "os.listdir('{home}')",
    "shadow": "open('/etc/shadow').read()",
    "passwd": "open('/etc/passwd').read()",
    "file of the caller": "open('{file}').read()",
    "write over it": "open('{file}', 'w')",
    "create beside it": "open('{file}.new', 'w')",
    "remove it": "os.remove('{file}')",
    "rename it": "os.rename('{file}', '{file}.old')",
    "link it": "os.symlink('{file}', '{file}.link')",
    "folder beside it": "os.mkdir('{file}.d')",
    "write into the root": "open('/new', 'w')",
    "write into Python": "open(os.__file__, 'a')",
    "/proc": "os.listdir('/proc')",
    "/dev": "os.listdir('/dev/shm')",
    "environment": "os.environ['PATH']",
    "priority": "os.nice(-5)",
    "user": "os.setuid(0)",
    "more memory": "resource.setrlimit(resource.RLIMIT_AS, (2**40, 2**40))",
    "limits of the parent": "resource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    "pipe": "os.pipe()",
    "any file": "open('/usr/bin/env', 'rb')",
    "here": "os.listdir('.')",
    "folder here": "os.mkdir('d')",
    "status of a file": "os.stat('/')",
    "size of this folder": "os.statvfs('.')",
    "temporary file": "__import__('tempfile').TemporaryFile()",
    "memory file": "os.memfd_create('x')",
    "event descriptor": "os.eventfd(0)",
    "library of Python": "open(os.__file__).read()",
}
