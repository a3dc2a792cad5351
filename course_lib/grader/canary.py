"""Tries out isolation: a confined process does what is forbidden, and reports what it could do.

A layer holds when none of what it should stop could be done, with that layer alone, and when Python still works
under all layers together.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from course_lib.grader import isolation, landlock
from course_lib.grader.isolation import LEVELS, Confinement

MEMORY = 256 << 20
SECONDS = 20.0


def try_all(details: dict[str, Any]) -> dict[str, Any]:
    """What `isolation.probe` returns, for Linux."""
    alone = {layer: _try((layer,)) for layer in LEVELS[1:] if layer != "uid"}
    reasons = {layer: found["problem"] for layer, found in alone.items() if found["problem"]}
    if os.geteuid() != 0:
        reasons["uid"] = "only root can give each worker a user id of its own"
    left = tuple(layer for layer in LEVELS[1:] if layer not in reasons)
    if _try(left)["problem"]:
        reasons |= _one_more_at_a_time(left)
    filtered = any(found.get("filtered", False) for found in alone.values())
    details = details | {"landlock version": landlock.version(), "system calls filtered": filtered}
    return {**{layer: layer not in reasons for layer in LEVELS[1:]}, "reasons": reasons, "details": details}


def _one_more_at_a_time(layers: tuple[str, ...]) -> dict[str, str]:
    """What is wrong with those that do not hold beside the ones before them."""
    held: tuple[str, ...] = ()
    reasons: dict[str, str] = {}
    for layer in layers:
        if problem := _try((*held, layer))["problem"]:
            reasons[layer] = problem
        else:
            held = (*held, layer)
    return reasons


def _try(layers: tuple[str, ...]) -> dict[str, Any]:
    """Run a canary in these layers; the result's "problem" is empty where they hold."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as named,
    ):
        secret = Path(folder) / "secret"
        named.bind(f"{secret}.socket")
        os.chmod(f"{secret}.socket", 0o666)
        secret.write_text("secret")
        os.chmod(folder, 0o755)
        aims = {"secret": str(secret), "port": listener.getsockname()[1], "pid": os.getpid(), "uid": os.getuid()}
        program = f"import sys; sys.path.insert(0, {str(isolation.readable.PACKAGE.parent)!r}); {_MAIN}"
        command = [sys.executable, "-P", "-c", program, json.dumps(layers), json.dumps(aims)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
            return json.loads(done.stdout)
        except subprocess.TimeoutExpired:
            return {"problem": "the canary did not end"}
        except ValueError:
            return {"problem": f"the canary died: {done.stderr.strip()[-300:]}"}


_MAIN = "from course_lib.grader.canary import main; main()"


def main() -> None:
    """Run as a process of its own; the arguments are JSON: the layers, and what to attack."""
    layers, aims = tuple(json.loads(sys.argv[1])), json.loads(sys.argv[2])
    confinement = Confinement(layers)
    try:
        confinement.separate()
        confinement.enter()
        reader, writer = os.pipe()
        pid = confinement.fork()
    except OSError as error:
        print(json.dumps({"problem": str(error)}))
        return
    if pid == 0:
        _be_canary(confinement, writer, layers, aims)
    os.close(writer)
    with os.fdopen(reader) as report:
        text = report.read()
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    print(text or json.dumps({"problem": f"the canary ended with status {code}"}), flush=True)


def _be_canary(confinement: Confinement, writer: int, layers: tuple[str, ...], aims: dict[str, Any]) -> None:
    try:
        confinement.confine(0, MEMORY, 10, keep=writer)
        folder = os.path.dirname(aims["secret"])  # what it can write there goes with the folder
        tempfile.tempdir = folder if os.path.isdir(folder) else None
        aims = aims | {"filtered": confinement.filtered, "layers": layers}
        tries = [attempt for layer in layers for attempt in ATTEMPTS[layer]]
        done = [attempt.__name__[1:].replace("_", " ") for attempt in tries if _succeeds(attempt, aims)]
        lost = "" if _python_works() else "Python's own library cannot be read any more"
        problem = f"a canary could do this: {', '.join(done)}" if done else lost
        report = {"problem": problem, "filtered": confinement.filtered}
    except BaseException as error:
        report = {"problem": f"{type(error).__name__}: {error}"}
    os.write(writer, json.dumps(report).encode())
    os._exit(0)


def _succeeds(attempt: Callable[[dict[str, Any]], bool | None], aims: dict[str, Any]) -> bool:
    try:
        return attempt(aims) is not False
    except (OSError, MemoryError):
        return False


def _python_works() -> bool:
    """Import what was not imported before, from the standard library and from the packages."""
    try:
        import statistics
        import wave

        import einops

        from course_lib.grader import frames

        return bool(statistics.mean([1]) and wave and einops and frames)
    except (ImportError, OSError):
        return False


def _use_more_memory_than_allowed(_aims: dict[str, Any]) -> None:
    bytearray(2 * MEMORY)


def _write_a_large_file(_aims: dict[str, Any]) -> None:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with tempfile.TemporaryFile(buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 30)


def _start_a_process(aims: dict[str, Any]) -> bool | None:
    if not aims["filtered"]:
        return False  # the fork server kills what is left
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return None


def _open_a_socket(aims: dict[str, Any]) -> bool | None:
    if not aims["filtered"]:
        return False
    socket.socket().close()
    return None


def _send_a_datagram(aims: dict[str, Any]) -> bool | None:
    if not aims["filtered"]:
        return False
    with socket.socketpair(type=socket.SOCK_DGRAM)[0] as sender:
        sender.sendto(b"", f"{aims['secret']}.socket")
    return None


def _signal_the_grader(aims: dict[str, Any]) -> bool | None:
    if aims["layers"] == ("limits",) and not aims["filtered"]:
        return False
    if aims["layers"] == ("landlock",) and landlock.version() < landlock.FIRST_WITH_SCOPES:
        return False
    os.kill(aims["pid"], 0)
    return None


def _read_a_file_of_the_grader(aims: dict[str, Any]) -> None:
    Path(aims["secret"]).read_text()


def _change_a_file_of_the_grader(aims: dict[str, Any]) -> None:
    with open(aims["secret"], "r+"):
        pass


def _plant_a_file(aims: dict[str, Any]) -> None:
    Path(aims["secret"]).with_name("planted").touch()


def _connect_to_the_grader(aims: dict[str, Any]) -> bool | None:
    if aims["layers"] == ("landlock",) and landlock.version() < landlock.FIRST_WITH_TCP:
        return False
    socket.create_connection(("127.0.0.1", aims["port"]), timeout=1).close()
    return None


def _fill_the_memory_with_files(_aims: dict[str, Any]) -> None:
    for number in range(80):
        Path(tempfile.gettempdir(), f"{number}").write_bytes(bytes(1 << 20))


def _be_the_graders_user(aims: dict[str, Any]) -> bool:
    return os.getuid() == aims["uid"]


ATTEMPTS: dict[str, tuple[Callable[[dict[str, Any]], bool | None], ...]] = {
    "limits": (
        *(_use_more_memory_than_allowed, _write_a_large_file, _start_a_process, _open_a_socket),
        *(_send_a_datagram, _signal_the_grader),
    ),
    "landlock": (
        *(_read_a_file_of_the_grader, _change_a_file_of_the_grader, _plant_a_file),
        *(_connect_to_the_grader, _signal_the_grader),
    ),
    "namespaces": (
        *(_read_a_file_of_the_grader, _plant_a_file, _connect_to_the_grader, _signal_the_grader),
        _fill_the_memory_with_files,
    ),
    "uid": (_change_a_file_of_the_grader, _plant_a_file, _be_the_graders_user),
}
