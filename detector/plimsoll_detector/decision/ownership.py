"""Who owns `spec.replicas`, and when to yield to somebody else. Pure.

The rule, in the order in which it is applied when the newest writer of `spec.replicas` is not this detector:

1. A controller that scales (the HPA, KEDA) is a contender from its first write on: it will write again.
2. Any other writer, such as a person with `kubectl scale`, is obeyed: the number is the new current one, and it is
   left alone for as long as a surplus must last before scale-in (at least one window). Then scaling goes on from it.
3. Whoever overwrites this detector's decisions twice within `CONTENTION_SECONDS` is a contender too.

While there is a contender the detector writes nothing and says so (ScalingActive=False, reason Contended). It yields
until the contender has not written for `CONTENTION_SECONDS`, or somebody else, or the mode, has taken the replicas
over. A contender that stays costs one write of ours per that time; one that was removed needs no clean-up by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from plimsoll_api.names import FieldManager

CONTENTION_SECONDS: Final = 1800.0
"""How long a contender is yielded to after its last write. Long beside an HPA's sync (15 s) and its scale-in window
(300 s), short beside the time a person takes to wonder why nothing scales after removing it."""

STRIKES: Final = 2
"""Overwritten decisions that make a contender: once may be a person who did not know."""

OUR_MANAGERS: Final = frozenset({FieldManager.DETECTOR.value, FieldManager.OPERATOR_SEED.value})

AUTOMATIC_MANAGERS: Final = frozenset({"kube-controller-manager", "keda-operator", "keda"})
"""Field managers of controllers that scale: the HPA runs in kube-controller-manager; KEDA scales from and to 0."""


@dataclass(frozen=True)
class Writer:
    """Who wrote `spec.replicas` last.

    Attributes:
        manager: its field manager.
        at: when, in seconds since the epoch (to the second: that is how the API server keeps it).
    """

    manager: str
    at: float


class Standing(StrEnum):
    """What the writer of `spec.replicas` means for the next decision."""

    FREE = "Free"
    OBEYED = "Obeyed"
    CONTENDED = "Contended"


@dataclass(frozen=True)
class OwnershipState:
    """What is remembered of foreign writes.

    Attributes:
        seen: the newest foreign write known.
        strikes: times at which a decision of ours was overwritten, oldest first.
    """

    seen: Writer | None = None
    strikes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ownership:
    """The standing now, and the foreign writer it is about."""

    standing: Standing = Standing.FREE
    writer: Writer | None = None
    until: float | None = None


def replicas_writer(managed_fields: Iterable[Mapping[str, Any]]) -> Writer | None:
    """The newest manager of `spec.replicas` among an object's `metadata.managedFields`; None when nobody owns it."""
    writers = [
        Writer(str(entry.get("manager", "")), datetime.fromisoformat(entry["time"]).timestamp())
        for entry in managed_fields
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {}) and entry.get("time")
    ]
    # When two managers wrote the same number both own it; ours wins a tie of the same second.
    return max(writers, key=lambda writer: (writer.at, writer.manager in OUR_MANAGERS), default=None)


def judge(
    writer: Writer | None, state: OwnershipState, acted_at: float | None, patience: float, now: float
) -> tuple[Ownership, OwnershipState]:
    """What the newest writer means, and what to remember.

    Args:
        writer: newest writer of `spec.replicas`.
        state: what is remembered.
        acted_at: when this detector last wrote; None if never.
        patience: seconds for which a person's number is left alone.
        now: seconds since the epoch.
    """
    strikes = tuple(at for at in state.strikes if now - at < CONTENTION_SECONDS)
    if writer is None or writer.manager in OUR_MANAGERS:
        return Ownership(), replace(state, strikes=strikes)
    # The API server keeps whole seconds: a write of the same second came after the one it overwrote.
    overwrote = acted_at is not None and int(acted_at) <= writer.at
    if writer != state.seen and overwrote and now - writer.at < CONTENTION_SECONDS:
        strikes = (*strikes, writer.at)
    remembered = OwnershipState(writer, strikes)
    quiet_at = writer.at + CONTENTION_SECONDS
    contender = writer.manager in AUTOMATIC_MANAGERS or len(strikes) >= STRIKES
    if contender and now < quiet_at:
        return Ownership(Standing.CONTENDED, writer, quiet_at), remembered
    if now < writer.at + patience:
        return Ownership(Standing.OBEYED, writer, writer.at + patience), remembered
    return Ownership(Standing.FREE, writer), remembered
