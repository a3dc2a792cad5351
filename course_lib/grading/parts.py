"""A returned tuple or model next to the course's own, part by part: "`W_Q`: every number has the wrong sign"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from course_lib.grading import compare, properties, transforms, values
from course_lib.grading.evidence import make_evidence
from course_lib.grading.words import listed

MAX_NAMES = 4


def explain_parts(pairs: Sequence[tuple[Any, Any]], names: Sequence[str] = ()) -> dict[str, str]:
    """What was done to the parts that differ, as {sentence: which parts}; empty unless each is explained completely.

    Args:
        pairs: (expected, got) of the failing cases, as returned: tensors, numbers, tuples or models.
        names: names of the members of a tuple.
    """
    wanted = [_parts(expected, names) for expected, _ in pairs]
    came = [_parts(got, names) for _, got in pairs]
    if None in (*wanted, *came) or len({tuple(parts) for parts in (*wanted, *came)}) != 1:
        return {}
    differing = {
        name: _differing([(e[name], g[name]) for e, g in zip(wanted, came, strict=True)]) for name in wanted[0]
    }
    differing = {name: some for name, some in differing.items() if some}
    together = _explain([pair for some in differing.values() for pair in some]) if differing else ""
    if together and not transforms.varies(together):
        return {together: _in_words(list(differing), len(wanted[0]))}
    found: dict[str, list[str]] = {}
    for name, some in differing.items():
        sentence = _explain(some)
        if not sentence:
            return {}
        found.setdefault(sentence, []).append(name)
    return {sentence: _in_words(parts, len(wanted[0])) for sentence, parts in found.items()}


def _differing(pairs: Sequence[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
    return [pair for pair in pairs if not compare.equal(*pair)]


def _explain(pairs: Sequence[tuple[Tensor, Tensor]]) -> str:
    evidence = make_evidence(pairs)
    if evidence is None:
        return ""
    finders = (transforms.find_logarithm, properties.find_emptiness, transforms.find_transform)
    return next((sentence for finder in finders if (sentence := finder(evidence))), "")


def _parts(value: Any, names: Sequence[str]) -> dict[str, Tensor] | None:
    """The tensors of a result by name; None where it holds anything else."""
    if isinstance(value, nn.Module):
        parts = dict(value.state_dict())
    elif type(value) in (tuple, list):
        given = names if len(names) == len(value) else [f"part {index}" for index in range(len(value))]
        parts = dict(zip(given, value, strict=True))
    else:
        parts = {"": value}
    if not all(values.is_dense(part) or type(part) in (int, float) for part in parts.values()):
        return None
    return {name: compare.as_tensor(part) for name, part in parts.items()}


def _in_words(names: Sequence[str], n_parts: int) -> str:
    if len(names) == n_parts:
        return "every part of your result" if n_parts > 1 else "your result"
    shown = [f"`{name}`" for name in names[:MAX_NAMES]]
    more = len(names) - len(shown)
    return listed([*shown, f"{more} more"] if more else shown)
