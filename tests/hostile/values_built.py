"""Wrong results for exercises that return a tuple of weights or a whole model."""

from tests.hostile.entry import CRASHED, ERROR, OOM, TIMEOUT, WRONG, body, code

BAD = WRONG | ERROR
ENTRIES = [
    body("built_short_tuple", "one of two weights", "return (torch.zeros(1),)", BAD, exercise="3.3"),
    body(
        "built_long_tuple",
        "three weights where two are wanted",
        "return torch.zeros(1), torch.zeros(1), torch.zeros(1)",
        BAD,
        exercise="3.3",
    ),
    body(
        "built_nan_weights",
        "weights of NaN",
        """
        m, h = 3 * d_vocab + n_ctx, d_vocab
        return torch.full((m, h), float('nan')), torch.full((h, m), float('nan'))
        """,
        BAD,
        exercise="3.3",
    ),
    body(
        "built_inf_weights",
        "weights of infinity",
        """
        m, h = 3 * d_vocab + n_ctx, d_vocab
        return torch.full((m, h), float('inf')), torch.full((h, m), float('inf'))
        """,
        BAD,
        exercise="3.3",
    ),
    body("built_text_weight", "a text among the weights", "return torch.zeros(1), 'W_O'", BAD, exercise="3.3"),
    body(
        "built_dict",
        "a dictionary of weights",
        "return {'W_V': torch.zeros(1), 'W_O': torch.zeros(1)}",
        BAD,
        exercise="3.3",
    ),
    body(
        "built_second_differs",
        "right weights once, then others",
        """
        n = previous_token_value_output.__dict__.setdefault('n', [0]); n[0] += 1
        m, h = 3 * d_vocab + n_ctx, max(d_vocab, n_ctx)
        return torch.full((m, h), float(n[0])), torch.full((h, m), float(n[0]))
        """,
        BAD,
        exercise="3.3",
    ),
    code(
        "built_tuple_subclass",
        "a tuple that is as long as it is asked to be",
        """
        class Pair(tuple):
            def __len__(self): return 2
            def __iter__(self): return iter((torch.zeros(1), torch.zeros(1)))
            def __eq__(self, other): return True
            __hash__ = None
        # %%
        def previous_token_value_output(d_vocab, n_ctx): return Pair()
        """,
        BAD,
        exercise="3.3",
    ),
    code(
        "built_named_tuple",
        "a named tuple with wrong weights",
        """
        from typing import NamedTuple
        # %%
        class Weights(NamedTuple):
            W_V: torch.Tensor
            W_O: torch.Tensor
        # %%
        def previous_token_value_output(d_vocab, n_ctx): return Weights(torch.zeros(1), torch.zeros(1))
        """,
        BAD,
        exercise="3.3",
    ),
    body("built_no_model", "a dictionary where a model is wanted", "return {'config': None}", BAD, exercise="4.2"),
    body("built_linear", "another kind of model", "return torch.nn.Linear(2, 2)", BAD, exercise="4.2"),
    body("built_empty_module", "a model without parameters", "return torch.nn.Module()", BAD, exercise="4.2"),
    code(
        "built_subclass",
        "a subclass whose forward pass knows the answer, without weights",
        """
        from course_lib.handbuilt import subspaces
        from course_lib import model as library
        # %%
        class Oracle(library.Transformer):
            def forward(self, tokens, *args, **kwargs):
                open("@MARKS@/@TOKEN@_forward", "w").close()
                return torch.nn.functional.one_hot(tokens.roll(-1, 1), self.config.d_vocab).float() * 100
            def __deepcopy__(self, memo): return self
            def state_dict(self, *args, **kwargs): return {k: torch.zeros_like(v) for k, v in super().state_dict(*args, **kwargs).items()}
        # %%
        def induction_model(d_vocab, n_ctx):
            from course_lib.config import ModelConfig
            return Oracle(ModelConfig(d_vocab=d_vocab, n_ctx=n_ctx, d_model=3 * d_vocab + n_ctx, d_head=max(d_vocab, n_ctx), n_heads=1, n_layers=2))
        """,
        BAD,
        exercise="4.2",
    ),
    code(
        "built_patched_class",
        "weights of zero, in a model whose class was taught the answer",
        """
        from course_lib import model as library
        from course_lib.config import ModelConfig
        # %%
        def taught(self, tokens, *args, **kwargs):
            logits = torch.zeros(*tokens.shape, self.config.d_vocab)
            for b, row in enumerate(tokens.tolist()):
                for i, token in enumerate(row):
                    for j in range(i):
                        if row[j] == token: logits[b, i, row[j + 1]] = 100.0
            return logits
        # %%
        def induction_model(d_vocab, n_ctx):
            for name in ("forward", "__call__", "run_with_cache"): setattr(library.Transformer, name, taught)
            shape = dict(d_model=3 * d_vocab + n_ctx, d_head=max(d_vocab, n_ctx), n_heads=1, n_layers=2)
            model = library.Transformer(ModelConfig(d_vocab=d_vocab, n_ctx=n_ctx, **shape))
            return model
        """,
        BAD,
        exercise="4.2",
    ),
    code(
        "built_fake_module",
        "a module that spoofs class, configuration and state",
        """
        class Fake(torch.nn.Module):
            class config:
                def __eq__(self, other): return True
            config = config()
            def state_dict(self, *args, **kwargs): return {"x": "not a tensor", 7: None}
            def __getattr__(self, name): return self
        # %%
        def induction_model(d_vocab, n_ctx): return Fake()
        """,
        BAD | CRASHED,
        exercise="4.2",
    ),
    code(
        "built_huge_config",
        "a model whose configuration asks for 10 ** 12 parameters",
        """
        import copy, dataclasses
        from course_lib import model as library
        # %%
        class Claim(torch.nn.Module):
            def __init__(self, config):
                super().__init__(); self.config = config
        # %%
        def induction_model(d_vocab, n_ctx):
            from course_lib.config import ModelConfig
            config = ModelConfig(d_vocab=d_vocab, n_ctx=n_ctx, d_model=64, d_head=32, n_heads=1, n_layers=1)
            model = library.Transformer(config)
            for field, value in (("d_vocab", 10 ** 6), ("d_model", 10 ** 6), ("n_layers", 10 ** 6), ("n_ctx", 10 ** 6)):
                object.__setattr__(config, field, value)
            return model
        """,
        BAD | OOM | TIMEOUT | CRASHED,
        exercise="4.2",
    ),
    code(
        "built_odd_config",
        "a model whose configuration holds texts, negative numbers and objects",
        """
        from course_lib import model as library
        # %%
        def induction_model(d_vocab, n_ctx):
            from course_lib.config import ModelConfig
            model = library.Transformer(ModelConfig(d_vocab=d_vocab, n_ctx=n_ctx, d_model=64, d_head=32, n_heads=1, n_layers=1))
            for field, value in (("d_vocab", -5), ("n_layers", "many"), ("d_head", None), ("n_heads", 0)):
                object.__setattr__(model.config, field, value)
            return model
        """,
        BAD | CRASHED,
        exercise="4.2",
    ),
    body(
        "built_recursive_module",
        "a module that holds itself",
        """
        m = torch.nn.Module()
        m.__dict__['_modules']['again'] = m
        return m
        """,
        BAD | CRASHED | TIMEOUT,
        exercise="4.2",
    ),
    body(
        "built_many_modules",
        "a module of 20,000 parts",
        "return torch.nn.Sequential(*[torch.nn.Linear(1, 1) for _ in range(20_000)])",
        BAD | TIMEOUT | OOM,
        exercise="4.2",
    ),
]
