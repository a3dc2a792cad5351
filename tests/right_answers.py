"""Right answers to 2.2, 3.1 and 6.1 in many styles, each a list of code cells. All must score full."""

import textwrap

IMPORTS = "import math\n\nimport torch\nfrom torch import Tensor"
PLAIN_ENTROPY = """
def entropy(counts):
    p = counts / counts.sum(dim=-1, keepdim=True)
    return -torch.special.xlogy(p, p).sum(dim=-1)
"""
PLAIN_PREVIOUS = """
def previous_token_score(pattern):
    return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
"""
PLAIN_ICL = """
def icl_score(losses, early=50, late=500):
    return losses[:, :, late - 1].mean(dim=1) - losses[:, :, early - 1].mean(dim=1)
"""
SOURCES = {
    "loops": """
        def entropy(counts):
            rows = []
            for row in counts.reshape(-1, counts.shape[-1]).tolist():
                total, sum_ = sum(row), 0.0
                for n in row:
                    if n > 0:
                        sum_ -= n / total * math.log(n / total)
                rows.append(sum_)
            return torch.tensor(rows).reshape(counts.shape[:-1])
        # %%
        def previous_token_score(pattern):
            batch, heads, queries, _ = pattern.shape
            score = torch.zeros(heads)
            for b in range(batch):
                for h in range(heads):
                    for q in range(1, queries):
                        score[h] += pattern[b, h, q, q - 1]
            return score / (batch * (queries - 1))
        # %%
        def icl_score(losses, early=50, late=500):
            out = []
            for snapshot in losses:
                total = 0
                for example in snapshot:
                    total = total + example[late - 1] - example[early - 1]
                out.append(total / len(snapshot))
            return torch.stack(out)
    """,
    "einsum": """
        def entropy(counts: Tensor) -> Tensor:
            p = counts.float() / counts.sum(-1, keepdim=True)
            return -torch.einsum("...n,...n->...", p, torch.where(p > 0, p, 1.0).log())
        # %%
        def previous_token_score(pattern: Tensor) -> Tensor:
            n = pattern.shape[-1]
            select = torch.ones(n - 1).diag(-1)
            return torch.einsum("bhqk,qk->h", pattern, select) / (pattern.shape[0] * (n - 1))
        # %%
        def icl_score(losses: Tensor, early: int = 50, late: int = 500) -> Tensor:
            pick = torch.zeros(losses.shape[-1])
            pick[late - 1] += 1.0
            pick[early - 1] -= 1.0
            return torch.einsum("sei,i->s", losses, pick) / losses.shape[1]
    """,
    "einops": """
        from einops import einsum, rearrange, reduce
        # %%
        def entropy(counts):
            flat = rearrange(counts, "... n -> (...) n")
            p = flat / reduce(flat, "r n -> r 1", "sum")
            return (-reduce(torch.xlogy(p, p), "r n -> r", "sum")).reshape(counts.shape[:-1])
        # %%
        def previous_token_score(pattern):
            return reduce(torch.diagonal(pattern, -1, -2, -1), "b h q -> h", "mean")
        # %%
        def icl_score(losses, early=50, late=500):
            by_token = reduce(losses, "s e i -> s i", "mean")
            return by_token[:, late - 1] - by_token[:, early - 1]
    """,
    "numpy": """
        import numpy as np
        # %%
        def entropy(counts):
            c = counts.numpy().astype(np.float64)
            p = c / c.sum(-1, keepdims=True)
            with np.errstate(divide="ignore", invalid="ignore"):
                return torch.as_tensor(np.asarray(-np.where(p > 0, p * np.log(p), 0).sum(-1)))
        # %%
        def previous_token_score(pattern):
            array = pattern.detach().cpu().numpy()
            return torch.from_numpy(np.diagonal(array, -1, 2, 3).mean(axis=(0, 2)).copy())
        # %%
        def icl_score(losses, early=50, late=500):
            mean = losses.numpy().mean(1)
            return torch.from_numpy(mean[:, late - 1] - mean[:, early - 1])
    """,
    "float64": """
        torch.set_printoptions(precision=3)
        # %%
        def entropy(counts):
            p = counts.double() / counts.double().sum(-1, keepdim=True)
            return torch.distributions.Categorical(probs=p).entropy() if (p > 0).all() else -torch.xlogy(p, p).sum(-1)
        # %%
        def previous_token_score(pattern):
            return pattern.double().diagonal(-1, -2, -1).flatten(2).mean((0, 2))
        # %%
        def icl_score(losses, early=50, late=500):
            return (losses[..., late - 1].double() - losses[..., early - 1].double()).mean(-1)
    """,
    "helpers": """
        EPS = 0
        def shares(counts):
            return counts / totals(counts)
        # %%
        def previous(pattern, back=1):
            return pattern.diagonal(offset=-back, dim1=2, dim2=3)
        def entropy(counts):
            return surprise(shares(counts)).sum(-1)
        # %%
        def surprise(p):
            return -torch.xlogy(p, p + EPS)
        # %%
        def totals(counts):
            return counts.sum(-1, keepdim=True)
        # %%
        def previous_token_score(pattern):
            return average(previous(pattern))
        # %%
        def average(x):
            return x.mean(2).mean(0)
        # %%
        column = lambda losses, token: losses[:, :, token - 1].mean(1)
        # %%
        def icl_score(losses, early=50, late=500):
            return column(losses, late) - column(losses, early)
    """,
    "classes": """
        from functools import partial
        # %%
        class Scorer:
            offset = -1
            def __init__(self, scale=1.0):
                self.scale = scale
            def __call__(self, pattern):
                return self.scale * pattern.diagonal(self.offset, -2, -1).mean((0, -1))
        # %%
        previous_token_score = Scorer()
        # %%
        class Entropy:
            @staticmethod
            def of(counts, base):
                p = counts / counts.sum(-1, keepdim=True)
                return -torch.xlogy(p, p).sum(-1) / math.log(base)
        # %%
        entropy = partial(Entropy.of, base=math.e)
        # %%
        class Losses:
            def __init__(self, losses): self.mean = losses.mean(1)
            def at(self, token): return self.mean[:, token - 1]
        # %%
        def icl_score(losses, early=50, late=500):
            them = Losses(losses)
            return them.at(late) - them.at(early)
    """,
    "lambdas": """
        entropy = lambda counts: (lambda p: -torch.xlogy(p, p).sum(-1))(counts / counts.sum(-1, keepdim=True))
        # %%
        previous_token_score = lambda pattern: pattern.diagonal(-1, -2, -1).mean((0, -1))
        # %%
        icl_score = lambda losses, early=50, late=500: losses.mean(1)[:, late - 1] - losses.mean(1)[:, early - 1]
    """,
    "recursive": """
        def plogp(values):
            if len(values) == 0:
                return torch.tensor(0.0)
            head, *tail = values
            return -torch.xlogy(head, head) + plogp(tail)
        # %%
        def entropy(counts):
            if counts.ndim == 1:
                return plogp(list(counts / counts.sum()))
            return torch.stack([entropy(row) for row in counts])
        # %%
        def previous_token_score(pattern):
            def along(q):
                here = pattern[:, :, q, q - 1]
                return here if q == 1 else here + along(q - 1)
            return along(pattern.shape[-1] - 1).mean(0) / (pattern.shape[-1] - 1)
        # %%
        def icl_score(losses, early=50, late=500):
            if losses.ndim == 1:
                return losses[late - 1] - losses[early - 1]
            parts = torch.stack([icl_score(part, early, late) for part in losses])
            return parts.mean() if losses.ndim == 2 else parts
    """,
    "noisy": """
        import logging, sys, warnings
        logging.basicConfig(level=logging.DEBUG)
        print("this cell prints")
        # %%
        def entropy(counts):
            print("counts", counts, file=sys.stderr)
            warnings.warn("xlogy may be slow")
            sys.stderr.write("noise\\n" * 1000)
            p = counts / counts.sum(dim=-1, keepdim=True)
            return -torch.special.xlogy(p, p).sum(dim=-1)
        # %%
        def previous_token_score(pattern):
            logging.error("not really"); logging.getLogger("x").debug("%s", pattern)
            torch.nn.functional.softmax(pattern)  # warns: implicit dimension
            for n in range(100): print("line", n)
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        def icl_score(losses, early=50, late=500):
            from tqdm import tqdm
            total = 0
            for example in tqdm(range(losses.shape[1])):
                total = total + losses[:, example, late - 1] - losses[:, example, early - 1]
            return total / losses.shape[1]
    """,
    "slow": """
        import time
        slept = set()
        def nap(name):
            if name not in slept:
                slept.add(name); time.sleep(0.9)
        # %%
        def entropy(counts):
            nap("entropy")
            p = counts / counts.sum(dim=-1, keepdim=True)
            return -torch.special.xlogy(p, p).sum(dim=-1)
        # %%
        def previous_token_score(pattern):
            nap("previous")
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        def icl_score(losses, early=50, late=500):
            nap("icl")
            return losses[:, :, late - 1].mean(dim=1) - losses[:, :, early - 1].mean(dim=1)
    """,
    "threads": """
        import os
        os.environ["OMP_NUM_THREADS"] = "2"
        torch.set_num_threads(2)
        # %%
        def entropy(counts):
            torch.set_num_threads(2)
            p = counts / counts.sum(dim=-1, keepdim=True)
            torch.rand(400, 400) @ torch.rand(400, 400)
            return -torch.special.xlogy(p, p).sum(dim=-1)
        # %%
        def previous_token_score(pattern):
            torch.set_num_threads(2)
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        def icl_score(losses, early=50, late=500):
            from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(2) as pool:
                first, last = pool.map(lambda token: losses[:, :, token - 1].mean(1), (early, late))
            return last - first
    """,
    "typed": """
        from __future__ import annotations
        from dataclasses import dataclass, field
        from enum import Enum
        from typing import NamedTuple, Protocol, TypeVar
        from jaxtyping import Float, Int
        # %%
        T = TypeVar("T", bound=Tensor)
        class Axis(Enum):
            QUERY = -2
            KEY = -1
        # %%
        @dataclass(frozen=True, slots=True)
        class Window:
            early: int
            late: int
            def score(self, losses: Float[Tensor, "snapshot example index"]) -> Float[Tensor, "snapshot"]:
                return losses.mean(1)[:, self.late - 1] - losses.mean(1)[:, self.early - 1]
        # %%
        class Row(NamedTuple):
            p: Tensor
            nats: Tensor
        # %%
        def entropy(counts: Int[Tensor, "*rows n"]) -> Float[Tensor, "*rows"]:
            row = Row(p := counts / counts.sum(-1, keepdim=True), -torch.xlogy(p, p).sum(-1))
            return row.nats
        # %%
        def previous_token_score(pattern: Float[Tensor, "b h q k"]) -> Float[Tensor, "h"]:
            return pattern.diagonal(-1, Axis.QUERY.value, Axis.KEY.value).mean((0, -1))
        # %%
        def icl_score(losses: Float[Tensor, "s e i"], early: int = 50, late: int = 500) -> Float[Tensor, "s"]:
            return Window(early=early, late=late).score(losses)
    """,
    "generators": """
        import itertools
        # %%
        def terms(row):
            total = row.sum()
            yield from (-(n / total) * (n / total).log() for n in row if n)
        # %%
        def entropy(counts):
            rows = counts.reshape(-1, counts.shape[-1])
            return torch.stack([sum(terms(row), torch.tensor(0.0)) for row in rows]).reshape(counts.shape[:-1])
        # %%
        def previous_token_score(pattern):
            def weights():
                for query, key in itertools.pairwise(range(pattern.shape[-1])):
                    yield pattern[:, :, key, query]
            return torch.stack(list(weights())).mean((0, 1))
        # %%
        def icl_score(losses, early=50, late=500):
            return torch.stack([a - b for a, b in zip(*(losses[..., token - 1].mean(1) for token in (late, early)))])
    """,
    "modules": """
        import torch.nn as nn
        # %%
        class Entropy(nn.Module):
            def __init__(self):
                super().__init__()
                self.sign = nn.Parameter(torch.tensor(-1.0))
            def forward(self, counts):
                p = counts / counts.sum(-1, keepdim=True)
                return self.sign * torch.xlogy(p, p).sum(-1)
        # %%
        class Previous(nn.Module):
            def forward(self, pattern):
                return nn.functional.avg_pool1d(pattern.diagonal(-1, -2, -1), pattern.shape[-1] - 1)[..., 0].mean(0)
        # %%
        class Score(nn.Module):
            def forward(self, losses, early, late):
                mean = losses.mean(1)
                return mean.index_select(1, torch.tensor([late - 1])).squeeze(1) - mean[:, early - 1]
        # %%
        model = Entropy()
        def entropy(counts): return model(counts)
        # %%
        def previous_token_score(pattern): return Previous()(pattern)
        # %%
        def icl_score(losses, early=50, late=500): return Score()(losses, early, late)
    """,
    "asserts": """
        def entropy(counts):
            assert counts.ndim >= 1 and not counts.is_floating_point(), counts.dtype
            p = counts / counts.sum(dim=-1, keepdim=True)
            result = -torch.special.xlogy(p, p).sum(dim=-1)
            assert (result >= -1e-6).all()
            return result
        # %%
        assert torch.isclose(entropy(torch.tensor([1, 1])), torch.tensor(math.log(2)))
        entropy(torch.tensor([[3, 0, 1]]))
        # %%
        def previous_token_score(pattern):
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        import matplotlib_that_is_not_here
        plot = matplotlib_that_is_not_here.show(previous_token_score(torch.eye(4)[None, None]))
        # %%
        raise RuntimeError("an experiment that failed")
        # %%
        def test_icl():
            assert icl_score(torch.ones(1, 1, 500)) == 0
        def icl_score(losses, early=50, late=500):
            return losses[:, :, late - 1].mean(dim=1) - losses[:, :, early - 1].mean(dim=1)
        test_icl()
    """,
    "duplicates": """
        def entropy(counts): raise NotImplementedError("your code here")
        # %%
        def entropy(counts): return counts.sum()
        # %%
        def previous_token_score(pattern): return pattern
        # %%
        def icl_score(losses, early=50, late=500): return 1 / 0
    """
    + f"# %%\n{PLAIN_ENTROPY}# %%\n{PLAIN_PREVIOUS}# %%\n{PLAIN_ICL}# %%\n{PLAIN_ICL}",
    "magics": """
        %matplotlib inline
        !pip install einops
        %load_ext autoreload
        # %%
        %%time
        def entropy(counts):
            p = counts / counts.sum(dim=-1, keepdim=True)
            return -torch.special.xlogy(p, p).sum(dim=-1)
        # %%
        def previous_token_score(pattern):
            return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        %timeit previous_token_score(torch.rand(1, 1, 4, 4))
        previous_token_score?
        # %%
        files = !ls
        def icl_score(losses, early=50, late=500):
            return losses[:, :, late - 1].mean(dim=1) - losses[:, :, early - 1].mean(dim=1)
    """,
    "global_state": """
        cache = {}
        calls = 0
        torch.manual_seed(7)
        DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        # %%
        @torch.no_grad()
        def entropy(counts):
            global calls
            calls += 1
            key = tuple(counts.flatten().tolist()), counts.shape
            if key not in cache:
                p = counts / counts.sum(dim=-1, keepdim=True)
                cache[key] = -torch.special.xlogy(p, p).sum(dim=-1)
            return cache[key]
        # %%
        @torch.inference_mode()
        def previous_token_score(pattern):
            pattern = pattern.clone().to(DEVICE)
            pattern[:, :, 0] = 0
            return torch.diagonal(pattern, offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        # %%
        def icl_score(losses, early=50, late=500):
            try:
                return losses[:, :, late - 1].mean(dim=1) - losses[:, :, early - 1].mean(dim=1)
            except IndexError as error:
                raise ValueError("too short") from error
    """,
    "guarded": """
        try:
            from einops import reduce
        except ImportError:
            reduce = None
        try:
            from no_such_package import entropy
        except ImportError:
            def entropy(counts):
                p = counts / counts.sum(dim=-1, keepdim=True)
                return -torch.special.xlogy(p, p).sum(dim=-1)
        # %%
        if hasattr(torch, "diagonal"):
            def previous_token_score(pattern):
                return reduce(torch.diagonal(pattern, -1, -2, -1), "b h q -> h", "mean")
        else:
            def previous_token_score(pattern):
                return None
        # %%
        with torch.no_grad():
            ONE = torch.ones(())
            def icl_score(losses, early=50, late=500):
                return ONE * (losses[:, :, late - 1].mean(dim=1) - losses[:, :, early - 1].mean(dim=1))
    """,
    "tables": """
        from collections import defaultdict
        AXES = {}
        AXES["last"] = -1
        AXES.update(first=0)
        OFFSETS = []
        for step in range(1, 3):
            OFFSETS.append(-step)
        SCALE = 0.5
        SCALE *= 2
        first, *others = OFFSETS
        (EARLY := 1)
        class Options: pass
        Options.dims = (-2, -1)
        setattr(Options, "mean_over", (0, -1))
        counter = defaultdict(int)
        # %%
        def entropy(counts):
            p = counts / counts.sum(dim=AXES["last"], keepdim=True)
            counter["entropy"] += 1
            return -SCALE * torch.special.xlogy(p, p).sum(dim=entropy.axis)
        entropy.axis = -1
        # %%
        def previous_token_score(pattern):
            return torch.diagonal(pattern, first, *Options.dims).mean(dim=Options.mean_over)
        # %%
        SHIFT = {name: EARLY for name in ("late", "early")}
        def icl_score(losses, early=50, late=500):
            return losses[:, :, late - SHIFT["late"]].mean(dim=1) - losses[:, :, early - SHIFT["early"]].mean(dim=1)
    """,
    "checked": """
        class Answers:
            def entropy_of(self, counts):
                p = counts / counts.sum(dim=-1, keepdim=True)
                return -torch.special.xlogy(p, p).sum(dim=-1)
        # %%
        def previous_token_score(pattern): return pattern.sum()
        check("2.2", Answers().entropy_of)
        check("3.1", previous_token_score)
        # %%
        def second_attempt(pattern): return pattern.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=(0, -1))
        check("3.1", second_attempt)
        # %%
        exec("def icl_score(losses, early=50, late=500): return (losses[..., late-1] - losses[..., early-1]).mean(1)")
        check("6.1", icl_score)
    """,
    "modern": """
        from torch.func import vmap
        # %%
        def entropy(counts, /, *, base=None):
            match counts.ndim:
                case 1: return -sum(torch.xlogy(p := n / counts.sum(), p) for n in counts)
                case _: return torch.stack([entropy(row) for row in counts])
        # %%
        def previous_token_score(pattern):
            one_head = lambda p: torch.stack([row.diagonal(-1).mean() for row in p]).mean()
            return vmap(lambda p: p.diagonal(-1, -2, -1).mean(), in_dims=1)(pattern)
        # %%
        def icl_score(losses, early=50, late=500):
            return torch.func.vmap(lambda one: (one[:, late - 1] - one[:, early - 1]).mean())(losses)
    """,
}


def styles() -> dict[str, list[str]]:
    """The cells of each style, imports first."""
    found = {}
    for name, source in SOURCES.items():
        head, mark, tail = source.partition("# %%\n\ndef")
        text = textwrap.dedent(head) + (mark + tail)
        found[name] = [IMPORTS, *(cell.strip() for cell in text.strip().split("# %%\n"))]
    return found
