"""A watch: one response whose lines are changes."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from plimsoll_kube.errors import error_of
from plimsoll_kube.resources import Manifest
from plimsoll_kube.transport import Transport

ADDED: Final = "ADDED"
MODIFIED: Final = "MODIFIED"
DELETED: Final = "DELETED"
BOOKMARK: Final = "BOOKMARK"

SHORTEST_WATCH_S: Final = 240
LONGEST_WATCH_S: Final = 360
"""How long the server is asked to keep a watch; spread, so that watches are not all renewed at once."""

SILENCE_S: Final = 90.0
"""A connection without a byte for this long is dead: the API server sends a bookmark about once a minute."""


@dataclass(frozen=True)
class WatchEvent:
    """One change: its type and the object as it is now (as it was, when deleted)."""

    type: str
    object: Manifest

    @property
    def resource_version(self) -> str:
        """Where a later watch goes on."""
        return str(self.object["metadata"]["resourceVersion"])


async def watch_events(transport: Transport, path: str, query: Mapping[str, str]) -> AsyncIterator[WatchEvent]:
    """Read a watch until the server ends it.

    Raises:
        Gone: the resource version is too old.
        ApiError: any other error inside the stream; `ApiUnavailable` when the connection breaks.
    """
    seconds = random.randint(SHORTEST_WATCH_S, LONGEST_WATCH_S)
    asked = {**query, "watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": str(seconds)}
    async with transport.stream("watch", path, asked, SILENCE_S) as lines:
        while line := await lines.readline():
            change = json.loads(line)
            if change["type"] == "ERROR":
                status = change["object"]
                code = int(status.get("code") or HTTPStatus.INTERNAL_SERVER_ERROR)
                raise error_of(code, json.dumps(status).encode(), f"watch of {path}")
            yield WatchEvent(change["type"], change["object"])
