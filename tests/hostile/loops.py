"""Code that does not end."""

from tests.hostile.entry import CRASHED, ERROR, OK, TIMEOUT, WRONG, body, code

RIGHT_LATE = "return right(pattern)"
ENTRIES = [
    body("loop_python", "an endless loop", "while True: pass", TIMEOUT),
    body(
        "loop_empty_c",
        "an endless loop inside C",
        """
        import itertools, collections
        collections.deque(itertools.repeat(0), maxlen=0)
        """,
        TIMEOUT,
    ),
    body(
        "loop_number",
        "a huge power, one step of Python",
        """
        x = 3 ** (10 ** 9)
        return right(pattern)
        """,
        TIMEOUT | frozenset({"oom"}),
    ),
    body(
        "loop_regex",
        "catastrophic backtracking",
        """
        import re
        re.match(r'(a+)+$', 'a' * 60 + 'b')
        return right(pattern)
        """,
        TIMEOUT,
    ),
    body(
        "loop_sleep",
        "sleeps for an hour",
        """
        import time
        time.sleep(3600)
        return right(pattern)
        """,
        TIMEOUT,
    ),
    body(
        "loop_input",
        "waits for a key",
        """
        input('continue? ')
        return right(pattern)
        """,
        ERROR | TIMEOUT,
    ),
    body(
        "loop_read_stdin",
        "reads the standard input",
        """
        import os
        while os.read(0, 1) or True: pass
        """,
        ERROR | TIMEOUT,
    ),
    body(
        "loop_lock",
        "waits for a lock that it holds",
        """
        import threading
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
        """,
        TIMEOUT,
    ),
    body(
        "loop_swallow",
        "catches whatever would end it",
        """
        while True:
            try:
                while True: pass
            except BaseException:
                continue
        """,
        TIMEOUT,
    ),
    body(
        "loop_blocked_signals",
        "blocks every signal, then loops",
        """
        import signal
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while True: pass
        """,
        TIMEOUT,
    ),
    body(
        "loop_ignored_signals",
        "ignores every signal and switches the timers off, then sleeps",
        """
        import signal, time
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            try: signal.signal(number, signal.SIG_IGN)
            except (OSError, ValueError): pass
        signal.setitimer(signal.ITIMER_REAL, 0); signal.alarm(0)
        while True: time.sleep(1)
        """,
        TIMEOUT,
    ),
    body(
        "loop_pause_in_signal_wait",
        "waits for a signal that nobody sends",
        """
        import signal
        signal.sigwait(set())
        """,
        TIMEOUT | ERROR,
    ),
    code(
        "loop_in_cell",
        "loops while the cells run",
        """
        def forever():
            while True: pass
        START = forever()
        def previous_token_score(pattern): return START
        """,
        TIMEOUT,
    ),
    code(
        "loop_in_decorator",
        "loops while the function is defined",
        """
        def slow(function):
            while True: pass
        # %%
        @slow
        def previous_token_score(pattern): return pattern
        """,
        TIMEOUT,
    ),
    code(
        "loop_in_default",
        "loops in a default argument",
        "def previous_token_score(pattern, n=sum(iter(int, 1))): return pattern",
        TIMEOUT,
    ),
    code(
        "loop_in_class_body",
        "loops while a class is made",
        """
        class Slow:
            while True: pass
        def previous_token_score(pattern): return Slow()
        """,
        TIMEOUT,
    ),
    code(
        "loop_in_helper",
        "loops in a helper of another cell",
        """
        def helper(x):
            while x is not None: x = x
        # %%
        def previous_token_score(pattern): return helper(pattern)
        """,
        TIMEOUT,
    ),
    code(
        "loop_in_del",
        "answers wrong, with an object that loops when it is thrown away",
        """
        class Sticky:
            def __del__(self):
                while True: pass
        def previous_token_score(pattern):
            Sticky()
            return pattern
        """,
        TIMEOUT,
    ),
    body(
        "loop_at_exit",
        "answers wrong, and loops when the process ends",
        """
        import atexit, threading
        def forever():
            while True: pass
        atexit.register(forever)
        threading._register_atexit(forever)
        return right(pattern) - 1
        """,
        WRONG | TIMEOUT,
    ),
    body(
        "loop_thread_outlives",
        "answers wrong, and leaves a thread that is no daemon",
        """
        import threading
        def forever():
            while True: pass
        threading.Thread(target=forever).start()
        return right(pattern) - 1
        """,
        WRONG | TIMEOUT | CRASHED,
    ),
    code(
        "loop_in_repr",
        "returns an object whose every special method loops",
        """
        class Tar:
            def forever(self, *args, **kwargs):
                while True: pass
            __repr__ = __str__ = __eq__ = __len__ = __iter__ = __bool__ = __reduce__ = __reduce_ex__ = __hash__ = forever
            __getattr__ = __float__ = __index__ = __array__ = __copy__ = __deepcopy__ = forever
        def previous_token_score(pattern): return Tar()
        """,
        WRONG | TIMEOUT | ERROR,
    ),
    code(
        "loop_in_error_text",
        "raises an error whose text never ends",
        """
        class Endless(Exception):
            def __str__(self):
                while True: pass
        def previous_token_score(pattern): raise Endless()
        """,
        TIMEOUT | ERROR,
    ),
    body(
        "loop_generator",
        "returns a generator without an end",
        "return (pattern for _ in iter(int, 1))",
        WRONG | TIMEOUT,
    ),
    body(
        "loop_cyclic_list",
        "returns a list that holds itself",
        """
        loop = [pattern]
        loop.append(loop)
        return loop
        """,
        WRONG | ERROR,
    ),
    body(
        "loop_second_call_only",
        "right at the first call of each case, endless at the second",
        """
        import os
        n = previous_token_score.__dict__.setdefault("n", [0]); n[0] += 1
        while n[0] % 2 == 0: pass
        return right(pattern)
        """,
        TIMEOUT,
    ),
    body(
        "loop_just_too_slow",
        "right, but sleeps past the limit",
        """
        import time
        time.sleep(6.5)
        return right(pattern)
        """,
        TIMEOUT,
    ),
    body(
        "loop_clock_patched",
        "turns every clock of Python back, then sleeps past the limit",
        """
        import time
        nap = time.sleep
        for name in ("time", "monotonic", "perf_counter", "process_time", "time_ns", "monotonic_ns", "perf_counter_ns"):
            setattr(time, name, lambda: 0)
        time.sleep = lambda seconds: None
        nap(6.5)
        return right(pattern)
        """,
        TIMEOUT,
    ),
    body(
        "loop_stop_self",
        "stops itself and is never continued; the first process of a namespace cannot be stopped",
        """
        import os, signal
        signal.raise_signal(signal.SIGSTOP)
        return right(pattern)
        """,
        TIMEOUT | ERROR | OK,
        scores=None,
    ),
    body(
        "loop_switch_interval",
        "never lets another thread run",
        """
        import sys
        sys.setswitchinterval(1e9)
        while True: pass
        """,
        TIMEOUT,
    ),
    body(
        "loop_vfork_child",
        "forks; the child loops with every descriptor open, the parent answers wrong",
        """
        import os
        if os.fork() == 0:
            while True: pass
        return right(pattern) - 1
        """,
        WRONG | TIMEOUT | ERROR | CRASHED,
    ),
]
