"""Recorded training runs: longer than a chapter can afford, shipped as data with where they came from."""

from __future__ import annotations

import io
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from course_lib.model import ModelConfig, Transformer

FOLDER = Path(__file__).parent / "assets" / "runs"


def load_recorded(name: str) -> dict:
    """A recorded series: `provenance` (command, date, hardware, versions, corpus) and `runs`.

    Each run has `name`, `seed`, `model` (its configuration) and `records`, as in `train.History`.

    Raises:
        ValueError: no such series.
    """
    packed, plain = FOLDER / f"{name}.npz", FOLDER / f"{name}.json"
    if packed.is_file():
        return unpack(packed.read_bytes())
    if plain.is_file():
        return json.loads(plain.read_text())
    raise ValueError(f"no recorded series {name!r}; there are {_known()}. `make recorded` makes them")


def _known() -> list[str]:
    return sorted(file.stem for file in FOLDER.iterdir())


def recorded_model(name: str, step: int | None = None) -> Transformer:
    """A model of a recorded series with the weights it had after `step` steps; after the last kept one by default.

    Weights are stored with 11 significant bits (float16), which moves a loss by about 1e-4 nats.

    Args:
        name: of the file, such as "two_layers"; its steps are the keys of `load_recorded(name)["weights"]`.

    Raises:
        ValueError: no such file, one that keeps no weights, a step whose weights were not kept.
    """
    stored = load_recorded(name)
    if "weights" not in stored:
        having = [known for known in _known() if "weights" in load_recorded(known)]
        raise ValueError(f"the recorded series {name!r} keeps no weights; these do: {having}")
    steps = sorted(map(int, stored["weights"]))
    step = steps[-1] if step is None else step
    if step not in steps:
        raise ValueError(f"{name!r} keeps the weights after {steps} steps, not after {step}")
    model = Transformer(ModelConfig(**stored["model"]))
    model.load_state_dict(stored["weights"][str(step)])
    return model


def pack(value: object) -> bytes:
    """Nested lists and dicts as one compressed file: tensors of floats as float16, all else as JSON."""
    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_without_tensors(value, arrays))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, structure=np.array(structure), **arrays)
    return buffer.getvalue()


def unpack(content: bytes) -> object:
    """The inverse of `pack`; float16 comes back as float32, and a series gets its records back."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        value = json.loads(str(file["structure"]))
        return _with_tensors(value, file)


def _without_tensors(value: object, arrays: dict[str, np.ndarray]) -> object:
    if isinstance(value, Tensor):
        key = f"t{len(arrays)}"
        arrays[key] = (value.half() if value.is_floating_point() else value).cpu().numpy()
        return {"tensor": key}
    if isinstance(value, dict):
        parts = value | {"records": _columns(value["records"])} if "records" in value else value
        return {name: _without_tensors(part, arrays) for name, part in parts.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(part, arrays) for part in value]
    return round(value, 6) if isinstance(value, float) else value


def _with_tensors(value: object, file: np.lib.npyio.NpzFile) -> object:
    if isinstance(value, dict) and set(value) == {"tensor"}:
        tensor = torch.from_numpy(file[value["tensor"]])
        return tensor.float() if tensor.dtype == torch.float16 else tensor
    if isinstance(value, dict):
        parts = {name: _with_tensors(part, file) for name, part in value.items()}
        return parts | {"records": _rows(parts["records"])} if "records" in parts else parts
    return [_with_tensors(part, file) for part in value] if isinstance(value, list) else value


def _columns(records: list[dict]) -> dict:
    """One list or stacked tensor a quantity; a quantity that the first record lacks has None there."""
    names = list(dict.fromkeys(name for record in records for name in record))
    columns = {name: [record.get(name) for record in records] for name in names}
    return {name: torch.stack(v) if isinstance(v[0], Tensor) else v for name, v in columns.items()}


def _rows(columns: dict) -> list[dict]:
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def to_json(value: object) -> object:
    """Records as plain JSON values: tensors become lists, numbers keep four digits after the point."""
    if isinstance(value, torch.Tensor):
        return to_json(value.tolist())
    if isinstance(value, dict):
        return {name: to_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(part) for part in value]
    return round(value, 4) if isinstance(value, float) else value


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that is whole or absent: a new one, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        if error.errno is not None:  # a full disk names no file, and nobody knows `temporary`
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
