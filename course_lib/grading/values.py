"""What may come out of an answer: tensors, numbers, tuples, models. Described, copied, checked for their kind."""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_FULL_PRECISION = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class Opaque:
    """Stands for a result that cannot be sent from process to process; it equals nothing but itself.

    Attributes:
        text: what `describe` said of the result where it was.
    """

    text: str


class OpaqueModule(nn.Module):
    """Stands for a model of another class than the course's: what is known of it, and its parameters.

    Args of the constructor:
        text: what `describe` said of the model where it was.
        config: its configuration, if it had one like the course's.
        state: its parameters and buffers by name.
    """

    def __init__(self, text: str, config: Any, state: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.text, self.config, self._state = text, config, dict(state)

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Tensor]:
        """The parameters and buffers, as they came."""
        return dict(self._state)


def is_tensor(value: Any) -> bool:
    """True for a plain tensor or parameter. Subclasses do not count: they may redefine what equality means."""
    return type(value) in (Tensor, nn.Parameter)


def is_dense(value: Any) -> bool:
    """True for a plain tensor whose numbers can be read."""
    return is_tensor(value) and value.layout == torch.strided and not value.is_meta


def _is_array(value: Any) -> bool:
    return type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "shape")


def _article(noun: str) -> str:
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"


def describe(value: Any) -> str:
    """The kind of a value in words, never its content: "a tensor of shape [2, 3], float32"."""
    if value is None:
        return "None"
    if type(value) in (Opaque, OpaqueModule):
        return value.text
    if isinstance(value, Tensor):
        noun = "tensor" if is_tensor(value) else f"{type(value).__name__} (a subclass of torch.Tensor)"
        where = "" if value.device.type == "cpu" else f", on {value.device.type}"
        return f"{_article(noun)} of shape {list(value.shape)}, {_dtype_name(value.dtype)}{where}"
    if _is_array(value):
        return f"a numpy {type(value).__name__} of shape {list(value.shape)}, {value.dtype}"
    if isinstance(value, tuple | list):
        parts = ", ".join(describe(part) for part in value[:4]) + (", ..." if len(value) > 4 else "")
        return f"a {type(value).__name__} of {len(value)}" + (f" ({parts})" if value else "")
    return _article(type(value).__name__)


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def clone(value: Any) -> Any:
    """An independent copy of tensors, arrays, models and the containers around them; other values as they are."""
    if is_tensor(value):
        return value.detach().clone()
    if isinstance(value, nn.Module):
        return copy.deepcopy(value, _empty_dictionaries(value))
    if _is_array(value):
        return copy.deepcopy(value)
    if type(value) in (tuple, list):
        return type(value)(clone(part) for part in value)
    if type(value) is dict:
        return {key: clone(part) for key, part in value.items()}
    return value


def _empty_dictionaries(module: nn.Module) -> dict[int, OrderedDict[Any, Any]]:
    """Copies of a model's many empty dictionaries of hooks, on which `deepcopy` else spends half of its time."""
    parts = (part for one in module.modules() for part in vars(one).values())
    return {id(part): OrderedDict() for part in parts if type(part) is OrderedDict and not part}


def same(before: Any, after: Any) -> bool:
    """True when two values are equal bit for bit, NaN included; used to notice a changed input."""
    if isinstance(before, Tensor):
        if not isinstance(after, Tensor) or before.shape != after.shape or before.dtype != after.dtype:
            return False
        equal = torch.equal(before, after)
        return equal or bool(((before == after) | ((before != before) & (after != after))).all())
    if isinstance(before, nn.Module):
        return same(before.state_dict(), after.state_dict())
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(same(part, after[key]) for key, part in before.items())
    if isinstance(before, tuple | list):
        return len(before) == len(after) and all(same(*parts) for parts in zip(before, after, strict=True))
    if _is_array(before):
        return same(torch.as_tensor(before), torch.as_tensor(after))
    return before is after or bool(before == after)


def mismatch(expected: Any, got: Any, name: str = "Your result", parts: Sequence[str] = ()) -> str:
    """One sentence on the first difference in type, length, shape or dtype; empty where there is none.

    Shapes must be exactly equal (nothing is broadcast). Float32 and float64 may stand for each other, and so may
    the integer types; a bool is no integer, an integer no float. `parts` names the members of an expected tuple.
    """
    if isinstance(expected, nn.Module):
        return _module_mismatch(expected, got, name)
    if isinstance(expected, tuple):
        if type(got) not in (tuple, list) or len(got) != len(expected):
            wanted = f" ({', '.join(parts)})" if parts else ""
            return f"{name} is {describe(got)}; wanted is a tuple of {len(expected)}{wanted}.{_forgotten(got)}"
        names = parts or tuple(f"Part {index} of your result" for index in range(len(expected)))
        found = (mismatch(*pair) for pair in zip(expected, got, names, strict=True))
        return next((sentence for sentence in found if sentence), "")
    if isinstance(expected, Tensor):
        return _tensor_mismatch(expected, got, name)
    if type(expected) in (float, int):
        number = type(got) in (float, int) or (is_tensor(got) and got.ndim == 0 and _kind(got) in ("float", "integer"))
        return "" if number else f"{name} is {describe(got)}; wanted is a plain number.{_how_to_get_a_number(got)}"
    return "" if type(got) is type(expected) else f"{name} is {describe(got)}; wanted is {describe(expected)}."


def _kind(value: Tensor) -> str:
    if value.dtype == torch.bool:
        return "bool"
    if value.is_complex():
        return "complex"
    if not value.is_floating_point():
        return "integer"
    return "float" if value.dtype in _FULL_PRECISION else _dtype_name(value.dtype)


def _tensor_mismatch(expected: Tensor, got: Any, name: str) -> str:
    if not is_tensor(got):
        return f"{name} is {describe(got)}; wanted is {describe(expected)}.{_how_to_convert(expected, got)}"
    if not is_dense(got):
        return f"{name} is a tensor without ordinary storage ({got.layout}, {got.device}); wanted is a dense one."
    if got.shape != expected.shape:
        return f"{name} has shape {list(got.shape)}; wanted is {list(expected.shape)}.{_compare_shapes(expected, got)}"
    if _kind(got) != _kind(expected):
        convert = _CONVERT.get(_kind(expected), "")
        return f"{name} has dtype {_dtype_name(got.dtype)}; wanted is {_dtype_name(expected.dtype)}.{convert}"
    return ""


_CONVERT = {
    "integer": " `.long()` makes whole numbers.",
    "float": " `.float()` makes float32.",
    "bool": " `.bool()` makes True and False.",
}


def _compare_shapes(expected: Tensor, got: Tensor) -> str:
    if got.ndim != expected.ndim:
        n, more = abs(got.ndim - expected.ndim), got.ndim > expected.ndim
        counted = "One axis" if n == 1 else f"{n} axes"
        return f" {counted} too many." if more else f" {counted} too few."
    if len(got.shape) > 1 and got.shape == expected.shape[::-1]:
        return " The axes stand in the opposite order."
    moved = [axis for axis in range(got.ndim) if got.shape[axis] != expected.shape[axis]]
    if len(moved) == 2 and [got.shape[axis] for axis in moved] == [expected.shape[axis] for axis in reversed(moved)]:
        return f" Axes {moved[0]} and {moved[1]} stand in the opposite order."
    return ""


def _module_mismatch(expected: nn.Module, got: Any, name: str) -> str:
    if not isinstance(got, nn.Module):
        return f"{name} is {describe(got)}; wanted is {describe(expected)}.{_forgotten(got)}"
    if getattr(got, "config", None) != getattr(expected, "config", None):
        return f"{name} has another configuration: {_config_difference(expected.config, getattr(got, 'config', None))}."
    wanted, given = expected.state_dict(), got.state_dict()
    if wanted.keys() != given.keys():
        return f"{name} has other parameters than wanted: {sorted(wanted.keys() ^ given.keys())}."
    found = (_tensor_mismatch(wanted[key], given[key], f"{key} of your model") for key in wanted)
    return next((sentence for sentence in found if sentence), "")


def _config_difference(expected: Any, got: Any) -> str:
    if type(got) is not type(expected):
        return f"{got}; wanted is {expected}"
    wanted, given = vars(expected), vars(got)
    return ", ".join(f"{key} is {given[key]}; wanted is {wanted[key]}" for key in wanted if given[key] != wanted[key])


def _forgotten(got: Any) -> str:
    return " Did you forget `return`?" if got is None else ""


def _how_to_convert(expected: Tensor, got: Any) -> str:
    if _is_array(got):
        return " Stay in torch, or end with `torch.from_numpy(...)`."
    if type(got) in (float, int):
        return " Leave out `.item()` or `float(...)`, so that the result stays a tensor."
    if type(got) in (list, tuple):
        if not any(isinstance(part, Tensor) for part in got):
            return " `torch.tensor` makes a tensor out of a list of numbers."
        if _joins_to(expected, got):
            return " `torch.cat` joins a list of tensors along an axis that they have."
        return " `torch.stack` makes one tensor out of a list of tensors."
    return _forgotten(got)


def _joins_to(expected: Tensor, parts: Sequence[Any]) -> bool:
    """True where the parts, one after the other along axis 0, have the shape that is wanted."""
    if expected.ndim == 0 or not all(is_dense(part) and part.shape[1:] == expected.shape[1:] for part in parts):
        return False
    return all(part.ndim for part in parts) and sum(len(part) for part in parts) == len(expected)


def _how_to_get_a_number(got: Any) -> str:
    if (_is_array(got) or is_dense(got)) and math.prod(got.shape) == 1:
        return " `.item()` takes the one number out of it."
    if type(got) in (list, tuple) and len(got) == 1:
        return " `[0]` takes the one member out of it."
    return _forgotten(got)


def trusted(expected: Any, got: Any) -> Any:
    """`got`, which has the kind of `expected`, rebuilt from plain CPU tensors of its precision.

    A model becomes one of our own class.
    """
    if isinstance(expected, nn.Module):
        model = copy.deepcopy(expected)
        model.load_state_dict({key: value.detach().cpu() for key, value in got.state_dict().items()})
        return model
    if isinstance(expected, tuple):
        return tuple(trusted(*pair) for pair in zip(expected, got, strict=True))
    if not isinstance(got, Tensor):
        return got
    got = got.detach().cpu()
    both_float = isinstance(expected, Tensor) and expected.is_floating_point() and got.is_floating_point()
    return got.to(expected.dtype) if both_float else got  # a measure multiplies it with others of that precision
