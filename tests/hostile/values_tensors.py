"""Tensors that are wrong and look right, for a comparison that broadcasts, casts or believes."""

from tests.hostile.entry import ERROR, STOPPED, UNATTEMPTED, WRONG, body, code

ENTRIES = [
    body("tensor_scalar", "one number where broadcasting would make many", "return right(pattern).mean()", WRONG),
    body("tensor_row", "an axis of 1 in front", "return right(pattern)[None]", WRONG),
    body("tensor_column", "an axis of 1 behind", "return right(pattern)[:, None]", WRONG),
    body(
        "tensor_expanded",
        "one value expanded to the shape",
        "return right(pattern)[:1].expand(pattern.shape[1])",
        WRONG,
    ),
    body("tensor_empty", "no entries, so none is wrong", "return right(pattern)[:0]", WRONG),
    body("tensor_zero_axis", "no entries, and an axis more", "return torch.empty(0, pattern.shape[1])", WRONG),
    body("tensor_nan", "NaN everywhere", "return torch.full_like(right(pattern), float('nan'))", WRONG),
    body("tensor_inf", "infinity everywhere", "return torch.full_like(right(pattern), float('inf'))", WRONG),
    body(
        "tensor_one_nan",
        "right but for one NaN",
        """
        result = right(pattern)
        result[0] = float('nan')
        return result
        """,
        WRONG,
    ),
    body("tensor_huge", "finite, and overflows a squared error", "return torch.full_like(right(pattern), 3e38)", WRONG),
    body("tensor_complex", "right, as complex numbers without imaginary part", "return right(pattern) + 0j", WRONG),
    body(
        "tensor_complex_big",
        "right in its real part only",
        "return torch.complex(right(pattern), torch.full_like(right(pattern), 1e6))",
        WRONG,
    ),
    body("tensor_half", "rounded to half precision", "return right(pattern).half()", WRONG),
    body("tensor_bfloat", "rounded to bfloat16", "return right(pattern).bfloat16()", WRONG),
    body("tensor_float8", "rounded to eight bits", "return right(pattern).to(torch.float8_e4m3fn)", WRONG | ERROR),
    body("tensor_bool", "as bool", "return right(pattern) > 0", WRONG),
    body("tensor_int", "as whole numbers", "return right(pattern).round().long()", WRONG),
    body("tensor_uint16", "as a rare integer type", "return right(pattern).round().to(torch.uint16)", WRONG | ERROR),
    body(
        "tensor_quantized",
        "quantised",
        "return torch.quantize_per_tensor(right(pattern), 0.01, 0, torch.quint8)",
        WRONG | ERROR,
    ),
    body(
        "tensor_quantized_channel",
        "quantised per channel",
        "return torch.quantize_per_channel(right(pattern), torch.ones(pattern.shape[1]), torch.zeros(pattern.shape[1]), 0, torch.qint8)",
        WRONG | ERROR,
    ),
    body("tensor_sparse", "wrong, in sparse coordinates", "return (right(pattern) - 1).to_sparse()", WRONG | ERROR),
    body(
        "tensor_sparse_invalid",
        "sparse, with indices that point outside",
        "return torch.sparse_coo_tensor(torch.tensor([[1 << 40]]), torch.ones(1), (1 << 41,), check_invariants=False)",
        WRONG | ERROR,
    ),
    body("tensor_csr", "in compressed rows", "return right(pattern)[None].to_sparse_csr()", WRONG | ERROR),
    body(
        "tensor_meta",
        "no numbers at all, on the meta device",
        "return torch.empty(pattern.shape[1], device='meta')",
        WRONG | ERROR,
    ),
    body("tensor_nested", "a nested tensor", "return torch.nested.nested_tensor([right(pattern)])", STOPPED),
    body(
        "tensor_jagged",
        "a jagged nested tensor",
        "return torch.nested.nested_tensor([right(pattern)], layout=torch.jagged)",
        STOPPED,
    ),
    body("tensor_named", "with a named axis", "return (right(pattern) - 1).refine_names('head')", WRONG | ERROR),
    body("tensor_conj", "lazily conjugated", "return torch.conj(right(pattern) + 1j)", WRONG),
    body(
        "tensor_neg_bit",
        "lazily negated",
        "return torch.conj(torch.complex(right(pattern), right(pattern))).imag",
        WRONG,
    ),
    body("tensor_input", "the input itself", "return pattern", WRONG),
    body(
        "tensor_input_view",
        "a view of the input, which it then changes",
        """
        pattern.fill_(1.0)
        return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        """,
        WRONG,
    ),
    body(
        "tensor_mutates",
        "right, and adds to its input",
        """
        result = right(pattern)
        pattern += 1
        return result
        """,
        WRONG,
    ),
    body(
        "tensor_mutates_storage",
        "right, and changes the input through its storage",
        """
        import ctypes
        result = right(pattern)
        ctypes.memset(pattern.data_ptr(), 0, 8)
        return result
        """,
        WRONG,
    ),
    body(
        "tensor_grad_graph",
        "wrong, with a graph that runs code backwards",
        """
        result = right(pattern.requires_grad_()) - 1
        result.register_hook(lambda g: 1 / 0)
        return result
        """,
        WRONG,
    ),
    body("tensor_offset", "off by a little more than the tolerance", "return right(pattern) * 1.001 + 1e-4", WRONG),
    body("tensor_permuted", "the heads in another order", "return right(pattern).flip(0)", WRONG),
    code(
        "tensor_subclass",
        "a subclass that calls itself equal to everything",
        """
        class Equal(torch.Tensor):
            @classmethod
            def __torch_function__(cls, function, types, args=(), kwargs=None):
                if function.__name__ in ("eq", "__eq__", "equal", "allclose", "isclose", "all", "le", "__le__"): return torch.tensor(True)
                return super().__torch_function__(function, types, args, kwargs or {})
        # %%
        def previous_token_score(pattern): return torch.zeros(pattern.shape[1]).as_subclass(Equal)
        """,
        WRONG | ERROR,
    ),
    code(
        "tensor_dispatch",
        "a wrapper that answers every question of the dispatcher",
        """
        class Wrapper(torch.Tensor):
            @staticmethod
            def __new__(cls, shape): return torch.Tensor._make_wrapper_subclass(cls, shape, dtype=torch.float32)
            @classmethod
            def __torch_dispatch__(cls, function, types, args=(), kwargs=None): return torch.ones(())
            def __repr__(self): return "tensor([])"
        # %%
        def previous_token_score(pattern): return Wrapper((pattern.shape[1],))
        """,
        WRONG | ERROR,
    ),
    code(
        "tensor_parameter_subclass",
        "a subclass of Parameter with its own type name",
        """
        class Parameter(torch.nn.Parameter):
            __class__ = torch.Tensor
            def __eq__(self, other): return torch.tensor(True)
            __hash__ = None
        # %%
        def previous_token_score(pattern): return Parameter(torch.zeros(pattern.shape[1]))
        """,
        WRONG | ERROR,
    ),
    body(
        "tensor_own_methods",
        "a plain tensor with methods of its own hung on",
        """
        result = torch.zeros(pattern.shape[1])
        truth = right(pattern)
        for name in ("cpu", "detach", "clone", "numpy", "tolist", "contiguous", "to", "double"):
            setattr(result, name, lambda *a, **k: truth - 1)
        return result
        """,
        WRONG | ERROR,
    ),
    body(
        "tensor_storage_shared",
        "wrong, in memory shared with a process that changes it",
        """
        import os, time
        result = (right(pattern) - 1).share_memory_()
        if os.fork() == 0:
            time.sleep(0.2); os._exit(0)
        return result
        """,
        STOPPED,
    ),
    body(
        "tensor_pinned_name",
        "an empty answer with a promise",
        "return torch.zeros(pattern.shape[1], dtype=torch.float32)",
        WRONG,
    ),
    body("tensor_none", "nothing", "right(pattern)", WRONG | UNATTEMPTED),
]
