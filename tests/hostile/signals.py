"""Code that reaches for other processes, or stays behind."""

from tests.hostile.entry import STOPPED, Entry, body, gain

SHUT = frozenset({"namespaces", "uid", "landlock"})


def hit(name: str, why: str, target: str, number: str, **more: object) -> Entry:
    """Signals somebody and answers wrong."""
    lines = f"import os, signal\ntry: {target.format(number='signal.' + number)}\nexcept OSError: pass\nreturn right(pattern) - 1"
    return body(f"signal_{name}", why, lines, STOPPED, wild=True, **more)


DAEMON = """
import os, time
if os.fork() == 0:
    {escape}
    if os.fork() == 0:
        {inside}
        time.sleep(1.0)
        try: open('@MARKS@/@TOKEN@_{name}', 'w').close()
        finally:
            time.sleep(120); os._exit(0)
    os._exit(0)
os.wait()
return right(pattern) - 1
"""


def daemon(name: str, why: str, escape: str = "os.setsid()", inside: str = "pass") -> Entry:
    """Leaves a process behind that writes a file later."""
    return body(f"daemon_{name}", why, DAEMON.format(escape=escape, inside=inside, name=name), STOPPED)


ENTRIES = [
    hit("kill_parent", "kills its parent", "os.kill(os.getppid(), {number})", "SIGKILL"),
    hit("term_parent", "ends its parent", "os.kill(os.getppid(), {number})", "SIGTERM"),
    hit("stop_parent", "stops its parent", "os.kill(os.getppid(), {number})", "SIGSTOP"),
    hit("interrupt_parent", "interrupts its parent", "os.kill(os.getppid(), {number})", "SIGINT"),
    hit("alarm_parent", "rings its parent's alarm", "os.kill(os.getppid(), {number})", "SIGALRM"),
    hit("group", "kills its process group", "os.killpg(0, {number})", "SIGKILL"),
    hit(
        "group_of_parent",
        "kills its parent's process group",
        "os.killpg(os.getpgid(os.getppid()), {number})",
        "SIGKILL",
    ),
    hit("all", "kills every process that it may", "os.kill(-1, {number})", "SIGKILL"),
    hit("stop_all", "stops every process that it may", "os.kill(-1, {number})", "SIGSTOP"),
    hit("interrupt_all", "interrupts every process that it may", "os.kill(-1, {number})", "SIGINT"),
    hit(
        "child_noise",
        "sends its parent signals of dead children",
        "[os.kill(os.getppid(), {number}) for _ in range(1000)]",
        "SIGCHLD",
    ),
    hit(
        "around",
        "kills the processes numbered around its own",
        "[os.kill(os.getpid() + n, {number}) for n in (*range(-60, 0), *range(1, 60)) if os.path.exists(f'/proc/{{os.getpid() + n}}')]",
        "SIGKILL",
    ),
    hit(
        "ancestors",
        "kills every ancestor that /proc names",
        'exec(\'pid = os.getppid()\\nwhile pid > 1:\\n  up = int(open(f"/proc/{{pid}}/stat").read().rsplit(")")[-1].split()[1]); os.kill(pid, {number}); pid = up\')',
        "SIGKILL",
    ),
    hit(
        "pidfd",
        "kills its parent through a descriptor",
        "signal.pidfd_send_signal(os.pidfd_open(os.getppid()), {number})",
        "SIGKILL",
    ),
    hit("sigqueue", "sends a real-time signal to everybody", "os.kill(-1, {number})", "SIGRTMIN"),
    body(
        "signal_owner",
        "asks the kernel to signal the parent for its channel",
        """
        import fcntl, os, signal
        for fd in range(3, 64):
            try: fcntl.fcntl(fd, fcntl.F_SETOWN, os.getppid()); fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC); fcntl.fcntl(fd, 10, 9)
            except OSError: pass
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "signal_priority",
        "takes all of the processor's time",
        """
        import os
        try: os.nice(-20); os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
        except (OSError, PermissionError): pass
        while True: pass
        """,
        frozenset({"timeout", "error", "crashed"}),
    ),
    body(
        "signal_affinity",
        "moves its parent to one processor and slows it down",
        """
        import os
        try: os.sched_setaffinity(os.getppid(), {0}); os.setpriority(os.PRIO_PROCESS, os.getppid(), 19)
        except OSError: pass
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    gain(
        "signal_limit_parent",
        "takes descriptors and memory from its parent by prlimit",
        """
        import os, resource
        parent = os.getppid()  # 0 in a namespace of its own, where prlimit would take it for this process
        return parent > 0 and resource.prlimit(parent, resource.RLIMIT_NOFILE, (8, 8)) is not None
        """,
        wild=True,
        needs=SHUT,
    ),
    daemon("session", "a process in a session of its own"),
    daemon("group", "a process in a group of its own", "os.setpgid(0, 0)"),
    daemon("closed", "a process that closes the channel", inside="os.closerange(0, 256)"),
    daemon("open", "a process that keeps the channel open", inside="pass"),
    daemon(
        "renamed",
        "a process that hides its name",
        inside="import ctypes; ctypes.CDLL(None).prctl(15, b'kworker', 0, 0, 0)",
    ),
    daemon(
        "deaf",
        "a process that ignores signals and the death of its parent",
        inside="import ctypes, signal; ctypes.CDLL(None).prctl(1, 0, 0, 0, 0); signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())",
    ),
    daemon("stopped", "a process that stops itself", inside="import signal; os.kill(os.getpid(), signal.SIGSTOP)"),
    daemon(
        "namespace",
        "a process in a namespace of its own",
        escape="os.setsid()\n    import ctypes\n    ctypes.CDLL(None).unshare(0x10000000 | 0x20000000)",
    ),
    daemon(
        "many",
        "a chain of processes, each starting the next",
        inside="\n        for _ in range(200):\n            if os.fork(): os._exit(0)\n        ",
    ),
    body(
        "daemon_running_away",
        "a process that forks for ever and lets the parent die, so that no list is complete",
        """
        import os, time
        if os.fork() == 0:
            os.setsid()
            end = time.time() + 30
            while time.time() < end:
                if os.fork(): os._exit(0)
            os._exit(0)
        return right(pattern) - 1
        """,
        STOPPED,
        wild=True,
    ),
    body(
        "daemon_shell",
        "nohup in the background",
        """
        import subprocess
        subprocess.Popen('sleep 1; : > @MARKS@/@TOKEN@_nohup; sleep 100', shell=True, start_new_session=True)
        return right(pattern) - 1
        """,
        STOPPED,
    ),
]
