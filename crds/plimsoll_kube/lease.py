"""Leadership by a coordination.k8s.io Lease: one process acts, and it stops acting before another may begin.

Taken and renewed by compare-and-swap on the Lease's resource version. Time is measured by each process's own
monotonic clock from when it saw the Lease change, so clocks of different machines need not agree (as client-go does).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import ApiError, Conflict, NotFound
from plimsoll_kube.resources import LEASE, Manifest

logger = logging.getLogger(__name__)

DEFAULT_DURATION_S: Final = 15.0
"""Without a renewal for this long the Lease is free. 15, 10 and 2 s are controller-runtime's defaults."""

RENEW_SHARE: Final = 10 / 15
"""Of the duration: the leader that has not renewed for this long stops, well before the Lease is free."""

RETRY_SHARE: Final = 2 / 15
"""Of the duration: pause between tries to take or renew."""


class LeadershipLostError(Exception):
    """The Lease could not be renewed in time, or somebody else has it: stop acting and exit."""


@dataclass(frozen=True)
class LeaseTerms:
    """Who wants which Lease, for how long.

    Attributes:
        namespace: where the Lease is.
        name: its name.
        identity: who we are; unique per process.
        duration: seconds without a renewal after which the Lease is free.
    """

    namespace: str
    name: str
    identity: str
    duration: float = DEFAULT_DURATION_S

    @property
    def renew_deadline(self) -> float:
        """Seconds without a successful renewal after which the leader stops."""
        return self.duration * RENEW_SHARE

    @property
    def retry_period(self) -> float:
        """Seconds between tries."""
        return self.duration * RETRY_SHARE


class Leadership:
    """One process's claim to a Lease: `acquire`, then `hold` beside the work, then `release`."""

    def __init__(self, api: KubeApi, terms: LeaseTerms, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._terms = terms
        self._clock = clock
        self._lease: Manifest | None = None
        self._seen: tuple[Any, ...] = ()
        self._seen_at = 0.0
        self._renewed_at = 0.0
        self.leading = False

    @property
    def age(self) -> float:
        """Seconds since the last successful renewal."""
        return self._clock() - self._renewed_at

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        while not await self._attempt():
            await asyncio.sleep(self._terms.retry_period)
        self.leading = True
        logger.info("leading", extra={"lease": self._terms.name, "identity": self._terms.identity})

    async def hold(self) -> None:
        """Renew until cancelled.

        Raises:
            LeadershipLostError: somebody else has the Lease, or the renewal deadline has passed.
        """
        while True:
            await asyncio.sleep(self._terms.retry_period)
            if not await self._attempt() and (self._holder() not in ("", self._terms.identity) or self._overdue()):
                self.leading = False
                holder = self._holder() or "nobody"
                raise LeadershipLostError(
                    f"Lease {self._terms.namespace}/{self._terms.name} not renewed for {self.age:.1f} s "
                    f"(deadline {self._terms.renew_deadline:g} s); it is held by {holder}"
                )

    async def release(self) -> None:
        """Give the Lease up, so that a standby takes over at once. Does nothing when it is not ours."""
        if not self.leading or self._lease is None:
            return
        self.leading = False
        try:
            async with asyncio.timeout(self._terms.retry_period * 2):
                await self._give_up()
        except (ApiError, TimeoutError) as error:
            logger.warning("the Lease could not be released and runs out by itself: %s", error)

    async def _give_up(self) -> None:
        """Write that nobody holds the Lease, for as long as we do."""
        while self._holder() == self._terms.identity:
            try:
                await self._api.replace(self._record("", duration=1))
            except Conflict:
                # A renewal was cancelled when it was already written, so the version that we know is not the last one.
                self._lease = await self._api.get(LEASE, self._terms.namespace, self._terms.name)
            else:
                return

    def _overdue(self) -> bool:
        return self.age > self._terms.renew_deadline

    def _holder(self) -> str:
        return str(((self._lease or {}).get("spec") or {}).get("holderIdentity") or "")

    async def _attempt(self) -> bool:
        """Take or renew the Lease once."""
        began = self._clock()
        try:
            async with asyncio.timeout(self._terms.retry_period * 2):
                done = await self._take()
        except Conflict:
            self._lease = None if not self.leading else await self._read_quietly()
            return False
        except (ApiError, TimeoutError) as error:
            if isinstance(error, NotFound):
                self._lease = None  # somebody deleted it: it is made again
            logger.warning("the Lease could not be renewed: %r", error)
            return False
        if done:
            self._renewed_at = began
        return done

    async def _take(self) -> bool:
        if not self.leading or self._lease is None:
            self._lease = await self._api.get(LEASE, self._terms.namespace, self._terms.name)
        if self._lease is None:
            self._lease = await self._api.create(self._record(self._terms.identity))
            return True
        if not self._is_free():
            return False
        self._lease = await self._api.replace(self._record(self._terms.identity))
        return True

    async def _read_quietly(self) -> Manifest | None:
        """The Lease as it is now, or as last seen when it cannot be read."""
        try:
            return await self._api.get(LEASE, self._terms.namespace, self._terms.name)
        except ApiError:
            return self._lease

    def _is_free(self) -> bool:
        """Whether the Lease is ours, nobody's, or has not been renewed for its whole duration since we first saw it."""
        assert self._lease is not None
        spec = self._lease.get("spec") or {}
        holder = spec.get("holderIdentity") or ""
        record = (holder, spec.get("renewTime"), spec.get("leaseTransitions"))
        if record != self._seen:
            self._seen, self._seen_at = record, self._clock()
        if holder in ("", self._terms.identity):
            return True
        return self._clock() - self._seen_at > float(spec.get("leaseDurationSeconds") or self._terms.duration)

    def _record(self, holder: str, duration: float | None = None) -> Manifest:
        """The Lease with a holder, on top of the version last read."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        before = (self._lease or {}).get("spec") or {}
        same = before.get("holderIdentity") == holder
        metadata: Manifest = {}
        if self._lease is not None:
            metadata["resourceVersion"] = self._lease["metadata"]["resourceVersion"]
        spec = {
            "holderIdentity": holder,
            "leaseDurationSeconds": max(1, round(duration or self._terms.duration)),
            "acquireTime": before.get("acquireTime", now) if same else now,
            "renewTime": now,
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (0 if same or not holder else 1),
        }
        return LEASE.manifest(self._terms.namespace, self._terms.name, metadata=metadata, spec=spec)
