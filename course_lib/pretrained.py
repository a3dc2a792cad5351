"""Published weights in the course's `Transformer`: GPT-2 and GPT-NeoX (Pythia), by folder, by name, by training step.

Nothing is downloaded unless asked for. The tokenizer is not part of this: `Tokenizer.from_pretrained` of the package
`tokenizers`, or `AutoTokenizer.from_pretrained` of `transformers`, gets it by the same name.
"""

from __future__ import annotations

import json
import re
from bisect import bisect
from pathlib import Path

import torch
from torch import Tensor

from course_lib.formats import configure, convert
from course_lib.model import Transformer

PYTHIA_STEPS = (0, *(2**n for n in range(10)), *range(1000, 143_001, 1000))  # the 154 revisions of each model
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")  # looked for in this order, whole or in shards
HUB_NAME = r"[\w-][\w.-]*(/[\w-][\w.-]*)?"


def load_pretrained(name_or_folder: str | Path, step: int | None = None, allow_download: bool = False) -> Transformer:
    """A GPT-2 or GPT-NeoX (Pythia) model with its published weights, in float32.

    Logits and patterns are those of the package `transformers`: on small random models within 1e-5, in float32.
    Pythia's vocabulary is padded to 50,304 or more: the last rows belong to no token, so draw random tokens below the
    size of the tokenizer, not below `d_vocab`.

    Args:
        name_or_folder: a folder with `config.json` and the weights (`model.safetensors` or `pytorch_model.bin`, whole
            or in shards), or a name on the hub, such as `EleutherAI/pythia-70m` or `openai-community/gpt2`.
        step: for a Pythia model by name, the training step, one of `PYTHIA_STEPS`; None is the final one.
        allow_download: fetch from the hub what its cache on this machine does not hold yet.

    Raises:
        ValueError: no such folder, name or step; another architecture, or an option of one that our model lacks;
            a folder that is incomplete or damaged; tensors that are missing, unexpected or misshapen, by name.
        ImportError: a package is missing: `huggingface_hub` for names, `safetensors` for files of that kind.
        ConnectionError: fetching failed, for want of a connection for example.
    """
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        folder = _hub_folder(name_or_folder, step, allow_download)
    elif step is not None:
        raise ValueError(f"step chooses a revision on the hub; a folder holds one, got step {step} and {folder}")
    values = _read_json(folder / "config.json")
    try:
        model = Transformer(configure(values), seed=None)
        model.load_state_dict(convert(values, _read_tensors(folder)))
    except ValueError as error:
        raise ValueError(f"cannot load {folder}: {error}") from error
    return model


def _hub_folder(name: str | Path, step: int | None, allow_download: bool) -> Path:
    """Where the hub's cache keeps a model, after fetching it if that is allowed."""
    if isinstance(name, Path) or not re.fullmatch(HUB_NAME, name):
        raise ValueError(f"name_or_folder must be an existing folder or a name on the hub, got {str(name)!r}")
    if step is not None:
        _check_step(name, step)
    try:
        from huggingface_hub import errors
    except ImportError as error:
        raise ImportError(f"there is no folder {name!r}, and names need the package huggingface_hub") from error
    revision = "main" if step is None else f"step{step}"
    try:
        return _snapshot(name, revision, allow_download)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError) as error:
        raise ValueError(f"the hub shows no model {name!r} with revision {revision!r}: {error}") from error
    except Exception as error:
        if allow_download or not isinstance(error, errors.LocalEntryNotFoundError):
            raise ConnectionError(f"could not fetch {name!r}, revision {revision!r}: {error}") from error
        raise ValueError(
            f"there is no folder {name!r}, and the hub's cache on this machine does not hold {name!r} with revision "
            f"{revision!r}; allow_download=True fetches it"
        ) from error


def _snapshot(name: str, revision: str, allow_download: bool) -> Path:
    from huggingface_hub import snapshot_download

    for file in WEIGHT_FILES:  # the second kind only where the first is not published
        stem, suffix = file.split(".")
        wanted = ["config.json", file, f"{file}.index.json", f"{stem}-*.{suffix}"]
        found = snapshot_download(name, revision=revision, allow_patterns=wanted, local_files_only=not allow_download)
        if any(Path(found).glob(f"{stem}*.{suffix}*")):
            break
    return Path(found)


def _check_step(name: str, step: int) -> None:
    if "pythia" not in name.lower():
        raise ValueError(f"step is for Pythia models, which are published by step, got step {step} and {name!r}")
    if step not in PYTHIA_STEPS:
        after = bisect(PYTHIA_STEPS, step)
        raise ValueError(
            f"step must be one of 0, 1, 2, 4 ... 512, then 1000, 2000 ... 143000, got {step}; "
            f"the nearest are {list(PYTHIA_STEPS[max(after - 1, 0) : after + 1])}"
        )


def _read_tensors(folder: Path) -> dict[str, Tensor]:
    for kind in WEIGHT_FILES:
        if (folder / kind).is_file():
            return _read(folder / kind)
        if (folder / f"{kind}.index.json").is_file():
            return _read_shards(folder / f"{kind}.index.json")
    present = sorted(path.name for path in folder.iterdir())
    raise ValueError(f"the folder is incomplete: no {' or '.join(WEIGHT_FILES)}, whole or in shards; it has {present}")


def _read_shards(index: Path) -> dict[str, Tensor]:
    weight_map = _read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
        raise ValueError(f"{index.name} is damaged: it has no weight_map from names to names of files")
    shards = [index.parent / name for name in sorted(set(weight_map.values()))]
    if absent := [path.name for path in shards if not path.is_file()]:
        raise ValueError(f"the folder is incomplete: {index.name} lists {absent}, which are not there")
    return {name: tensor for path in shards for name, tensor in _read(path).items()}


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of one file. Nothing in it is executed: a pickle may hold tensors only."""
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged bytes are read as instructions, which may fail in any way
        raise ValueError(f"{path.name} is damaged or cut short: {error}") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"{path.name} does not hold tensors by name, which is what a model's weights are")
    return tensors


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs the package safetensors") from error
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{path.name} is damaged or cut short: {error}") from error


def _read_json(path: Path) -> dict:
    if not path.is_file():
        raise ValueError(f"{path.parent} holds no model: it has no {path.name}")
    try:
        values = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} is damaged: it must hold names and values, got {type(values).__name__}")
    return values
