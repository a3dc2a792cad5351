"""tools/other_seeds.py: every seed of a chapter moves, and a claim that holds for one seed only is found."""

from __future__ import annotations

import json

from tools import other_seeds

CHAPTER = """\
```{code-cell} ipython3
import torch
SEED = 0
LIVE, SEED = True, SEED
first = torch.rand(1, generator=torch.Generator().manual_seed(0)).item()
```

```{code-cell} ipython3
%time print("magics are left out")
def seeded(seed=7):
    return seed
assert seeded(seed=3) == 4
```

```{code-cell} ipython3
assert abs(first - 0.4963) < 0.001, "one lucky seed"
```

```{code-cell} ipython3
assert 0 < torch.tensor([1, 2]).min() and (torch.tensor([3.0, 5.0]) > SEED).all()
assert all(each > 0 for each in (1, 2)), "names of a comprehension"
```

```{code-cell} ipython3
still_runs = seeded()
```
"""
HEAD = "---\njupytext: {formats: md:myst}\nkernelspec: {name: python3, display_name: Python 3}\n---\n\n"


def test_seeds_move_and_a_claim_that_rests_on_one_is_named(tmp_path):
    chapter = tmp_path / "99_lucky.md"
    chapter.write_text(HEAD + CHAPTER, encoding="utf-8")
    moved, failed, _ = other_seeds.run_with_shift(chapter, 0)
    assert (moved, len(failed)) == (3, 1) and "assert seeded(seed=3) == 4" not in failed[0]
    moved, failed, slacks = other_seeds.run_with_shift(chapter, 1)
    assert moved == 3
    assert len(failed) == 1 and "one lucky seed" in failed[0] and "line 1" in failed[0]
    assert slacks.pop("abs(first - 0.4963) < 0.001") < -0.001
    assert slacks == {"0 < torch.tensor([1, 2]).min()": 1.0, "torch.tensor([3.0, 5.0]) > SEED": 2.0}


def test_a_margin_is_the_mean_slack_in_standard_deviations():
    runs = [{"slacks": {"a < b": slack, "same": 1.0}} for slack in (1.0, 2.0, 3.0)]
    assert other_seeds.margins(runs) == {"a < b": 2.0}


def test_the_kept_record_makes_the_table_of_the_status_page():
    record = json.loads(other_seeds.RECORD.read_text(encoding="utf-8"))
    lines = other_seeds.table(record).splitlines()
    assert len(lines) == 2 + len(record)
    for chapter, runs in record.items():
        assert len(runs) >= 2 and all(run["moved"] > 0 for run in runs), chapter
        assert not any(run["failed"] for run in runs), chapter
        assert not [text for text, margin in other_seeds.margins(runs).items() if margin < 2.5], chapter
