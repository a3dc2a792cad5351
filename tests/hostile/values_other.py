"""Results that are no tensors, and answers that change from call to call."""

from tests.hostile.entry import ERROR, STOPPED, UNATTEMPTED, WRONG, body, code

CALLS = "n = previous_token_score.__dict__.setdefault('n', [0]); n[0] += 1\n"
ENTRIES = [
    body("other_list", "a list of the right numbers", "return right(pattern).tolist()", WRONG),
    body("other_tuple", "a tuple of tensors", "return tuple(right(pattern))", WRONG),
    body("other_array", "a numpy array", "return right(pattern).numpy()", WRONG),
    body(
        "other_object_array",
        "a numpy array of objects",
        """
        import numpy
        return numpy.array([object()] * pattern.shape[1], dtype=object)
        """,
        WRONG | ERROR,
    ),
    body("other_text", "the right numbers as a text", "return str(right(pattern))", WRONG),
    body("other_true", "True", "return True", WRONG),
    body("other_ellipsis", "an ellipsis", "return ...", WRONG | UNATTEMPTED | ERROR),
    body("other_not_implemented", "NotImplemented", "return NotImplemented", WRONG | UNATTEMPTED | ERROR),
    body("other_set", "a set", "return {1.0, 2.0}", WRONG | ERROR),
    body("other_function", "itself", "return previous_token_score", WRONG | ERROR),
    body("other_module", "the module torch", "return torch", WRONG | ERROR),
    body("other_class", "a class", "return torch.Tensor", WRONG | ERROR),
    body(
        "other_coroutine",
        "a coroutine",
        """
        async def later(): return right(pattern)
        return later()
        """,
        WRONG | ERROR,
    ),
    body(
        "other_frame",
        "its own frame",
        """
        import sys
        return sys._getframe(1)
        """,
        WRONG | ERROR,
    ),
    body("other_surrogate", "a text that no encoding can write", "return '\\ud800' * 10", WRONG | ERROR),
    body(
        "other_dict_keys",
        "a dictionary whose keys are no texts",
        "return {1: right(pattern), None: 0, (1, 2): 3, True: 1}",
        STOPPED,
    ),
    body("other_bool_for_int", "True where 1 may be wanted", "return True", WRONG, exercise="0.1"),
    body(
        "other_tensor_for_int",
        "a tensor of one axis where a number is wanted",
        "return tokens[-1:]",
        WRONG,
        exercise="0.1",
    ),
    body(
        "other_complex_for_float",
        "a complex number where a number is wanted",
        "return complex(0.5)",
        WRONG,
        exercise="12.3",
    ),
    body("other_text_for_float", "a text where a number is wanted", "return 'nan'", WRONG, exercise="12.3"),
    body("other_tiny", "the smallest number above 0", "return 5e-324", WRONG, exercise="12.3"),
    code(
        "other_int_subclass",
        "an int that is equal to everything",
        """
        class Any(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __sub__(self, other): return 0
            __rsub__ = __sub__
            __hash__ = int.__hash__
            def __float__(self): return 0.0
            def __repr__(self): return "0"
        # %%
        def induction_guess(tokens): return Any(-3)
        """,
        WRONG | ERROR,
        exercise="0.1",
    ),
    code(
        "other_float_subclass",
        "a float that is equal to everything",
        """
        class Any(float):
            def __eq__(self, other): return True
            def __le__(self, other): return True
            __lt__ = __ge__ = __gt__ = __le__
            __hash__ = float.__hash__
            def __abs__(self): return 0.0
            def __sub__(self, other): return self
            __rsub__ = __sub__
        # %%
        def permutation_p(first, second): return Any(-1)
        """,
        WRONG | ERROR,
        exercise="12.3",
    ),
    code(
        "other_spoofed_class",
        "an object that says that it is a tensor",
        """
        class Fake:
            __class__ = torch.Tensor
            shape, dtype, ndim, layout, is_meta, device = torch.Size([2]), torch.float32, 1, torch.strided, False, torch.device("cpu")
            def __getattr__(self, name): return lambda *args, **kwargs: self
            def __eq__(self, other): return True
            def __bool__(self): return True
            def __float__(self): return 0.0
            __hash__ = object.__hash__
        # %%
        def previous_token_score(pattern): return Fake()
        """,
        WRONG | ERROR,
    ),
    code(
        "other_str_subclass_name",
        "an object of a type that calls itself Tensor",
        """
        Tensor = type('Tensor', (), {'__module__': 'torch', '__eq__': lambda a, b: True, '__hash__': None})
        def previous_token_score(pattern): return Tensor()
        """,
        WRONG | ERROR,
    ),
    code(
        "other_reduce",
        "an object that would run code when it is unpickled",
        """
        class Bomb:
            def __reduce__(self): return (open, ("@MARKS@/@TOKEN@_pickle", "w"))
        # %%
        def previous_token_score(pattern): return Bomb()
        """,
        WRONG | ERROR,
    ),
    code(
        "other_array_interface",
        "an object that runs code when it is turned into an array",
        """
        class Lazy:
            def __array__(self, *args, **kwargs):
                open("@MARKS@/@TOKEN@_array", "w").close()
            @property
            def __array_interface__(self): raise SystemExit(0)
            def __dlpack__(self, *args, **kwargs): raise SystemExit(0)
            __torch_function__ = None
        # %%
        def previous_token_score(pattern): return Lazy()
        """,
        WRONG | ERROR,
    ),
    body(
        "other_second_call",
        "right once, wrong at the second call of a case",
        CALLS + "return right(pattern) + (n[0] % 2 == 0)",
        WRONG,
    ),
    body(
        "other_first_call",
        "wrong once, right at the second call of a case",
        CALLS + "return right(pattern) + (n[0] % 2 == 1)",
        WRONG,
    ),
    body(
        "other_second_none",
        "right once, nothing at the second call",
        CALLS + "return right(pattern) if n[0] % 2 else None",
        WRONG | UNATTEMPTED,
    ),
    body(
        "other_second_shape",
        "right once, broadcast at the second call",
        CALLS + "return right(pattern) if n[0] % 2 else right(pattern)[:1]",
        WRONG,
    ),
    body(
        "other_second_error",
        "right once, an error at the second call",
        CALLS + "if n[0] % 2 == 0: raise ValueError('no')\nreturn right(pattern)",
        ERROR,
    ),
    body(
        "other_first_case",
        "right in the first case only",
        CALLS + "return right(pattern) if n[0] <= 2 else torch.zeros(pattern.shape[1])",
        WRONG,
    ),
    body(
        "other_last_case",
        "wrong in the last case only",
        CALLS + "return right(pattern) if n[0] <= 6 else torch.zeros(pattern.shape[1])",
        WRONG,
    ),
    body("other_random", "right, plus noise", "return right(pattern) + torch.randn(pattern.shape[1])", WRONG),
    body(
        "other_seeded",
        "right when the generator stands where the first call starts",
        """
        noise = torch.rand(1); torch.manual_seed(1)
        return right(pattern) + (noise != torch.rand(1))
        """,
        WRONG,
    ),
    body(
        "other_time",
        "plus the time of day",
        """
        import time
        return right(pattern) + time.time() % 1 * 1000
        """,
        WRONG,
    ),
    body("other_id", "plus the address of an object", "return right(pattern) + id(object()) % 977 + 1", WRONG),
    body("other_hash", "plus the hash of a text", "return right(pattern) + abs(hash('token')) % 977 + 1", WRONG),
    body(
        "other_stub",
        "not yet written, and says so late",
        """
        result = right(pattern)
        raise NotImplementedError('your code here')
        """,
        UNATTEMPTED | ERROR,
    ),
    body(
        "other_warning_error",
        "turns warnings into errors",
        """
        import warnings
        warnings.simplefilter('error')
        warnings.warn('stop')
        """,
        ERROR,
    ),
    body("other_yield", "a generator function, by accident", "yield right(pattern)", WRONG | ERROR),
    body("other_deep_error", "an error inside torch", "return torch.zeros(3) @ torch.zeros(4)", ERROR),
    body(
        "other_assert",
        "a failing assert with a value of a megabyte",
        "assert pattern is None, torch.zeros(1000, 1000)",
        ERROR,
    ),
    code(
        "other_async",
        "an asynchronous function",
        "async def previous_token_score(pattern): return pattern",
        WRONG | ERROR,
    ),
    code(
        "other_class_answer",
        "a class where a function is wanted",
        """
        class previous_token_score:
            def __init__(self, pattern): self.result = pattern
        """,
        WRONG | ERROR,
    ),
    code(
        "other_number_answer", "a number where a function is wanted", "previous_token_score = 7", STOPPED | UNATTEMPTED
    ),
    code("other_no_arguments", "a function without arguments", "def previous_token_score(): return 0", ERROR),
    code(
        "other_too_many_arguments",
        "a function with one argument too many",
        "def previous_token_score(pattern, other): return 0",
        ERROR,
    ),
    code(
        "other_keyword_only", "a function that wants a keyword", "def previous_token_score(*, pattern): return 0", ERROR
    ),
]
