"""One listening socket per Service address."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection

from aiohttp import web

from plimsoll_cli.sandbox.node.front.table import Address

logger = logging.getLogger(__name__)
_BACKLOG = 1024


class Listeners:
    """Open where there is a route, closed where there is none; a closed one lets its connections finish."""

    def __init__(self, server: web.Server) -> None:
        self._server = server
        self._open: dict[Address, asyncio.Server] = {}
        self._refused: set[Address] = set()

    async def follow(self, wanted: Collection[Address]) -> None:
        """Open and close what is needed."""
        for address in set(self._open) - set(wanted):
            self._open.pop(address).close()
        self._refused &= set(wanted)
        for address in set(wanted) - set(self._open):
            try:
                self._open[address] = await asyncio.get_running_loop().create_server(
                    self._server, *address, backlog=_BACKLOG, reuse_address=True
                )
            except OSError as error:
                if address not in self._refused:
                    self._refused.add(address)
                    logger.error("cannot listen on %s:%d: %s", *address, error.strerror or error)

    async def close(self) -> None:
        """Close all."""
        await self.follow(())
