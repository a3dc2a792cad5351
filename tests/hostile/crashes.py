"""Code that breaks the interpreter or torch underneath it."""

from tests.hostile.entry import CRASHED, ERROR, STOPPED, TIMEOUT, WRONG, body, code

BROKEN = CRASHED | ERROR
ENTRIES = [
    body(
        "crash_null",
        "reads address 0",
        """
        import ctypes
        ctypes.string_at(0)
        """,
        BROKEN,
    ),
    body(
        "crash_write_none",
        "overwrites None",
        """
        import ctypes
        ctypes.memset(id(None), 255, 32)
        return None
        """,
        BROKEN | TIMEOUT | WRONG | frozenset({"unattempted"}),
    ),
    body("crash_recursion", "recursion without an end", "return previous_token_score(pattern)", ERROR | CRASHED),
    body(
        "crash_stack",
        "recursion with the limit taken away",
        """
        import sys
        sys.setrecursionlimit(2 ** 31 - 1)
        f = lambda n: f(n + 1)
        f(0)
        """,
        BROKEN | frozenset({"oom"}) | TIMEOUT,
    ),
    body(
        "crash_stack_c",
        "deep nesting that C has to walk",
        """
        import sys, pickle
        sys.setrecursionlimit(10 ** 9)
        nest = None
        for _ in range(300_000): nest = (nest,)
        return repr(nest)
        """,
        STOPPED,
    ),
    body(
        "crash_torch_storage",
        "resizes the input's storage away and reads it",
        """
        pattern.untyped_storage().resize_(0)
        return pattern.sum()
        """,
        STOPPED,
    ),
    body(
        "crash_torch_strides",
        "returns a tensor that claims more memory than it has",
        """
        result = right(pattern)
        return torch.as_strided(result, (1 << 40,), (1,))
        """,
        STOPPED,
    ),
    body(
        "crash_torch_set_data",
        "changes size and stride of the result under torch's feet",
        """
        result = right(pattern)
        result.untyped_storage().resize_(0)
        return result
        """,
        STOPPED,
    ),
    body(
        "crash_bytecode",
        "runs bytecode that is none",
        """
        f = lambda: 0
        f.__code__ = f.__code__.replace(co_code=b'\\xff' * 64, co_stacksize=0)
        return f()
        """,
        BROKEN | TIMEOUT | WRONG,
    ),
    body(
        "crash_threads_off",
        "asks torch for a million threads",
        """
        torch.set_num_threads(1_000_000)
        return torch.ones(2000, 2000).exp().sum() * 0 - 1
        """,
        STOPPED,
    ),
    body(
        "crash_default_device",
        "leaves the default device on meta",
        """
        torch.set_default_device('meta')
        return torch.ones(pattern.shape[1])
        """,
        BROKEN | WRONG,
    ),
    body(
        "crash_default_dtype",
        "leaves a default dtype of half",
        """
        torch.set_default_dtype(torch.float16)
        return torch.ones(pattern.shape[1])
        """,
        WRONG,
    ),
    body(
        "crash_no_grad",
        "switches gradients off for good",
        """
        torch.set_grad_enabled(False)
        torch.inference_mode(True).__enter__()
        return right(pattern) - 1
        """,
        WRONG | ERROR,
    ),
    body(
        "crash_free_modules",
        "clears sys.modules",
        """
        import sys
        sys.modules.clear()
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "crash_builtins",
        "deletes every builtin",
        """
        import builtins
        vars(builtins).clear()
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "crash_gc",
        "clears every dictionary that the collector knows",
        """
        import gc
        for thing in gc.get_objects():
            if type(thing) is dict: thing.clear()
        return 0
        """,
        STOPPED,
    ),
    body(
        "crash_close_all",
        "closes every descriptor",
        """
        import os
        os.closerange(0, 4096)
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    body(
        "crash_chdir",
        "goes to a folder that it then cannot leave",
        """
        import os
        os.chdir('/proc/self')
        return right(pattern) - 1
        """,
        STOPPED,
    ),
    code(
        "crash_metaclass",
        "a class that cannot be made, shown or asked",
        """
        class Broken(type):
            def __getattribute__(cls, name): raise SystemExit(0)
            def __call__(cls): return object.__new__(cls)
            def __repr__(cls): raise SystemExit(0)
        # %%
        class Answer(metaclass=Broken):
            def __getattribute__(self, name): raise KeyboardInterrupt
        # %%
        def previous_token_score(pattern): return Answer()
        """,
        STOPPED,
    ),
    code(
        "crash_error_class",
        "an error whose name and text raise",
        """
        class Name(type):
            @property
            def __name__(cls): raise KeyboardInterrupt
        # %%
        class Nameless(Exception, metaclass=Name):
            def __str__(self): raise SystemExit(0)
            __repr__ = __str__
        # %%
        def previous_token_score(pattern): raise Nameless()
        """,
        STOPPED,
    ),
]
