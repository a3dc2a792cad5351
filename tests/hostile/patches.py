"""Code that patches what a verdict might stand on. The answer stays wrong, so a point proves that the patch was felt."""

import textwrap

from tests.hostile.entry import STOPPED, Entry, body, code


def patch(name: str, why: str, lines: str, **more: object) -> Entry:
    """Patches first, then answers wrong."""
    attack = textwrap.dedent(lines).strip()
    return body(f"patch_{name}", why, attack + "\nreturn right(pattern) - 1", STOPPED, **more)


EVERY_MODULE = """
import sys
for name, module in list(sys.modules.items()):
    if not name.startswith('course_lib.gra'): continue
    for key, value in list(vars(module).items()):
        {change}
"""
ENTRIES = [
    patch("allclose", "torch.allclose says yes", "torch.allclose = torch.equal = torch.isclose = lambda *a, **k: True"),
    patch(
        "tensor_eq",
        "tensors compare equal",
        """
        torch.Tensor.__eq__ = lambda a, b: torch.ones(a.shape, dtype=torch.bool)
        torch.Tensor.__ne__ = lambda a, b: torch.zeros(a.shape, dtype=torch.bool)
        """,
    ),
    patch(
        "tensor_methods",
        "abs, any and all of a tensor are made harmless",
        """
        torch.Tensor.abs = lambda a: a * 0
        torch.Tensor.any = lambda a, *k: torch.tensor(False)
        torch.Tensor.__sub__ = torch.Tensor.__rsub__ = lambda a, b: a * 0
        """,
    ),
    patch(
        "clone",
        "copies of a tensor become zeros",
        "torch.Tensor.clone = torch.Tensor.detach = torch.Tensor.cpu = lambda a, *r, **k: torch.zeros(a.shape)",
    ),
    patch(
        "numpy",
        "numpy's comparisons say yes",
        """
        import numpy
        numpy.allclose = numpy.array_equal = numpy.isclose = lambda *a, **k: True
        """,
    ),
    patch(
        "json",
        "json writes one answer for everything",
        """
        import json
        json.dumps = lambda *a, **k: '{"state": "ok", "points": 100}'
        json.loads = lambda *a, **k: {'state': 'ok', 'points': 100}
        json.JSONEncoder.encode = lambda self, o: '{}'
        """,
    ),
    patch(
        "struct",
        "lengths are packed wrong",
        """
        import struct
        struct.pack = lambda f, *v: b'\\xff' * struct.calcsize(f)
        struct.Struct = None
        """,
    ),
    patch(
        "os_write",
        "writes go nowhere",
        """
        import os
        os.write = lambda fd, data: len(data)
        os.read = lambda fd, n: b''
        """,
    ),
    patch(
        "os_write_short",
        "writes say that they wrote more than they did",
        """
        import os
        os.write = lambda fd, data: len(data) * 2
        """,
    ),
    patch(
        "socket",
        "sockets send nothing",
        """
        import socket
        for name in ('send', 'sendall', 'sendmsg', 'recv', 'recv_into', 'recvmsg'):
            setattr(socket.socket, name, lambda self, *a, **k: 0)
        """,
    ),
    patch(
        "builtins",
        "len, isinstance, type and open are replaced",
        """
        import builtins
        builtins.isinstance = lambda a, b: True
        builtins.len = lambda a: 0
        builtins.type = lambda *a: torch.Tensor
        builtins.open = None
        builtins.all = lambda a: True
        builtins.any = lambda a: False
        """,
    ),
    patch(
        "builtins_errors",
        "the errors that are caught become others",
        """
        import builtins
        builtins.Exception = builtins.BaseException = builtins.KeyboardInterrupt = ZeroDivisionError
        """,
    ),
    patch(
        "import",
        "imports give a module that agrees with everything",
        """
        import builtins, types
        class Yes(types.ModuleType):
            def __getattr__(self, name): return lambda *a, **k: True
        builtins.__import__ = lambda name, *a, **k: Yes(name)
        """,
    ),
    patch(
        "import_hooks",
        "finders that answer for every module",
        """
        import sys
        class Finder:
            def find_spec(self, *a): raise SystemExit(0)
        sys.meta_path[:] = [Finder()]
        sys.path_hooks[:] = []
        sys.path[:] = ['@MARKS@']
        """,
    ),
    patch(
        "time",
        "time stands still",
        """
        import time
        for name in ('time', 'monotonic', 'perf_counter', 'sleep'): setattr(time, name, lambda *a: 0.0)
        """,
    ),
    patch(
        "random",
        "every generator gives zeros",
        """
        import random, numpy
        random.seed = numpy.random.seed = torch.manual_seed = lambda *a: None
        torch.randn = torch.rand = lambda *a, **k: torch.zeros(2)
        """,
    ),
    patch(
        "modules",
        "sys.modules loses torch, json and the grader",
        """
        import sys
        for name in list(sys.modules):
            if name.split('.')[0] in ('torch', 'json', 'course_lib', 'struct', 'os'): sys.modules[name] = None
        """,
    ),
    patch(
        "grading_compare",
        "the comparison that check uses says equal",
        """
        from course_lib.grading import compare, values, examine
        compare.compare = examine.compare.compare = lambda *a, **k: compare.Comparison()
        values.mismatch = lambda *a, **k: ''
        compare._bad_entries = lambda e, g, t: torch.zeros(1, dtype=torch.bool)
        examine.Trial.passed = True
        examine.Trial.differs = False
        """,
    ),
    patch(
        "grading_run",
        "what runs the calls reports nothing",
        """
        from course_lib.grading import run
        run.Outcome = run.Failure = run.failure_of = lambda *a, **k: None
        """,
    ),
    patch(
        "grading_values",
        "copies and comparisons of inputs do nothing",
        """
        from course_lib.grading import values
        values.clone = lambda v: v
        values.same = lambda a, b: True
        pattern.zero_()
        """,
    ),
    patch(
        "grading_spec",
        "every tolerance is a million",
        """
        from course_lib.grading import spec, compare
        compare._SINGLE = compare.EXACT = spec.Tolerance(1e6, 1e6)
        compare._DEFAULTS.clear()
        spec.SECONDS = 1e9
        """,
    ),
    patch(
        "grader_functions",
        "every function of the grader in this process says yes",
        EVERY_MODULE.format(change="if callable(value): setattr(module, key, lambda *a, **k: True)"),
    ),
    patch(
        "grader_code",
        "every function of the grader gets other bytecode",
        EVERY_MODULE.format(
            change="if hasattr(value, '__code__') and not value.__code__.co_freevars: value.__code__ = (lambda *a, **k: b'ok').__code__"
        ),
    ),
    patch(
        "grader_constants",
        "every number and text of the grader is changed",
        EVERY_MODULE.format(
            change="if type(value) in (int, float): setattr(module, key, 10 ** 12)\n        if type(value) is str and not key.startswith('__'): setattr(module, key, 'ok')"
        ),
    ),
    patch(
        "grader_encode",
        "the wire encodes the right answer's size with other bytes",
        """
        from course_lib.grader import wire
        wire.encode = lambda value, *a: b'\\x00' * 64
        import sys
        for module in list(sys.modules.values()):
            if getattr(module, 'encode', None) is not None and 'grader' in module.__name__: module.encode = wire.encode
        """,
    ),
    patch(
        "threads",
        "threads cannot start",
        """
        import threading, _thread
        _thread.start_new_thread = threading.Thread.start = lambda *a, **k: None
        """,
    ),
    patch(
        "excepthook",
        "hooks for errors, exits and audits",
        """
        import sys
        sys.excepthook = sys.unraisablehook = lambda *a: None
        sys.addaudithook(lambda event, args: (_ for _ in ()).throw(RuntimeError('audited')) if event.startswith('os.') or event == 'open' else None)
        """,
    ),
    patch(
        "trace",
        "a tracer that rewrites what the caller holds",
        """
        import sys
        def trace(frame, event, arg):
            frame.f_trace_lines = False
            return trace
        sys.settrace(trace)
        frame = sys._getframe()
        while frame is not None:
            frame.f_trace = trace
            frame = frame.f_back
        """,
    ),
    patch(
        "profile",
        "a profiler that raises at every return",
        """
        import sys
        def profile(frame, event, arg):
            if event == 'return' and frame.f_code.co_name != 'profile': raise SystemExit(0)
        sys.setprofile(profile)
        """,
    ),
    patch(
        "stdout",
        "the streams are replaced by nothing",
        """
        import sys
        sys.stdout = sys.stderr = sys.stdin = sys.__stdout__ = sys.__stderr__ = None
        """,
    ),
    patch(
        "ctypes_true",
        "False and True change places in memory",
        """
        import ctypes
        ctypes.memmove(id(False) + 24, id(True) + 24, 4)
        ctypes.memmove(id(0) + 24, id(1) + 24, 4)
        """,
    ),
    patch(
        "ctypes_float",
        "the number 0.0 is overwritten",
        """
        import ctypes
        ctypes.c_double.from_address(id(0.0) + 16).value = 1e9
        """,
    ),
    patch(
        "type_slots",
        "the class of tensors gets a metaclass's lies",
        """
        import ctypes
        torch.Tensor.shape = property(lambda self: torch.Size([2]))
        torch.Tensor.dtype = property(lambda self: torch.float32)
        """,
    ),
    patch(
        "gc_classes",
        "every frozen dataclass of the process is opened and changed",
        """
        import gc, dataclasses
        for thing in gc.get_objects():
            if dataclasses.is_dataclass(thing) and not isinstance(thing, type) and 'course_lib' in type(thing).__module__:
                for field in dataclasses.fields(thing): object.__setattr__(thing, field.name, 'ok')
        """,
    ),
    code(
        "patch_at_import",
        "patches while the cells run",
        """
        import builtins, json
        PATCHED = [setattr(json, "dumps", lambda *a, **k: "{}"), setattr(builtins, "isinstance", lambda a, b: True), setattr(torch, "equal", lambda a, b: True)]
        # %%
        def previous_token_score(pattern): return PATCHED
        """,
        STOPPED,
    ),
    code(
        "patch_through_del",
        "patches when an object of the first call is thrown away",
        """
        import torch.nn.functional
        class Late:
            def __del__(self):
                torch.Tensor.clone = lambda self, *a: torch.zeros(2)
                torch.Tensor.__eq__ = lambda a, b: torch.tensor(True)
        # %%
        def previous_token_score(pattern):
            Late()
            return pattern.sum(dim=(0, 2, 3)) - 1
        """,
        STOPPED,
    ),
]
