"""Where the last lines of a log begin."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_BLOCK_BYTES: Final = 65536


def tail_offset(log: Path, lines: int | None) -> int:
    """Byte offset of the last `lines` lines; 0 for None. A last line without a line feed counts."""
    if lines is None:
        return 0
    with log.open("rb") as file:
        end = file.seek(0, 2)
        if lines <= 0:
            return end
        position, wanted = end, lines
        if end:
            file.seek(end - 1)
            wanted += file.read(1) == b"\n"
        while position > 0:
            start = max(0, position - _BLOCK_BYTES)
            file.seek(start)
            block = file.read(position - start)
            found = len(block)
            while (found := block.rfind(b"\n", 0, found)) >= 0:
                wanted -= 1
                if wanted == 0:
                    return start + found + 1
            position = start
    return 0
