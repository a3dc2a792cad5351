"""The ground on which a corpus is graded: folders, listeners, a fence of processes, and what is found afterwards."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.hostile import CORPUS, Entry, Scene, write_corpus
from tests.hostile.entry import COMPANION, accompany

ROOT = Path(__file__).resolve().parents[2]
LIMITS = {"setup_seconds": 1.5, "memory": 1 << 30}  # of the cells, of a worker; a call has that of its exercise
EXERCISES = ("0.1", "3.1", "3.3", "4.2", "12.3")
FENCE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", '"$@"; exit $?', "sh")


@dataclass
class Listener:
    """Listens on TCP, UDP and an abstract Unix socket; remembers what it heard."""

    name: str
    heard: list[str] = field(default_factory=list)

    def __enter__(self) -> Listener:
        self._tcp = socket.create_server(("127.0.0.1", 0))
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind(("127.0.0.1", 0))
        self._unix = socket.socket(socket.AF_UNIX)
        self._unix.bind(f"\0{self.name}")
        self._unix.listen()
        self.tcp, self.udp = self._tcp.getsockname()[1], self._udp.getsockname()[1]
        for stream in (self._tcp, self._unix):
            threading.Thread(target=self._accept, args=(stream,), daemon=True).start()
        threading.Thread(target=self._receive, daemon=True).start()
        return self

    def _accept(self, stream: socket.socket) -> None:
        while True:
            try:
                connection, _ = stream.accept()
            except OSError:
                return
            self.heard.append(f"{stream.family.name} connection")
            connection.close()

    def _receive(self) -> None:
        while True:
            try:
                data, sender = self._udp.recvfrom(1024)
            except OSError:
                return
            if sender is None:  # shut down
                return
            self.heard.append(f"datagram {data!r}")

    def __exit__(self, *error: object) -> None:
        for stream in (self._tcp, self._udp, self._unix):
            with suppress(OSError):
                stream.shutdown(socket.SHUT_RDWR)  # wakes the thread that waits
            stream.close()


def can_fence() -> bool:
    """True where the test can put the grader into a table of processes of its own."""
    try:
        return subprocess.run([*FENCE, "true"], capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


@dataclass
class Graded:
    """A graded corpus: its rows, what the driver told, and what lies around."""

    scene: Scene
    entries: dict[str, Entry]
    facts: dict
    rows: list[dict]
    results: bytes
    output: str
    heard: list[str]
    planted: list[str]

    def rows_of(self, entry: Entry) -> list[dict]:
        """The rows of one file: one, or the members of a zip."""
        name = os.fsencode(entry.file).decode("utf-8", "backslashreplace")  # a row is text, a file's name need not be
        inside = (f"{name}!", f"{name}/")
        return [row for row in self.rows if row["submission"] == name or row["submission"].startswith(inside)]


def places_to_search(scene: Scene) -> list[Path]:
    """Where an attack might have left a file."""
    package = scene.root / "course_lib"
    system = [Path(name) for name in ("/tmp", "/var/tmp", "/dev/shm", "/etc", "/etc/cron.d", "/run", "/")]
    inside = [scene.root, package, package / "__pycache__", scene.root / "solutions", scene.root / ".git" / "hooks"]
    return [*system, *inside, scene.site, scene.home, scene.marks, scene.results, scene.submissions]


def planted(scene: Scene, written: Sequence[str]) -> list[str]:
    """Files whose names hold the scene's token, outside of what the test wrote."""
    found = []
    for folder in places_to_search(scene):
        names = os.listdir(folder) if os.access(folder, os.R_OK | os.X_OK) and folder.is_dir() else []
        found += [str(folder / name) for name in names if scene.token in name and name not in written]
    return found + [str(path) for path in scene.marks.rglob("*")]


@contextmanager
def scene_in(folder: Path) -> Iterator[tuple[Scene, Listener]]:
    """A scene in this folder, with listeners."""
    token = f"tok{secrets.token_hex(6)}"
    with Listener(f"listens_{secrets.token_hex(4)}") as listener:
        scene = Scene(
            ROOT,
            Path(sysconfig.get_path("purelib")),
            *(folder / name for name in ("submissions", "results", "marks", "secret.txt")),
            Path.home(),
            token,
            listener.tcp,
            listener.udp,
            listener.name,
        )
        scene.marks.mkdir(parents=True)
        scene.marks.chmod(0o777)
        scene.secret.write_text(f"the secret is {token}")
        scene.secret.chmod(0o666)
        yield scene, listener


def grade_corpus(
    folder: Path,
    entries: Sequence[Entry] = CORPUS,
    parallel: int = 6,
    before: Sequence[str] = (),
    runs: int = 1,
    owner: int | None = None,
    level: str = "best",
    company: bool = False,
) -> Graded:
    """Write these entries, grade them in a fenced process, and collect what came of it.

    Args:
        folder: empty.
        entries: those that are wild are left out where there is no fence.
        parallel: many, since most of the time is spent waiting for loops.
        before: a command in front of the driver, which changes the user.
        runs: how often the same folder is graded, each time into another folder.
        owner: the user who grades, if not the one who calls.
        level: of isolation.
        company: each notebook with an attack also holds the right answer to another exercise.
    """
    fenced = can_fence()
    entries = tuple(entry for entry in entries if fenced or not entry.wild)
    folder.mkdir(exist_ok=True)
    with scene_in(folder) as (scene, listener):
        written = write_corpus(scene, entries)
        for entry in written.values() if company else ():
            if not entry.row:
                accompany(scene.submissions / entry.file)
        place = folder / "settings.json"
        paths = {"submissions": str(scene.submissions), "results": str(scene.results)}
        exercises = (*EXERCISES, COMPANION) if company else EXERCISES
        more = {"exercises": exercises, "parallel": parallel, "fenced": fenced, "runs": runs, "level": level}
        place.write_text(json.dumps(LIMITS | paths | more))
        if owner is not None:
            os.chown(folder, owner, -1)
        command = [*(FENCE if fenced else ()), *before, sys.executable, "-m", "tests.hostile.driver", str(place)]
        secret = {"GRADER_TEST_SECRET": "in the grader's environment", "COURSE_STATIC": "1", "PYTHONPATH": str(ROOT)}
        secret["PYTHONMALLOC"] = "malloc"  # whose free memory can be given back before it is measured
        done = subprocess.run(command, cwd=ROOT, env=os.environ | secret, capture_output=True, timeout=600)
        output = (done.stdout + done.stderr).decode(errors="replace")
        if done.returncode:
            raise RuntimeError(f"the grader ended with {done.returncode}: {output[-3000:]}")
        left = planted(scene, list(written))
    results = (scene.results / "results.jsonl").read_bytes()
    rows = [json.loads(line) for line in results.decode().splitlines()]
    facts = json.loads((folder / "facts.json").read_text())
    return Graded(scene, written, facts, rows, results, output, list(listener.heard), left)
