"""What a worker cannot do, layer by layer; each machine tests the layers that it has."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from course_lib.grader import isolation, readable, wire
from course_lib.grader.isolation import LEVELS
from course_lib.grader.server import Job, Server
from course_lib.grading import load

if sys.platform != "linux":
    pytest.skip("grading needs Linux", allow_module_level=True)

from course_lib.grader import canary, seccomp

ROOT = Path(__file__).resolve().parent.parent
CASE = wire.encode({"x": torch.ones(2)})
FOUND = isolation.probe()
HELD = [layer for layer in LEVELS[1:] if FOUND[layer]]


def attempt(running: Server, code: str) -> object:
    """What an expression or a block that sets `y` gives in a worker: its value, or the name of the exception."""
    cell = f"def answer(x):\n    import os, socket, signal, ctypes, pathlib\n    {code}\n    return y\n"
    reply = running.run(Job((cell,), "answer", (CASE,), seconds=5.0))
    assert reply.state == "ok", reply
    outcome = reply.outcomes[0][0]
    return outcome.failure.kind if outcome.failure else outcome.value


@pytest.fixture(scope="module", params=["limits", "landlock", "namespaces", "best"])
def running(request):
    if request.param not in (*HELD, "best"):
        pytest.skip(f"this machine has no {request.param}: {FOUND['reasons'].get(request.param)}")
    with Server(request.param) as server:
        yield server


def test_the_probe_is_plain_and_says_why_not():
    assert json.loads(json.dumps(FOUND)) == FOUND
    assert set(FOUND["reasons"]) == {layer for layer in LEVELS[1:] if not FOUND[layer]}
    assert FOUND["limits"] is True
    assert FOUND["details"]["system calls filtered"] == (platform.machine() in ("x86_64", "aarch64"))


@pytest.mark.parametrize("layer", LEVELS[1:])
def test_a_layer_that_does_not_hold_is_found_out(layer, monkeypatch):
    """The canary runs without the layer and does what the layer should stop."""
    monkeypatch.setattr(canary, "_MAIN", f"{_WEAKEN}; weaken(canary, {layer!r}); canary.main()")
    problem = canary._try((layer,))["problem"]
    assert problem.startswith("a canary could do this") or (layer == "uid" and os.geteuid() != 0)


@pytest.mark.parametrize(
    ("bad", "missing"),
    {
        "all hold": ([], []),
        "one by itself": ([("landlock",)], ["landlock"]),
        "two that hold, but not together": ([("limits", "namespaces")], ["namespaces"]),
        "the last": ([("limits", "uid")], ["uid"]),
        "none": ([("limits",), ("landlock",), ("namespaces",), ("uid",)], ["limits", "landlock", "namespaces", "uid"]),
    }.values(),
)
def test_the_probe_names_the_layers_that_do_not_hold(bad, missing, monkeypatch):
    """A layer is missing where it does not hold by itself, or not beside those before it."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        canary, "_try", lambda layers: {"problem": "bad" if any(set(one) <= set(layers) for one in bad) else ""}
    )
    found = canary.try_all({})
    assert [layer for layer in LEVELS[1:] if not found[layer]] == missing
    assert found["reasons"] == dict.fromkeys(missing, "bad")


def test_without_root_there_are_no_user_ids(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    tried: list[tuple[str, ...]] = []
    monkeypatch.setattr(canary, "_try", lambda layers: tried.append(layers) or {"problem": ""})
    assert "only root" in canary.try_all({})["reasons"]["uid"]
    assert tried[-1] == ("limits", "landlock", "namespaces")


def test_the_probe_leaves_no_file(tmp_path):
    code = "from course_lib.grader import isolation; print(isolation.probe()['limits'])"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.stdout.strip() == "True", done.stderr
    assert list(tmp_path.iterdir()) == []


_WEAKEN = (
    "from course_lib.grader import canary, isolation; "
    "exec('''def weaken(canary, layer):\n"
    "    class Weak(canary.Confinement):\n"
    "        def __init__(self, layers): super().__init__(())\n"
    "    canary.Confinement = Weak''')"
)


def test_a_level_is_what_it_says():
    assert isolation.layers_of("none") == ()
    assert isolation.layers_of("best") == tuple(HELD)
    assert isolation.layers_of("limits") == ("limits",)
    with pytest.raises(ValueError, match="'best' or one of none, limits"):
        isolation.layers_of("strong")


# What no worker can do at any level but "none"


@pytest.mark.skipif(not FOUND["details"]["system calls filtered"], reason="system calls are not filtered here")
@pytest.mark.parametrize(
    "code",
    {
        "fork": "y = os.fork()",
        "a program": "y = os.system('true') == 0 or 1 / 0",
        "posix_spawn": "y = os.posix_spawn('/bin/true', ['true'], {})",
        "a socket": "y = socket.socket()",
        "a unix socket": "y = socket.socket(socket.AF_UNIX)",
        "a datagram": "y = socket.socketpair(type=socket.SOCK_DGRAM)",
        "a row of packets": "y = socket.socketpair(type=socket.SOCK_SEQPACKET)",
        "signal the parent": "y = os.kill(os.getppid(), 0) or 1 / (os.getppid() > 0)",
        "signal all": "y = os.kill(-1, 0)",
        "stop the group": "y = os.killpg(1, signal.SIGSTOP)",
        "limit another": "import resource; y = resource.prlimit(os.getppid() or 2, resource.RLIMIT_CPU, (1, 1))",
        "memory files": "y = os.memfd_create('x')",
        "remove": "y = os.unlink('/nothing')" if "namespaces" not in HELD else "y = os.unlink('/usr/lib')",
        "mount": "y = ctypes.CDLL(None).mount(b'x', b'/', b'tmpfs', 0, None) + 1 or 1 / 0",
        "trace": "y = ctypes.CDLL(None).ptrace(16, 1, 0, 0) + 1 or 1 / 0",
        "become root": "y = os.setuid(0) or 1 / os.getuid()",
    }.items(),
    ids=lambda pair: pair[0],
)
def test_no_worker_can(running, code):
    assert attempt(running, code[1]) in ("PermissionError", "ZeroDivisionError", "OSError", "ProcessLookupError")


def test_a_worker_has_nothing_that_it_does_not_need(running):
    assert attempt(running, "y = sorted(os.environ)") == sorted(
        [
            "PATH",
            "LANG",
            "HOME",
            "USER",
            "PYTHONHASHSEED",
            "PYTHONDONTWRITEBYTECODE",
            "OMP_NUM_THREADS",
            "MKL_NUM_THREADS",
        ]
        + ["COURSE_STATIC", "GLIBC_TUNABLES", "PYTHONMALLOC", "TORCHDYNAMO_DISABLE", "TORCHINDUCTOR_CACHE_DIR"]
        + (["TMPDIR"] if "namespaces" in running.layers else [])
    )
    count = "y = sum(1 for fd in range(4096) if not ctypes.CDLL(None).fcntl(fd, 1) == -1)"
    assert attempt(running, count) == 4  # the standard three, and the stream to the grader
    assert attempt(running, "y = os.read(0, 1)") != b"x"
    assert attempt(running, "import resource; y = list(resource.getrlimit(resource.RLIMIT_CORE))") == [0, 0]


def test_a_worker_sees_nothing_of_the_specifications(running):
    imports = "import gc; from course_lib.grading.spec import Exercise"
    code = f"{imports}; y = sum(isinstance(one, Exercise) for one in gc.get_objects())"
    assert attempt(running, code) == 0


# Files


def test_solutions_and_files_of_others_cannot_be_read(running, tmp_path):
    if not set(running.layers) & {"landlock", "namespaces"}:
        pytest.skip("limits alone hide no files")
    secret = tmp_path / "results.jsonl"
    secret.write_text("secret")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        os.chmod(folder, 0o755)
    paths = [secret, tmp_path, load.source_folder(), next(load.source_folder().glob("*.md")), Path(__file__), ROOT]
    paths += [
        Path("/etc/passwd"),
        Path(f"/proc/{os.getpid()}/mem"),
        Path(f"/proc/{os.getpid()}/environ"),
        Path("/root"),
    ]
    for path in paths:
        got = attempt(
            running, f"y = os.listdir({str(path)!r}) if os.path.isdir({str(path)!r}) else open({str(path)!r}).read()"
        )
        assert got in ("PermissionError", "FileNotFoundError", "OSError"), path
    code = "from course_lib.grading.load import find; y = find('1.1').reference"
    assert attempt(running, code) in ("PermissionError", "FileNotFoundError", "ValueError")


def test_files_of_others_cannot_be_changed(running, tmp_path):
    if not set(running.layers) & {"landlock", "namespaces"}:
        pytest.skip("limits alone protect no files")
    target = tmp_path / "results.jsonl"
    target.write_text("right")
    target.chmod(0o666)
    for code in (
        "open(p, 'w').write('wrong')",
        "os.remove(p)",
        "os.rename(p, p + '2')",
        "os.truncate(p, 0)",
        "os.chmod(p, 0)",
    ):
        assert attempt(running, f"p = {str(target)!r}; y = {code}") in (
            "PermissionError",
            "FileNotFoundError",
            "OSError",
        )
    assert attempt(running, f"y = open({str(readable.PACKAGE / 'planted.py')!r}, 'w')") in (
        "PermissionError",
        "OSError",
    )
    assert target.read_text() == "right" and [path.name for path in tmp_path.iterdir()] == ["results.jsonl"]


def test_own_files_are_few_small_and_gone_with_the_worker(running, tmp_path):
    write = "import tempfile; f = tempfile.NamedTemporaryFile(delete=False); f.write(b'1' * {}); f.flush(); y = f.name"
    if "namespaces" not in running.layers:
        here = f"import tempfile; tempfile.tempdir = {str(tmp_path)!r}; "  # the limits alone let it make empty files
        assert attempt(running, here + write.format(10)) in ("PermissionError", "OSError")
        return
    path = attempt(running, write.format(10))
    assert path.startswith("/scratch/") and not os.path.exists(path)
    assert attempt(running, "y = os.listdir('/scratch')") == []  # also where the one before left something
    assert attempt(running, write.format(65 << 20)) == "OSError"
    assert attempt(running, "for n in range(9999): open(f'/scratch/{n}', 'w').close()\n    y = 1") == "OSError"


def test_pools_of_threads_and_their_locks_work_where_a_worker_has_files_of_its_own(running):
    if "namespaces" not in running.layers:
        pytest.skip("the locks of `multiprocessing` are files")
    pool = "from multiprocessing.pool import ThreadPool\n    with ThreadPool(2) as pool: y = pool.map(abs, [-1, 2])"
    assert attempt(running, pool) == [1, 2]
    assert attempt(running, "y = os.listdir('/dev/shm')") == []


def test_a_compiled_function_stays_as_it_is(running):
    assert attempt(running, "import torch; y = torch.compile(lambda: 3)()") == 3


def test_a_worker_has_the_same_name_in_every_run(running):
    assert attempt(running, "import getpass; y = getpass.getuser()") == "learner"


# Everything together, for an ordinary user


def reachable_python() -> list[str]:
    """A command prefix under which an ordinary user can run this Python: a folder of root's may hide it."""
    closed = [folder for folder in Path(os.path.realpath(sys.base_prefix)).parents if not os.stat(folder).st_mode & 1]
    drop = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    if not closed:
        return drop
    hidden, base = str(closed[-1]), os.path.realpath(sys.base_prefix)
    script = (
        f"mount --bind {base} /mnt && mount -t tmpfs -o mode=755 none {hidden} && mkdir -p {base} "
        f'&& mount --move /mnt {base} && exec "$@"'
    )
    return ["unshare", "-m", "sh", "-c", script, "sh", *drop]


ORDINARY = """
import json, os, sys, torch
from course_lib.grader import isolation, wire
from course_lib.grader.server import Job, Server
if __name__ == "__main__":
    found = isolation.probe()
    case = wire.encode({"x": torch.ones(2)})
    with Server("best") as server:
        code = "import statistics\\ndef answer(x): return x + 1"
        reply = server.run(Job((code,), "answer", (case,), 5.0))
        fork = server.run(Job(("import os\\ndef answer(x): return os.fork()",), "answer", (case,), 5.0))
    value = reply.outcomes[0][0].value.tolist() if reply.outcomes else reply.message
    report = {"uid": os.getuid(), "probe": found, "layers": server.layers, "value": value}
    print(json.dumps(report | {"fork": fork.outcomes[0][0].failure.kind}))
"""


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become somebody else")
def test_an_ordinary_user_gets_what_the_kernel_gives_him(tmp_path):
    script = tmp_path / "ordinary.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{ORDINARY}")
    for folder in (script, *tmp_path.parents[:-2], tmp_path):
        os.chmod(folder, 0o755)
    command = [*reachable_python(), sys.executable, str(script)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=100, cwd="/", env={"PATH": os.environ["PATH"]}
    )
    if done.returncode and "ordinary.py" not in done.stderr:
        pytest.skip(f"this machine lets nobody else run its Python: {done.stderr[-200:]}")
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["uid"] == 65534
    assert report["value"] == [2.0, 2.0] and report["fork"] == "PermissionError"
    assert set(report["layers"]) == set(HELD) - {"uid"}
    assert "root" in report["probe"]["reasons"]["uid"]


# Details


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_stays_in_it(machine):
    program = seccomp.make_program(machine, 7, files=False)
    steps = [
        (int.from_bytes(program[at : at + 2], sys.byteorder), program[at + 2], program[at + 3])
        for at in range(0, len(program), 8)
    ]
    assert len(program) % 8 == 0 and len(steps) < 4096
    jumps = [(number, step) for number, step in enumerate(steps) if step[0] & 7 == 5]
    assert jumps and all(number + 1 + max(step[1:]) < len(steps) for number, step in jumps)


@pytest.mark.parametrize("files", [True, False])
@pytest.mark.parametrize(("machine", "column", "architecture"), [("x86_64", 0, 0xC000003E), ("aarch64", 1, 0xC00000B7)])
def test_the_filter_refuses_the_listed_calls_and_no_others(machine, column, architecture, files):
    lists = [seccomp._PROCESSES, seccomp._NETWORK, seccomp._SHARED_MEMORY, seccomp._MACHINE]
    lists += [] if files else [seccomp._FILES]
    refused = {numbers[column] for calls in lists for numbers in calls.values()} | {seccomp._CLONE3[column]}
    by_argument = {seccomp._CLONE[column], seccomp._TGKILL[column], seccomp._PRLIMIT[column]}
    by_argument |= {seccomp._SET_AFFINITY[column], seccomp._PRCTL[column], seccomp._SOCKETPAIR[column]}
    program = seccomp.make_program(machine, 7, files)
    for call in set(range(seccomp._LAST_KNOWN + 40)) - by_argument:
        allowed = filtered(program, {0: call, 4: architecture, 16: 0}) == 0x7FFF0000
        assert allowed == (call not in refused and call <= seccomp._LAST_KNOWN), call
    kinds = [socket.SOCK_STREAM, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, socket.SOCK_DGRAM, socket.SOCK_RAW]
    pairs = [filtered(program, {0: seccomp._SOCKETPAIR[column], 4: architecture, 24: kind}) for kind in kinds]
    assert pairs == [0x7FFF0000, 0x7FFF0000, *2 * [0x50000 | errno.EPERM]]
    signals = [filtered(program, {0: seccomp._TGKILL[column], 4: architecture, 16: pid}) for pid in (6, 7)]
    assert signals == [0x50000 | errno.EPERM, 0x7FFF0000]
    assert filtered(program, {0: 1, 4: architecture ^ 1}) == 0x80000000


def filtered(program, data):
    """What the kernel returns for a call, by a slow reading of the program; `data` are the words that it may load."""
    place, loaded = 0, 0
    while True:
        code, true, false, value = struct.unpack_from("HBBI", program, 8 * place)
        place += 1
        if code == 0x06:
            return value
        if code == 0x20:
            loaded = data[value]
        elif code == 0x05:
            place += value
        else:
            holds = {0x15: loaded == value, 0x25: loaded > value, 0x35: loaded >= value, 0x45: bool(loaded & value)}[
                code
            ]
            place += true if holds else false


def test_an_unknown_processor_is_no_reason_to_crash():
    with pytest.raises(OSError, match="not known on vax"):
        seccomp.make_program("vax", 7, files=True)


def test_what_may_be_read_leaves_out_the_solutions(tmp_path, monkeypatch):
    """Also where the course is installed among other packages."""
    package = tmp_path / "site-packages" / "course_lib"
    for name in ("site-packages/torch", "site-packages/course_lib/grading", "site-packages/course_lib/solutions"):
        (tmp_path / name).mkdir(parents=True)
    monkeypatch.setattr(readable, "PACKAGE", package)
    monkeypatch.setattr(readable, "HIDDEN", package / "solutions")
    monkeypatch.setattr(readable, "_python", lambda: iter([str(tmp_path / "site-packages")]))
    whole = {path for path, whole in readable.readable() if whole}
    assert {str(package / "grading"), str(tmp_path / "site-packages" / "torch")} <= whole
    assert not any(str(package / "solutions").startswith(path) for path in whole)


def test_a_link_is_no_way_to_the_solutions(tmp_path, monkeypatch):
    """A virtual environment that is reached through a link, with others in it that lead in a circle."""
    packages = tmp_path / "real" / "site-packages"
    for name in ("torch", "course_lib/grading", "course_lib/solutions"):
        (packages / name).mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    (packages / "up").symlink_to("..")
    (packages / "mine").symlink_to("course_lib/solutions")
    monkeypatch.setattr(readable, "PACKAGE", packages / "course_lib")
    monkeypatch.setattr(readable, "HIDDEN", packages / "course_lib" / "solutions")
    monkeypatch.setattr(readable, "_python", lambda: iter([str(tmp_path / "link" / "site-packages")]))
    whole = {path for path, whole in readable.readable() if whole}
    assert {str(tmp_path / "link/site-packages/torch"), str(packages / "course_lib/grading")} <= whole
    hidden = os.path.realpath(packages / "course_lib" / "solutions")
    assert not any(f"{hidden}/".startswith(f"{os.path.realpath(path)}/") for path in whole)


def test_two_workers_have_two_users():
    if "uid" not in HELD:
        pytest.skip(FOUND["reasons"]["uid"])
    from concurrent.futures import ThreadPoolExecutor

    code = "import time; time.sleep(0.3); y = [os.getuid(), os.getgid(), os.getpid()]"
    with Server("best", parallel=2) as server, ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: attempt(server, code), range(2))
    assert first[0] != second[0] and first[0] >= isolation.FIRST_UID and first[:1] == first[1:2]
    assert first[2] == second[2] == 1  # each is the first process of its own world


def test_a_port_of_this_machine_is_out_of_reach(running):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        got = attempt(running, f"y = socket.create_connection(('127.0.0.1', {port}), 1)")
    assert got in ("PermissionError", "OSError", "ConnectionRefusedError")
