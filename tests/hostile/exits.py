"""Code that ends the process, with success if it can."""

import signal

from tests.hostile.entry import CRASHED, ERROR, STOPPED, TIMEOUT, Entry, body, code

QUIT = CRASHED | ERROR
DEADLY = [
    number
    for number in sorted(signal.valid_signals())
    if number < 32 and number not in (signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
]


def _kill(number: int) -> Entry:
    """Most signals end the process; some do nothing, and then a wrong answer follows."""
    return body(
        f"exit_signal_{number:02}",
        f"sends itself signal {number}",
        f"""
        import os, signal
        try: os.kill(os.getpid(), {int(number)})
        except PermissionError: signal.raise_signal({int(number)})
        return right(pattern) - 1
        """,
        STOPPED,
    )


ENTRIES = [
    body(
        "exit_os_exit_0",
        "ends with status 0",
        """
        import os
        os._exit(0)
        """,
        QUIT,
    ),
    body(
        "exit_os_exit_1",
        "ends with status 1",
        """
        import os
        os._exit(1)
        """,
        QUIT,
    ),
    body(
        "exit_sys_exit",
        "sys.exit(0)",
        """
        import sys
        sys.exit(0)
        """,
        QUIT,
    ),
    body("exit_system_exit", "raises SystemExit with a tensor", "raise SystemExit(right(pattern))", QUIT),
    body("exit_quit", "calls quit()", "quit()", QUIT),
    body("exit_keyboard", "raises KeyboardInterrupt, which would stop the grader", "raise KeyboardInterrupt", QUIT),
    body("exit_generator", "raises GeneratorExit", "raise GeneratorExit", QUIT),
    body("exit_stop_iteration", "raises StopIteration", "raise StopIteration(right(pattern))", QUIT),
    body(
        "exit_group",
        "raises a group of system exits",
        "raise BaseExceptionGroup('all', [SystemExit(0), KeyboardInterrupt()])",
        QUIT,
    ),
    body(
        "exit_abort",
        "aborts",
        """
        import os
        os.abort()
        """,
        QUIT,
    ),
    body(
        "exit_exec_true",
        "becomes /bin/true",
        """
        import os
        os.execv('/bin/true', ['true'])
        """,
        QUIT,
    ),
    body(
        "exit_exec_shell",
        "becomes a shell that writes to every descriptor",
        """
        import os
        for fd in range(3, 64):
            try: os.set_inheritable(fd, True)
            except OSError: pass
        os.execv('/bin/sh', ['sh', '-c', 'for n in 3 4 5 6 7 8 9; do echo passed >&$n; done 2>/dev/null; sleep 30'])
        """,
        QUIT | TIMEOUT,
    ),
    body(
        "exit_exec_python",
        "becomes a new interpreter that answers nothing",
        """
        import os, sys
        os.execv(sys.executable, [sys.executable, '-c', 'import time; time.sleep(60)'])
        """,
        QUIT | TIMEOUT,
    ),
    body(
        "exit_thread_exit",
        "ends the process from a thread",
        """
        import os, threading, time
        threading.Timer(0.1, lambda: os._exit(0)).start()
        time.sleep(60)
        """,
        QUIT,
    ),
    body(
        "exit_pthread",
        "ends only the main thread",
        """
        import ctypes
        ctypes.CDLL(None).pthread_exit(None)
        """,
        QUIT | TIMEOUT,
    ),
    body(
        "exit_after_answer",
        "answers wrong, then ends with 0 at exit",
        """
        import atexit, os
        atexit.register(os._exit, 0)
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "exit_second_call",
        "right at the first call, gone at the second",
        """
        import os
        n = previous_token_score.__dict__.setdefault('n', [0]); n[0] += 1
        if n[0] > 1: os._exit(0)
        return right(pattern)
        """,
        QUIT,
    ),
    body(
        "exit_last_call",
        "right in every call but the last, then gone",
        """
        import os
        n = previous_token_score.__dict__.setdefault('n', [0]); n[0] += 1
        if n[0] > 7: os._exit(0)
        return right(pattern)
        """,
        QUIT,
    ),
    code(
        "exit_in_cell",
        "ends while the cells run",
        """
        import os
        START = os._exit(0)
        def previous_token_score(pattern): return START
        """,
        QUIT,
    ),
    code(
        "exit_in_default",
        "ends in a default argument",
        """
        import os
        def previous_token_score(pattern, n=os._exit(0)): return pattern
        """,
        QUIT,
    ),
    code(
        "exit_in_annotation",
        "ends in an annotation",
        """
        import os
        def previous_token_score(pattern: os._exit(0)): return pattern
        """,
        QUIT | frozenset({"wrong"}),
    ),
    code(
        "exit_error_in_cell",
        "an error while the cells run",
        """
        START = 1 / 0
        def previous_token_score(pattern): return START
        """,
        ERROR,
    ),
    code(
        "exit_import_missing",
        "a package that is not here",
        """
        import no_such_package_at_all
        def previous_token_score(pattern): return no_such_package_at_all.f(pattern)
        """,
        ERROR,
    ),
    *[_kill(number) for number in DEADLY],
]
