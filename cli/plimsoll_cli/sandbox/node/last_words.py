"""A container's termination message."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_MESSAGE_BYTES: Final = 4096
"""core/v1 terminationMessagePolicy: the message file is cut to this."""
_LOG_BYTES: Final = 2048
_LOG_LINES: Final = 80
"""core/v1 terminationMessagePolicy: the log's end is cut to these, whichever is smaller."""


def termination_message(file: Path, log: Path, policy: str, *, failed: bool) -> str:
    """The message file's content; with policy FallbackToLogsOnError, the log's end when it is empty after a failure."""
    text = end_of(file, _MESSAGE_BYTES)
    if text or policy != "FallbackToLogsOnError" or not failed:
        return text
    return "".join(end_of(log, _LOG_BYTES).splitlines(keepends=True)[-_LOG_LINES:])


def end_of(file: Path, size: int) -> str:
    """The last bytes of a file as text; empty when there is none."""
    try:
        with file.open("rb") as stream:
            length = stream.seek(0, 2)
            stream.seek(max(0, length - size))
            return stream.read().decode(errors="replace")
    except FileNotFoundError:
        return ""
