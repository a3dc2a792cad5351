"""Code that sends more than anybody can hold."""

from tests.hostile.entry import CRASHED, ERROR, OK, OOM, STOPPED, TIMEOUT, WRONG, body, code

MUCH = ERROR | OOM | TIMEOUT | CRASHED | WRONG
ENTRIES = [
    body(
        "flood_stdout",
        "prints 200 MB, then answers right",
        """
        for _ in range(200): print('x' * 1_000_000)
        return right(pattern)
        """,
        OK | STOPPED,
        scores=None,
    ),
    body(
        "flood_stderr",
        "writes to stderr without an end",
        """
        import sys
        while True: sys.stderr.write('x' * 1_000_000)
        """,
        TIMEOUT | CRASHED,
    ),
    body(
        "flood_fd_1",
        "writes to descriptors 1 and 2 without an end",
        """
        import os
        while True:
            os.write(1, b'x' * 65536); os.write(2, b'y' * 65536)
        """,
        TIMEOUT | ERROR | CRASHED,
    ),
    body(
        "flood_print_in_c",
        "prints through C, where Python cannot catch it",
        """
        import ctypes
        libc = ctypes.CDLL(None)
        for _ in range(100_000): libc.puts(b'@TOKEN@ ' * 20)
        return right(pattern) - 1
        """,
        WRONG | TIMEOUT,
    ),
    body(
        "flood_logging",
        "logs and warns a hundred thousand times",
        """
        import logging, warnings
        warnings.simplefilter('always')
        for n in range(30_000): warnings.warn(str(n)); logging.error('n')
        return right(pattern) - 1
        """,
        WRONG | TIMEOUT,
    ),
    body("flood_text", "returns a text of 100 MB", "return 'x' * 100_000_000", MUCH),
    body("flood_bytes", "returns 100 MB of bytes", "return b'x' * 100_000_000", MUCH),
    body("flood_tensor", "returns a tensor of 400 MB", "return torch.zeros(100_000_000)", MUCH),
    body(
        "flood_tensor_expanded",
        "returns one number that claims to be 2 ** 60",
        "return torch.zeros(1).expand(1 << 60)",
        MUCH,
    ),
    body(
        "flood_tensor_stride_0",
        "returns 64 GB of shape over four bytes",
        "return torch.zeros(1).expand(1 << 17, 1 << 17)",
        MUCH,
    ),
    body(
        "flood_empty_tensor",
        "returns a tensor without entries and an enormous shape",
        "return torch.empty(0, 1 << 40)",
        MUCH,
    ),
    body("flood_axes", "returns a tensor of 5000 axes", "return torch.zeros([1] * 5000)", MUCH),
    body("flood_list", "returns a million numbers in a list", "return list(range(1_000_000))", MUCH),
    body(
        "flood_small_tensors",
        "returns ten thousand small tensors",
        "return tuple(torch.zeros(1) for _ in range(10_000))",
        MUCH,
    ),
    body(
        "flood_nested",
        "returns a nest of 50,000 tuples",
        """
        nest = right(pattern)
        for _ in range(50_000): nest = (nest,)
        return nest
        """,
        MUCH,
    ),
    body(
        "flood_wide_and_deep",
        "returns 2 ** 40 leaves over 40 shared nodes",
        """
        tree = [0.0]
        for _ in range(40): tree = [tree, tree]
        return tree
        """,
        MUCH,
    ),
    body(
        "flood_dict", "returns a dictionary of 500,000 odd keys", "return {(n, 'x'): n for n in range(500_000)}", MUCH
    ),
    body("flood_big_int", "returns a number with 100,000 digits", "return 10 ** 100_000", MUCH, exercise="0.1"),
    body(
        "flood_int_400", "returns 10 ** 400, which no float can hold", "return 10 ** 400", WRONG | ERROR, exercise="0.1"
    ),
    body(
        "flood_int_for_float",
        "returns 10 ** 400 where a probability is wanted",
        "return 10 ** 400",
        WRONG | ERROR,
        exercise="12.3",
    ),
    body("flood_int_negative", "returns -(2 ** 63) - 1", "return -(2 ** 63) - 1", WRONG | ERROR, exercise="0.1"),
    body(
        "flood_int_digits",
        "returns 16 ** 4095, which Python will not print",
        "return 16 ** 4095",
        WRONG | ERROR,
        exercise="0.1",
    ),
    body(
        "flood_digits_for_float",
        "returns 16 ** 4095 where a float is wanted",
        "return 16 ** 4095",
        WRONG | ERROR,
        exercise="12.3",
    ),
    body("flood_infinite_float", "returns infinity", "return float('inf')", WRONG, exercise="12.3"),
    body("flood_nan_float", "returns NaN", "return float('nan')", WRONG, exercise="12.3"),
    body(
        "flood_error_text",
        "raises an error with a text of 100 MB",
        "raise ValueError('x' * 100_000_000)",
        ERROR | TIMEOUT | OOM,
    ),
    body(
        "flood_error_lines",
        "raises an error with a million lines",
        """
        raise ValueError('\\n' * 1_000_000)
        """,
        ERROR | TIMEOUT | OOM,
    ),
    body(
        "flood_error_chain",
        "raises a chain of 20,000 errors",
        """
        error = ValueError('start')
        for n in range(20_000):
            new = ValueError(str(n)); new.__cause__ = error; error = new
        raise error
        """,
        ERROR | CRASHED,
    ),
    code(
        "flood_error_type",
        "raises an error whose type has a name of 10 MB",
        "def previous_token_score(pattern): raise type('N' * 10_000_000, (Exception,), {})('short')",
        ERROR | CRASHED | OOM,
    ),
    body(
        "flood_error_notes",
        "raises an error with 100,000 notes",
        """
        error = ValueError('x')
        for n in range(100_000): error.add_note('n' * 100)
        raise error
        """,
        ERROR | OOM | TIMEOUT,
    ),
    body(
        "flood_error_group",
        "raises a group of groups",
        """
        group = ExceptionGroup('g', [ValueError('v')])
        for _ in range(5_000): group = ExceptionGroup('g', [group])
        raise group
        """,
        ERROR | CRASHED,
    ),
    code(
        "flood_line",
        "an error on a line of a million characters",
        "def previous_token_score(pattern): raise ValueError(" + repr("y" * 1_000_000) + ")",
        ERROR | frozenset({"invalid_notebook"}),
    ),
    code(
        "flood_file_name",
        "an error in code whose file name is 10 MB long",
        "def previous_token_score(pattern): exec(compile('1/0', 'f' * 10_000_000, 'exec'))",
        ERROR | CRASHED | OOM,
    ),
    code(
        "flood_cells",
        "20,000 cells",
        "# %%\n".join(f"x{n} = {n}\n" for n in range(20_000))
        + "# %%\ndef previous_token_score(pattern): return x19999",
        STOPPED | frozenset({"unattempted", "invalid_notebook"}),
    ),
    code(
        "flood_definitions",
        "defines the answer 5,000 times",
        "# %%\n".join(f"def previous_token_score(pattern): return {n}\n" for n in range(5_000)),
        STOPPED | frozenset({"unattempted", "invalid_notebook"}),
    ),
]
