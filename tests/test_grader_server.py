"""Jobs run in workers that may do anything: the reply is right or says what happened, in time, and nothing is left."""

from __future__ import annotations

import linecache
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, sleep

import numpy as np
import pytest
import torch

from course_lib.grader import conversation, messages, process, server, wire
from course_lib.grader.frames import send_frame
from course_lib.grader.server import Job, Server
from course_lib.grading import values
from course_lib.grading.run import run, seed_everything, standard_state

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="grading needs Linux")

SECONDS = 1.0
CASE = {"x": torch.arange(6.0).reshape(2, 3), "n": 2}
SETUP = "import math\nimport torch\nfrom torch import Tensor\n"


@pytest.fixture(scope="module")
def grader():
    with Server("best", parallel=4) as running:
        yield running


def job(code: str, cases=(CASE,), **options) -> Job:
    options = {"seconds": SECONDS, "setup_seconds": 2.0} | options
    return Job((SETUP, code), "answer", tuple(wire.encode(case) for case in cases), **options)


def body(text: str) -> str:
    return "def answer(x, n):\n" + "".join(f"    {line}\n" for line in text.splitlines())


def test_a_cell_that_awaits_is_waited_for(grader):
    code = "import asyncio\nasync def load():\n    await asyncio.sleep(0)\n    return 3\nSIZE = await load()\n"
    reply = grader.run(job(code + body("return n + SIZE")))
    assert (reply.state, reply.outcomes[0][0].value) == ("ok", 5)


def test_what_a_notebook_defines_for_every_cell_is_there(grader):
    code = "get_ipython().run_line_magic('matplotlib', 'inline')\nget_ipython().system('ls')\ndisplay(1)\n"
    reply = grader.run(job(code + body("display(x, display_id=True)\nreturn display(n)")))
    assert (reply.state, reply.outcomes[0][0].value) == ("ok", None)


@pytest.mark.parametrize("decorator", ["@torch.compile", '@torch.compile(backend="eager", fullgraph=True)'])
def test_a_compiled_answer_runs_as_it_is_written(grader, decorator):
    reply = grader.run(job(f"{decorator}\n{body('return x * n')}", seconds=20.0, setup_seconds=20.0))
    assert reply.state == "ok" and torch.equal(reply.outcomes[0][0].value, CASE["x"] * CASE["n"])


def test_checks_look_at_nothing_and_pass(grader):
    code = (
        "from course_lib.grading import check, hint, progress, solution\nfrom course_lib import grading\n"
        "def checked(f):\n    assert check('3.1', f).state == grading.notebook.check(3.1, f).state == 'passed'\n"
        "    hint('0.1'), solution('0.1'), progress()\n    return f\n"
    )
    reply = grader.run(job(f"{code}@checked\n{body('return x')}"))
    assert reply.state == "ok", reply


def test_lines_count_from_the_cell_itself_when_annotations_are_from_the_future(grader):
    reply = grader.run(job(messages.FUTURE + "def answer(x: T, n: T):\n    return x.nothing"))
    failure = reply.outcomes[0][0].failure
    assert (failure.line_number, failure.line) == (2, "return x.nothing")
    reply = grader.run(job(messages.FUTURE + "a = 1\nb = a.nothing"))
    assert "(line 2: b = a.nothing)" in reply.message


def children(pid: int) -> set[int]:
    """All processes below one, as the kernel has them now."""
    found, parents = {pid}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


# What honest answers give


def test_a_value_comes_back_for_every_case(grader):
    cases = [CASE | {"n": n} for n in range(3)]
    reply = grader.run(job(body("return x * n"), cases))
    assert reply.state == "ok" and len(reply.outcomes) == 3
    for case, pair in zip(cases, reply.outcomes, strict=True):
        assert all(torch.equal(outcome.value, case["x"] * case["n"]) for outcome in pair)


@pytest.mark.parametrize(
    "code",
    {
        "an error": body("y = x + 1\nreturn y @ torch.ones(5)"),
        "an error in a helper": "def helper(x):\n    return x.nothing\n\n\n" + body("return helper(x)"),
        "an error of its own": body("raise ValueError('no ' * 400)"),
        "a stub": body('"""Say what."""\n...'),
        "a stub that raises": body("raise NotImplementedError"),
        "a stub after given lines": body("y = x + 1\npass"),
        "a forgotten return": body("y = x + 1"),
        "a changed input": body("x += 1\nreturn x"),
        "it exits": body("raise SystemExit(3)"),
        "random": body("return torch.rand(3) + x"),
        "gradients": body("return (x * torch.ones(3, requires_grad=True)).sum()"),
    }.items(),
    ids=lambda pair: pair[0],
)
def test_the_outcome_is_that_of_the_check_in_the_notebook(grader, code):
    """The same function, run here by what `check` uses."""
    reply = grader.run(job(code[1]))
    assert reply.state == "ok"
    name = "<cell 2>"
    linecache.cache[name] = (len(code[1]), None, code[1].splitlines(keepends=True), name)
    namespace = {"torch": torch}
    exec(compile(code[1], name, "exec"), namespace)
    for seed, outcome in zip((1, 2), reply.outcomes[0], strict=True):
        wanted = run(namespace["answer"], CASE, seed=seed)
        assert (outcome.failure, outcome.mutated) == (wanted.failure, wanted.mutated)
        assert values.same(wanted.value, outcome.value)


KINDS = {
    "None": "return None",
    "a bool": "return True",
    "a whole number": "return 3",
    "a huge number": "return 10**400",
    "a float": "return 0.1",
    "nan": "return float('nan')",
    "a text": "return 'text'",
    "a tuple": "return x, x + 1",
    "a list": "return [x, 1.5, None]",
    "a tensor without axes": "return x.sum()",
    "a half tensor": "return x.half()",
    "a complex tensor": "return torch.complex(x, x)",
    "a bool tensor": "return x > 2",
    "an empty tensor": "return x[:0]",
    "a transposed tensor": "return x.T",
    "a conjugated tensor": "return torch.complex(x, x).conj()",
    "an array": "import numpy\nreturn numpy.ones((2, 3), dtype='float32')",
    "a number of numpy": "import numpy\nreturn numpy.float64(3)",
    "a parameter": "return torch.nn.Parameter(x)",
    "a meta tensor": "return x.to('meta')",
    "a sparse tensor": "return x.to_sparse()",
    "a layer": "return torch.nn.Linear(2, 3)",
    "a model": "from course_lib import model as m\nreturn m.Transformer(m.ModelConfig(1, 2, 8, 4, 10, 6))",
    "a dict": "return {'a': x, 1: 2}",
    "a set": "return {1, 2}",
    "bytes": "return b'123'",
    "a function": "return len",
    "a generator": "return (one for one in x)",
    "torch's own tuple": "return x.max(dim=0)",
    "deep lists": "y = x\nfor _ in range(6): y = [y]\nreturn y",
    "unsigned": "return x.to(torch.uint16)",
    "ellipsis": "return ...",
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_result_of_any_kind_describes_itself_as_where_it_was(grader, kind):
    reply = grader.run(job(body(KINDS[kind])))
    assert reply.state == "ok", reply
    namespace = {"torch": torch}
    exec(body(KINDS[kind]), namespace)
    wanted, got = namespace["answer"](**CASE), reply.outcomes[0][0].value
    assert values.describe(got) == values.describe(wanted)
    for expected in (torch.zeros(2, 3), 1.5, (torch.zeros(2, 3), torch.zeros(2, 3))):
        assert values.mismatch(expected, got) == values.mismatch(expected, wanted)


@pytest.mark.parametrize("code", ["list(range(5000))", "x.to(torch.float8_e5m2)", "x.to_sparse_csr()", "3j"])
def test_what_cannot_be_sent_is_still_described(grader, code):
    got = grader.run(job(body(f"return {code}"))).outcomes[0][0].value
    assert type(got) is values.Opaque
    assert got.text == values.describe(eval(code, {"torch": torch, "x": CASE["x"]}))


IMPOSTORS = {
    "equal to all": "class E:\n    def __eq__(self, other): return True\nreturn E()",
    "a subclass": "class T(torch.Tensor): pass\nreturn x.as_subclass(T)",
    "a subclass that answers everything": (
        "class T(torch.Tensor):\n"
        "    @classmethod\n"
        "    def __torch_function__(cls, *args, **kwargs): return True\n"
        "return x.as_subclass(T)"
    ),
    "it says that it is a tensor": "class E:\n    __class__ = torch.Tensor\n    shape = x.shape\nreturn E()",
    "a list that is none": "class L(list):\n    def __iter__(self): return iter([x, x])\nreturn L()",
    "a number that is none": "class F(float):\n    def __sub__(self, other): return 0.0\nreturn F(1)",
    "an evil name": "class E: pass\nE.__name__ = '<script>' + chr(27) + 'x' * 9999\nreturn E()",
    "it cannot be asked": (
        "class M(type):\n    __name__ = property(lambda cls: 1 / 0)\nclass E(metaclass=M): pass\nreturn E()"
    ),
}


@pytest.mark.parametrize("kind", IMPOSTORS)
def test_an_impostor_is_equal_to_nothing(grader, kind):
    reply = grader.run(job(body(IMPOSTORS[kind])))
    got = reply.outcomes[0][0].value
    assert type(got) is values.Opaque and len(got.text) <= 500 and got.text.isprintable()
    for expected in (CASE["x"], 1.0, (CASE["x"], CASE["x"])):
        assert values.mismatch(expected, got)


HARMLESS = {
    "two threads": "torch.set_num_threads(2)\nbig = torch.rand(300, 300)\nfor _ in range(3): big = big @ big / 300\n",
    "threads of Python": "import threading\nt = threading.Thread(target=lambda: x + 1)\nt.start(); t.join()\n",
    "warnings": "import warnings, sys\nfor _ in range(99): warnings.warn('careful')\nsys.stderr.write('x' * 99999)\n",
    "prints": "print('x' * 9_999_999)\n",
    "input from nowhere": "import sys\nsys.stdin.read()\n",
    "late imports": "import statistics, wave, numpy, pandas, einops, torch.nn.functional, unittest, fractions\n",
    "no such package": "try:\n    import scipy\nexcept ImportError: pass\n",
    "silence": "import os, contextlib\nwith open(os.devnull, 'w') as f, contextlib.redirect_stdout(f): print(1)\n",
    "linear algebra": "torch.linalg.svd(torch.rand(9, 9)); torch.linalg.eigvals(torch.rand(9, 9)); torch.fft.fft(x)\n",
    "convolution": "torch.nn.functional.conv1d(torch.rand(1, 3, 50), torch.rand(3, 3, 3))\n",
    "autograd": "w = torch.ones(3, requires_grad=True); (x * w).sum().backward()\n",
    "a model": "from course_lib import model as m\nm.Transformer(m.ModelConfig())(torch.tensor([[1, 2]]))\n",
    "the lexicon": "from course_lib.fuzzy import load_lexicon\nload_lexicon()\n",
    "another dtype for all": "torch.set_default_dtype(torch.float64)\n",
}


def test_what_cells_draw_is_the_same_in_every_run(grader):
    draw = "import random, numpy\nDRAWN = [random.random(), float(numpy.random.rand()), torch.rand(1).item()]\n"
    reply = grader.run(job(draw + body("return DRAWN")))
    with standard_state():
        seed_everything(0)
        wanted = [random.random(), float(np.random.rand()), torch.rand(1).item()]
    assert reply.outcomes[0][0].value == wanted


@pytest.mark.parametrize("made", ["object()", "'a' * n", "1.5 * n"])
def test_a_place_in_memory_is_another_in_the_second_call(grader, made):
    reply = grader.run(job(body(f"return id({made})")))
    first, second = reply.outcomes[0]
    assert first.value != second.value


@pytest.mark.parametrize("code", HARMLESS)
def test_honest_code_gets_its_result(grader, code):
    reply = grader.run(job(body(HARMLESS[code] + "return x + 1"), seconds=10.0))
    assert reply.state == "ok"
    assert [outcome.failure for outcome in reply.outcomes[0]] == [None, None]
    assert torch.equal(reply.outcomes[0][1].value, CASE["x"] + 1)


def test_a_class_of_a_cell_may_be_a_dataclass(grader):
    code = (
        "from __future__ import annotations\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    a: Tensor\n"
    )
    assert grader.run(job(code + body("return P(x).a"))).state == "ok"


# What failing cells give


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("a = 1\nb = a / 0", "ZeroDivisionError: division by zero (line 2: b = a / 0)"),
        ("def answer(:", "SyntaxError: invalid syntax (line 1)"),
        ("raise SystemExit", "SystemExit:  (line 1: raise SystemExit)"),
        ("other = 1", "The cells define no function `answer`."),
        ("answer = [1, 2]", "`answer` is a list of 2 (an int, an int); wanted is a function."),
        ("raise ValueError(f'{object()}')", "ValueError: <object object at 0x...> (line 1"),
    ],
)
def test_a_cell_that_fails_is_an_error_with_its_line(grader, code, message):
    reply = grader.run(job(code))
    assert (reply.state, reply.outcomes) == ("error", ()) and reply.message.startswith(message)


# What hostile code gives: the state, and how long it may take beyond the limit of a call

ENDLESS = {
    "a loop": "while True: pass",
    "a loop that catches all": "while True:\n    try:\n        while True: pass\n    except BaseException: pass",
    "a loop in C": "import itertools\nall(itertools.repeat(1))",
    "a long product": "10 ** 10 ** 9",
    "blocked signals": "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\nwhile True: pass",
    "ignored signals": (
        "import signal\nfor n in range(1, 65):\n    try: signal.signal(n, signal.SIG_IGN)\n    except Exception: pass\n"
        "while True: pass"
    ),
    "asleep": "import time\ntime.sleep(1000)",
    "an endless lock": "import threading\na = threading.Lock()\na.acquire(); a.acquire()",
    "a flood of output": "import os\nwhile True: os.write(1, b'x' * 65536)",
    "threads that stay": (
        "import threading\nthreading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()\nwhile 1: pass"
    ),
    "a regular expression": "import re\nre.match('(a|a)*b', 'a' * 60)",
}
DEADLY = {
    "it exits": "import os\nos._exit(0)",
    "it dies": "import ctypes\nctypes.string_at(0)",
    "it aborts": "import os\nos.abort()",
    "it closes everything": "import os\nos.closerange(0, 999)",
    "garbage on every descriptor": (
        "import os\nfor fd in range(3, 99):\n    try: os.write(fd, b'garbage' * 999)\n    except OSError: pass"
    ),
    "a huge frame": (
        "import os\nfor fd in range(3, 99):\n    try: os.write(fd, b'\\xff' * 99)\n    except OSError: pass"
    ),
}
BOMBS = {
    "a long list": "return [0] * (1 << 28)",
    "tensors": "y = []\nwhile True: y.append(torch.empty(1 << 26))",
    "one huge tensor": "return torch.ones(1 << 34)",
}


def hostile(grader: Server, code: str, **options) -> str:
    """The state; and checks that the next job on the same server is all right."""
    started = monotonic()
    reply = grader.run(job(body(code), **options))
    assert monotonic() - started < SECONDS + 2 + 0.5  # the half second: the start, on a busy machine
    assert not any(pair[0].value is not None for pair in reply.outcomes)
    return reply.state


@pytest.mark.parametrize("code", ENDLESS)
def test_nothing_goes_on_beyond_its_limit(grader, code):
    assert hostile(grader, ENDLESS[code]) == "timeout"


@pytest.mark.parametrize("code", DEADLY)
def test_a_worker_that_dies_is_a_crash(grader, code):
    assert hostile(grader, DEADLY[code]) == "crashed"


@pytest.mark.parametrize("code", BOMBS)
def test_too_much_memory_is_said_to_be_that(grader, code):
    assert hostile(grader, BOMBS[code], memory=1 << 30, seconds=1.0) == "oom"


def test_endless_cells_are_stopped_too(grader):
    reply = grader.run(job("while True:\n    try:\n        while True: pass\n    except BaseException: pass"))
    assert (reply.state, reply.outcomes) == ("timeout", ()) and "cells" in reply.message


def test_a_slow_case_ends_the_job_and_keeps_what_was_finished(grader):
    cases = [CASE | {"n": n} for n in (1, 2, 3)]
    reply = grader.run(job(body("while n == 2: pass\nreturn x"), cases))
    assert reply.state == "timeout" and len(reply.outcomes) == 2
    assert torch.equal(reply.outcomes[0][1].value, CASE["x"])
    failure = reply.outcomes[1][0].failure
    assert (failure.limit, failure.line, failure.loop) == (SECONDS, "while n == 2: pass", "while")


# Several jobs in one worker


def together(grader, *codes: str) -> list:
    return list(grader.run_together([job(code) for code in codes]))


def test_jobs_in_one_worker_are_answered_in_their_order(grader):
    pid = "import os\n" + body("return os.getpid(), {}")
    replies = together(grader, pid.format("n"), pid.format("-n"), "1 / 0", pid.format("x"))
    assert [reply.state for reply in replies] == ["ok", "ok", "error", "ok"]
    pids, given = zip(*(reply.outcomes[0][0].value for reply in replies if reply.outcomes), strict=True)
    assert len(set(pids)) == 1 and given[:2] == (2, -2)
    assert torch.equal(given[2], CASE["x"])
    assert "ZeroDivisionError" in replies[2].message
    assert [reply.state for reply in together(grader, body("return x"))] == ["ok"]


def test_a_job_finds_no_name_of_the_one_before(grader):
    one, two = together(grader, "SIZE = 3\n" + body("return SIZE"), body("return SIZE"))
    assert one.outcomes[0][0].value == 3 and two.outcomes[0][0].failure.kind == "NameError"


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos._exit(0)",
        "import os\n" + body("os._exit(0)"),
        "while True: pass",
        body("while True: pass"),
        body("import time\ntry:\n    time.sleep(9)\nexcept BaseException:\n    time.sleep(9)"),
        "import gc, socket\nfor one in gc.get_objects():\n    if type(one) is socket.socket: one.close()",
        "import os\nos.closerange(3, 99)",
        "import sys\nsys.modules['course_lib.grader.worker'].json.loads = None",
    ],
)
def test_what_stops_the_worker_ends_the_row_of_jobs_in_time_and_leaves_nothing(grader, code):
    below, started = children(os.getpid()), monotonic()
    replies = together(grader, body("return x"), code, body("return n"), body("return n"))
    assert [reply.state for reply in replies[:1]] == ["ok"] and len(replies) <= 2
    assert monotonic() - started < 2.0 + SECONDS + conversation.GRACE + 2.0
    assert children(os.getpid()) == below and grader.run(job(body("return x"))).state == "ok"


def test_a_worker_that_listens_no_more_is_given_up(grader, monkeypatch):
    monkeypatch.setattr(conversation, "FORK_SECONDS", 2.0)
    deaf = body("return x").replace("return", "import threading, time; W.serve = W.work = None; return") + (
        "import course_lib.grader.worker as W, time\n"
        "from course_lib.grader.frames import Frames\nFrames.next = lambda *_: time.sleep(60)"
    )
    started = monotonic()
    replies = together(grader, deaf, body("return x") + "# " + "x" * 5_000_000)
    assert len(replies) == 1 and monotonic() - started < 2.0 + conversation.GRACE + 2.0


def test_who_looks_at_some_replies_only_leaves_no_worker_behind(grader):
    below = children(os.getpid())
    replies = grader.run_together([job(body("return x"))] * 9)
    assert next(replies).state == "ok"
    replies.close()
    assert children(os.getpid()) == below


def test_no_fork_server_no_reply(unprotected, monkeypatch):
    monkeypatch.setattr(server, "END_SECONDS", 0.5)
    stop = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n" + body("return x")
    assert len(together(unprotected, body("return x"), stop, body("return x"))) <= 3
    assert together(unprotected, body("return x"))[0].state == "ok"


FORGED = {  # a worker that speaks for itself, with the library that it finds
    "an answer": "finished(Outcome(3.0)), finished(Outcome(3.0))",
    "ready twice": "ready()",
    "an error after ready": "broken('the grader is broken')",
    "unknown names": "finished(Outcome(None, None, ('zzz', '<b>'))), finished(Outcome(None, None, ('zzz',)))",
}


@pytest.mark.parametrize("kind", FORGED)
def test_who_hijacks_the_channel_can_only_answer(grader, kind):
    code = (
        "import gc, os, socket\n"
        "from course_lib.grader.messages import Outcome, broken, finished, ready\n"
        "from course_lib.grader.frames import send_frame\n"
        "stream = next(one for one in gc.get_objects() if type(one) is socket.socket)\n"
        f"for message in ({FORGED[kind]},): send_frame(stream, message)\n"
        "os._exit(0)"
    )
    reply = grader.run(job(body(code)))
    if kind == "an answer":
        assert reply.state == "ok" and reply.outcomes[0][0].value == 3.0  # a wrong one, which judging will see
    elif kind == "unknown names":
        assert reply.outcomes[0][0].mutated == ()
    else:
        assert reply.state == "crashed" and "broken" not in reply.message


def test_a_forged_failure_is_made_of_plain_fields():
    fields = {"attempted": True, "kind": "E\x1b[31m", "message": "at 0x7f0011223344 " + "x" * 999, "line_number": 3}
    fields |= {"line": "", "limit": 1e9, "loop": "<b>"}
    note = messages.read_note(
        wire.encode({"kind": "outcome", "mutated": ["n", "x"], "failure": fields, "value": 1}), ["x", "n"], 5.0
    )
    failure = note.outcome.failure
    assert note.outcome.mutated == ("x", "n") and note.outcome.value is None
    assert (failure.limit, failure.loop, failure.kind) == (5.0, "", "E[31m")
    assert failure.message.startswith("at 0x... x") and len(failure.message) <= 500
    for change in ({"limit": "5"}, {"attempted": 1}, {"line_number": 2.5}, {"kind": None}, {"score": 5}):
        forged = {"kind": "outcome", "mutated": [], "failure": fields | change, "value": 1}
        with pytest.raises(wire.WireError):
            messages.read_note(wire.encode(forged), ["x"], 5.0)


# Nothing is left


def test_many_jobs_leave_no_process_no_file_and_no_memory_behind(grader):
    def used() -> tuple[set[int], int, int]:
        below = children(os.getpid())
        pages = [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in below]
        return below, len(os.listdir("/proc/self/fd")), max(pages) * os.sysconf("SC_PAGE_SIZE")

    codes = ["return x", "1 / 0", "import os\nos._exit(1)", "import threading\nreturn [x] * 99"]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda code: grader.run(job(body(code))), codes * 3))
        before = used()
        list(pool.map(lambda code: grader.run(job(body(code))), codes * 47))
        after = used()
    assert after[:2] == before[:2] and after[2] < before[2] + (2 << 20)


def test_a_dead_fork_server_is_replaced(grader):
    killed = grader._process._popen.pid
    below = children(killed)
    os.kill(killed, signal.SIGKILL)
    assert grader.run(job(body("return x"))).state == "ok"
    assert grader._process._popen.pid != killed
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in below):
        assert time.monotonic() < until, "what ran below the dead server still runs"
        time.sleep(0.05)


DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for _ in range(20):
            if os.fork() == 0: break
        time.sleep(60)
    os._exit(0)
time.sleep(0.1)
return x
"""


@pytest.fixture(scope="module")
def unprotected():
    """A worker may start processes and signal all others of the same user."""
    with Server("none") as running:
        yield running


def test_children_of_a_worker_die_with_it(unprotected):
    before = children(os.getpid())
    assert unprotected.run(job(body(DAEMON.strip()), seconds=5.0)).state == "ok"
    assert children(os.getpid()) == before


def test_a_worker_that_is_stopped_or_killed(unprotected):
    stop, kill = ("import os, signal\nos.kill(os.getpid(), signal.SIG" + name for name in ("STOP)", "KILL)"))
    assert hostile(unprotected, stop) == "timeout"
    assert hostile(unprotected, kill) == "oom"  # as when the kernel kills it


def test_a_stopped_fork_server_is_replaced(unprotected, monkeypatch):
    monkeypatch.setattr(server, "END_SECONDS", 0.5)
    reply = unprotected.run(job("import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n" + body("return x")))
    assert reply.state == "grader_error"
    assert unprotected.run(job(body("return x"))).state == "ok"


def test_a_worker_that_cannot_be_confined_is_our_own_fault():
    ours, theirs = socket.socketpair()
    with ours:
        only = job(body("return x"))
        talk = conversation.Conversation(only, conversation.Line(ours, [only]))
        send_frame(theirs, messages.broken("it never said that it was confined"))
        theirs.close()
        talk.hold()
        with pytest.raises(conversation.NoWorker, match="before its job began"):
            talk.reply(1, by_itself=True)


@pytest.fixture
def made(monkeypatch):
    """The layers of each process that is made from now on."""
    found, real = [], process.ServerProcess
    monkeypatch.setattr(process, "ServerProcess", lambda layers: found.append(layers) or real(layers))
    return found


def test_a_process_that_was_begun_is_that_of_the_next_server(made):
    with process.begun("limits"):
        for n_made in (1, 2):
            with Server("limits") as running:
                assert running.run(job(body("return x"))).state == "ok"
            assert made == [("limits",)] * n_made


def test_a_server_of_another_level_does_not_take_it(made):
    with process.begun("none"), Server("limits") as running:
        assert running.layers == ("limits",) and running.run(job(body("return x"))).state == "ok"
    assert sorted(made) == [(), ("limits",)]


def test_a_process_that_nobody_takes_ends_at_once():
    before, started = children(os.getpid()), monotonic()
    with process.begun("best"):
        pass
    assert children(os.getpid()) == before and monotonic() - started < 1.0


@pytest.mark.parametrize("how", ["it cannot be made", "it dies"])
def test_a_process_that_could_not_be_begun_is_made_anew(how, made, monkeypatch):
    real = process.ServerProcess

    def fail(layers):
        monkeypatch.setattr(process, "ServerProcess", real)
        if how == "it cannot be made":
            raise OSError("no more processes")
        dead = real(layers)
        dead._popen.kill()
        return dead

    monkeypatch.setattr(process, "ServerProcess", fail)
    with process.begun("limits"), Server("limits") as running:
        assert running.run(job(body("return x"))).state == "ok"


def test_to_begin_a_process_needs_no_torch():
    code = "import sys, course_lib.grader.process; print('torch' in sys.modules or 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_equal_outcomes_have_equal_digests_and_others_do_not(grader):
    same, other = job(body("return x + n")), job(body("return x + n + 1e-6"))
    alone, again, changed = (grader.run(one).digest for one in (same, job(body("return n + x")), other))
    first, second = grader.run_together([other, same])
    assert alone == again == second.digest != changed == first.digest
    slow = grader.run(job(body("while True: pass"), seconds=0.2))
    assert slow.state == "timeout" and slow.digest == b""


def test_jobs_of_several_threads_do_not_mix(grader):
    def one(number: int) -> bool:
        reply = grader.run(job(body(f"import time\ntime.sleep(0.02)\nreturn x + {number}")))
        return torch.equal(reply.outcomes[0][0].value, CASE["x"] + number)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(24)))
    assert threading.active_count() < 50


def test_the_grader_is_what_it_was_before():
    before = (
        os.getcwd(),
        dict(os.environ),
        signal.getsignal(signal.SIGALRM),
        Path("/proc/self/coredump_filter").exists(),
    )
    from course_lib.grader import kernel

    dumpable = kernel.prctl(kernel.PR_GET_DUMPABLE)
    with Server("limits") as running:
        assert kernel.prctl(kernel.PR_GET_DUMPABLE) == 0
        running.run(job(body("return x")))
    assert kernel.prctl(kernel.PR_GET_DUMPABLE) == dumpable
    assert before[:3] == (os.getcwd(), dict(os.environ), signal.getsignal(signal.SIGALRM))


@pytest.mark.parametrize("wrong", [{"isolation": "strong"}, {"parallel": 0}])
def test_wrong_arguments_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))), Server(**wrong):
        pass


def test_a_server_that_does_not_run_says_so():
    with pytest.raises(ValueError, match="with"):
        Server().run(job(body("return x")))


def test_numbers_of_numpy_keep_their_type(grader):
    got = grader.run(job(body("import numpy\nreturn numpy.float32(1.5), numpy.arange(3)[::2]"))).outcomes[0][0].value
    assert type(got[0]) is np.float32 and np.array_equal(got[1], [0, 2])
    sleep(0)
