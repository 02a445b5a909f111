"""What a checkpoint holds: every tensor's name, type and bytes from its safetensors headers, never the weights."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from plimsoll_recommender.errors import RecommenderError, UnknownModelError

INDEX_FILE: Final = "model.safetensors.index.json"
"""Which shard holds which tensor, as the hub names the file."""

SINGLE_FILE: Final = "model.safetensors"
"""The one file of a checkpoint that is not sharded."""

LARGEST_HEADER: Final = 100 * 1024 * 1024
"""The format's own limit of a header, in bytes."""

DTYPE_BITS: Final = {
    "F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U64": 64, "U32": 32,
    "U16": 16, "U8": 8, "BOOL": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F6_E2M3": 6, "F6_E3M2": 6, "F4": 4,
}  # fmt: skip
"""Bits per element by the format's type names."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a checkpoint.

    Args:
        name: as the checkpoint calls it, such as `model.layers.0.self_attn.q_proj.weight`.
        dtype: the format's type name, such as `BF16`.
        shape: rows first.
        size: bytes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a checkpoint.

    Args:
        total_bytes: bytes of all tensors.
        tensors: every tensor; empty when only the total is known (an index without its shards).
        names: names of all tensors, as far as known.
    """

    total_bytes: int
    tensors: tuple[StoredTensor, ...] = ()
    names: frozenset[str] = frozenset()


def checkpoint_of(tensors: list[StoredTensor]) -> Checkpoint:
    """A checkpoint of known tensors."""
    ordered = tuple(sorted(tensors, key=lambda tensor: tensor.name))
    return Checkpoint(sum(tensor.size for tensor in ordered), ordered, frozenset(tensor.name for tensor in ordered))


def read_checkpoint(directory: Path) -> Checkpoint | None:
    """The checkpoint in a directory; None when it holds no safetensors.

    The files that the index names are read, else `model.safetensors`, else every safetensors file but `consolidated*`
    (Mistral's second copy of the same weights). Where the index names files that are absent, its `total_size` is taken.

    Raises:
        RecommenderError: a file that is not a safetensors file, an index that is not one.
        UnknownModelError: a directory of GGUF files.
    """
    index = directory / INDEX_FILE
    if index.is_file():
        total, files = read_index(_json(index), str(index))
        shards = [directory / name for name in sorted(set(files.values()))]
        if shards and all(shard.is_file() for shard in shards):
            return checkpoint_of([tensor for shard in shards for tensor in _tensors(shard)])
        if total is None:
            raise RecommenderError(
                f"{index} has no metadata.total_size: download it again, or put its shards beside it"
            )
        return Checkpoint(total, names=frozenset(files))
    single = directory / SINGLE_FILE
    files_here = sorted(directory.glob("*.safetensors"))
    chosen = (
        [single]
        if single.is_file()
        else [file for file in files_here if not file.name.startswith("consolidated")] or files_here
    )
    if not chosen:
        refuse_gguf([file.name for file in directory.glob("*.gguf")], str(directory))
        return None
    return checkpoint_of([tensor for file in chosen for tensor in _tensors(file)])


def refuse_gguf(files: list[str], where: str) -> None:
    """Refuse a checkpoint of GGUF files.

    Raises:
        UnknownModelError: when there are any.
    """
    if files:
        raise UnknownModelError(
            f"{where} holds GGUF files ({sorted(files)[0]}), a format whose sizes are not read: "
            "give the model it was converted from, or an AWQ or GPTQ checkpoint of it"
        )


def read_index(document: Any, where: str) -> tuple[int | None, dict[str, str]]:
    """(total bytes if stated, file of every tensor) of a parsed `model.safetensors.index.json`.

    Raises:
        RecommenderError: when it is not one.
    """
    try:
        files = {str(name): str(file) for name, file in document.get("weight_map", {}).items()}
        total = (document.get("metadata") or {}).get("total_size")
        size = None if total is None else int(total)
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise RecommenderError(f"{where} is not a safetensors index ({error}): download it again") from error
    if any("/" in file or file.startswith("..") for file in files.values()):
        raise RecommenderError(f"{where} names files outside its directory: download it again")
    if size is not None and size <= 0:
        raise RecommenderError(f"{where} states a total_size of {size} bytes: download it again")
    return size, files


def tensors_of_header(header: Mapping[str, Any], where: str) -> list[StoredTensor]:
    """Tensors of a parsed safetensors header.

    Raises:
        RecommenderError: when an entry is not what the format asks for.
    """
    tensors = []
    try:
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = (int(offset) for offset in entry["data_offsets"])
            if not 0 <= begin <= end:
                raise ValueError(f"offsets {begin} to {end} of {name}")
            shape = tuple(int(size) for size in entry["shape"])
            tensors.append(StoredTensor(str(name), str(entry["dtype"]), shape, end - begin))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise RecommenderError(f"{where} is not a safetensors file ({error}): download it again") from error
    return tensors


def _tensors(file: Path) -> list[StoredTensor]:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > LARGEST_HEADER:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(stream.read(length))
        if not isinstance(header, Mapping):
            raise ValueError("its header is not an object")
    except (OSError, struct.error, ValueError, RecursionError) as error:
        raise RecommenderError(f"{file} is not a safetensors file ({error}): download it again") from error
    return tensors_of_header(header, str(file))


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise RecommenderError(f"{file} cannot be read as JSON ({error}): download it again") from error
