"""Who owns `spec.replicas`, and when to yield to somebody else. Pure.

The rule, in the order in which it is applied when the newest writer of `spec.replicas` is not this detector:

1. A controller that scales (the HPA, KEDA) is a contender from its first write on: it will write again.
2. Any other writer, such as a person with `kubectl scale`, is obeyed: the number is the new current one, and it is
   left alone for as long as a surplus must last before scale-in (at least one window). Then scaling goes on from it.
3. Whoever overwrites this detector's decisions twice within `CONTENTION_SECONDS` is a contender too.
4. Whoever sets replicas after this detector had set 0 wakes the service, which is what 0 waits for: scaling goes on.

While there is a contender the detector writes nothing and says so (ScalingActive=False, reason Contended). It yields
until the contender has not written for `CONTENTION_SECONDS`, or somebody else, or the mode, has taken the replicas
over. A contender that stays costs one write of ours per that time; one that was removed needs no clean-up by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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
    """Somebody else who set `spec.replicas`.

    Attributes:
        manager: their field manager.
        replicas: what they set.
        at: when that was first seen, in seconds since the epoch. The API server keeps no time of a write through
            `/scale` of a custom resource (kube-apiserver 1.36), so it is this detector's own.
        woke: whether that ended a stop of this detector's.
    """

    manager: str
    replicas: int
    at: float
    woke: bool = False


@dataclass(frozen=True)
class Acted:
    """This detector's last write of `/scale`.

    Attributes:
        at: when, in seconds since the epoch.
        replicas: what.
    """

    at: float
    replicas: int


class Standing(StrEnum):
    """What the writer of `spec.replicas` means for the next decision."""

    FREE = "Free"
    OBEYED = "Obeyed"
    CONTENDED = "Contended"


@dataclass(frozen=True)
class OwnershipState:
    """What is remembered of foreign writes.

    Attributes:
        seen: the newest one.
        strikes: times at which a decision of ours was overwritten, oldest first.
    """

    seen: Writer | None = None
    strikes: tuple[float, ...] = ()


@dataclass(frozen=True)
class Ownership:
    """The standing now, and the foreign writer it is about."""

    standing: Standing = Standing.FREE
    writer: Writer | None = None


def foreign_manager(managed_fields: Iterable[Mapping[str, Any]]) -> str | None:
    """Who else owns `spec.replicas`, by an object's `metadata.managedFields`.

    Returns:
        None when nobody does, or we do, too: then the number is ours as much as theirs. A controller that scales
        before anybody else.
    """
    managers = {
        str(entry.get("manager", ""))
        for entry in managed_fields
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    if not managers or managers & OUR_MANAGERS:
        return None
    return min(managers, key=lambda manager: (manager not in AUTOMATIC_MANAGERS, manager))


def judge(
    manager: str | None,
    replicas: int,
    state: OwnershipState,
    acted: Acted | None,
    patience: float,
    now: float,
) -> tuple[Ownership, OwnershipState]:
    """What the present owner of `spec.replicas` means, and what to remember.

    Args:
        manager: who else owns it; None when it is ours or nobody's.
        replicas: its value.
        state: what is remembered.
        acted: this detector's last write of it; None if there was none.
        patience: seconds for which a person's number is left alone.
        now: seconds since the epoch.
    """
    strikes = tuple(at for at in state.strikes if now - at < CONTENTION_SECONDS)
    if manager is None:
        return Ownership(), OwnershipState(state.seen, strikes)
    seen = state.seen
    overwrote = acted is not None and (seen is None or acted.at > seen.at)
    if seen is None or overwrote or (seen.manager, seen.replicas) != (manager, replicas):
        woke = overwrote and acted is not None and acted.replicas == 0 and replicas > 0
        seen = Writer(manager, replicas, now, woke)
        strikes = (*strikes, now) if overwrote and not woke else strikes
    state = OwnershipState(seen, strikes)
    if seen.woke:
        return Ownership(Standing.FREE, seen), state
    contender = manager in AUTOMATIC_MANAGERS or len(strikes) >= STRIKES
    if contender and now - seen.at < CONTENTION_SECONDS:
        return Ownership(Standing.CONTENDED, seen), state
    if now - seen.at < patience:
        return Ownership(Standing.OBEYED, seen), state
    return Ownership(Standing.FREE, seen), state
