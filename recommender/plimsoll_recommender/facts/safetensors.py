"""Exact bytes of a checkpoint from its safetensors files, without reading the weights."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Final

from plimsoll_recommender.errors import RecommenderError

_LARGEST_HEADER: Final = 100 * 1024 * 1024
"""The format's own limit of a header, in bytes."""


def checkpoint_bytes(directory: Path) -> int | None:
    """Bytes of all tensors of a directory's safetensors files; None when it holds none.

    The headers are read; where only an index is present, its `total_size` is taken.

    Raises:
        RecommenderError: a file that is not a safetensors file.
    """
    files = sorted(directory.glob("*.safetensors"))
    if files:
        return sum(_tensor_bytes(file) for file in files)
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        try:
            size = json.loads(index.read_text(encoding="utf-8"))["metadata"]["total_size"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecommenderError(f"{index} has no metadata.total_size: download it again") from error
        return int(size)
    return None


def _tensor_bytes(file: Path) -> int:
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > _LARGEST_HEADER:
                raise ValueError(f"header of {length} bytes")
            header = json.loads(stream.read(length))
        offsets = [entry["data_offsets"] for name, entry in header.items() if name != "__metadata__"]
        return sum(end - begin for begin, end in offsets)
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RecommenderError(f"{file} is not a safetensors file ({error}): download it again") from error
