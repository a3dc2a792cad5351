"""Which files a worker may read: Python, its packages and shared libraries, the course's code without solutions."""

from __future__ import annotations

import os
import site
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
HIDDEN = PACKAGE / "solutions"
DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_SYSTEM = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/zoneinfo"),
    *("/etc/ld.so.cache", "/etc/localtime", "/proc/cpuinfo", "/proc/meminfo", "/sys/devices/system/cpu"),
)


def readable() -> list[tuple[str, bool]]:
    """Paths that exist, without those inside others; a False stands for a folder that may only be listed."""
    wanted = {*_SYSTEM, *DEVICES, *_python(), str(PACKAGE)}
    wanted |= {os.path.realpath(path) for path in wanted}
    found: list[tuple[str, bool]] = []
    for path in sorted(path for path in wanted if os.path.exists(path)):
        if not any(whole and path.startswith(above + "/") for above, whole in found):
            found += _without(path, str(HIDDEN))
    return found


def _python() -> Iterator[str]:
    yield from (sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))
    yield from site.getsitepackages()
    if site.ENABLE_USER_SITE:
        yield site.getusersitepackages()
    yield from (str(Path(prefix) / "lib") for prefix in (sys.prefix, sys.base_prefix))


def _without(path: str, hidden: str) -> list[tuple[str, bool]]:
    """The path, or the parts of it that are not hidden; also where a link leads from it to what is hidden."""
    real = os.path.realpath(path)
    if real == hidden:
        return []
    if not (os.path.exists(hidden) and hidden.startswith(f"{real}/")):
        return [(path, True)]
    inside = (os.path.join(path, name) for name in sorted(os.listdir(path)))
    return [(path, False), *(part for one in inside if not _leads(one, hidden) for part in _without(one, hidden))]


def _leads(path: str, hidden: str) -> bool:
    """True for a link to a folder that holds what is hidden: it may lead in a circle, and nobody needs it."""
    return os.path.islink(path) and hidden.startswith(f"{os.path.realpath(path).rstrip('/')}/")
