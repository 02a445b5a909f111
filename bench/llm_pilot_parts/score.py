"""LLM-Pilot's task and its S/O score, as IBM/LLM-performance-prediction defines them (Lazuka et al., SC'24).

Users that a profile carries are the largest measured number up to which both medians stay within their limits without
a break; pods are 200 users over that, rounded up; the recommendation is the profile whose pods cost least. It succeeds
when that many pods of that profile carry 200 users by the measurements; overspend is its cost over the least cost that
the measurements allow, less one, averaged over successes. S/O is the harmonic mean of the success rate S and
max(0, 1 - O).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from bench.llm_pilot_parts.measurements import Curve, Recorded, Table

USERS: Final = 200
NTTFT_LIMIT: Final = 100.0
ITL_LIMIT: Final = 50.0
"""The task's users and its limits on both medians, milliseconds."""

REFERENCE_PROFILES: Final = ("1 x T4", "4 x H100")
TWO_SHOT: Final = frozenset({"PARIS", "Selecta", "Morphling"})
"""Recommenders that are given the left-out LLM's measurements on the reference profiles."""

STATIC_PODS: Final = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 20, 25, 30, 35)
"""Numbers of pods among which the best static policy is sought."""


@dataclass(frozen=True)
class Choice:
    """What is recommended for one LLM: a profile and its pods."""

    profile: str
    pods: int


@dataclass(frozen=True)
class Outcome:
    """How a recommendation fares: whether it carries the users, and its cost over the least possible less one."""

    success: bool
    overspend: float


@dataclass(frozen=True)
class Score:
    """Success rate, mean overspend of successes and S/O, as shares."""

    success: float
    overspend: float
    both: float


def users_within(curve: Curve) -> int:
    """Most users within both limits; 0 when not even the fewest."""
    carried = []
    for values, limit in (
        ([point.nttft for point in curve], NTTFT_LIMIT),
        ([point.itl for point in curve], ITL_LIMIT),
    ):
        most = 0
        for point, value in zip(curve, values, strict=True):
            if value > limit:
                break
            most = point.users
        carried.append(most)
    return min(carried)


def pods_for(users: int) -> int:
    """Pods that carry the task's users when one carries `users` (above zero)."""
    return math.ceil(USERS / users)


def cheapest(carried: dict[str, int], prices: dict[str, float]) -> Choice | None:
    """The profile whose pods cost least, the first among equals; None when none carries a user."""
    costs = {profile: pods_for(users) * prices[profile] for profile, users in carried.items() if users}
    if not costs:
        return None
    profile = min(costs, key=costs.__getitem__)
    return Choice(profile, pods_for(carried[profile]))


def outcome(choice: Choice | None, measured: dict[str, Curve], prices: dict[str, float]) -> Outcome:
    """How a recommendation fares by the measurements of its LLM."""
    carried = {profile: users_within(curve) for profile, curve in measured.items()}
    best = cheapest(carried, prices)
    if choice is None or best is None:
        return Outcome(False, math.nan)
    least = best.pods * prices[best.profile]
    spent = choice.pods * prices[choice.profile]
    return Outcome(choice.pods * carried.get(choice.profile, 0) >= USERS, (spent - least) / least)


def of_outcomes(outcomes: Sequence[Outcome]) -> Score:
    """The score of recommendations that fared so."""
    spent = [one.overspend for one in outcomes if one.success]
    success = len(spent) / len(outcomes)
    overspend = sum(spent) / len(spent) if spent else math.nan
    thrift = max(0.0, 1 - overspend) if spent else 0.0
    return Score(success, overspend, 2 * success * thrift / (success + thrift) if success + thrift else 0.0)


def score(choices: dict[str, Choice | None], recorded: Recorded) -> Score:
    """The score of one recommendation per LLM."""
    return of_outcomes([outcome(choice, recorded.measured[llm], recorded.prices) for llm, choice in choices.items()])


def published_choices(method: str, recorded: Recorded) -> dict[str, Choice | None]:
    """What a published recommender's predictions lead to."""
    found = {}
    for llm, curves in recorded.published[method].items():
        carried = {profile: users_within(curve) for profile, curve in curves.items()}
        if method in TWO_SHOT:
            for profile in REFERENCE_PROFILES:
                if profile in carried:
                    carried[profile] = users_within(recorded.measured[llm][profile])
        found[llm] = cheapest(carried, recorded.prices)
    return found


def static_policy(recorded: Recorded) -> dict[str, Choice | None]:
    """The single profile and number of pods that score best for all LLMs, chosen in hindsight."""
    profiles = {profile: None for curves in recorded.measured.values() for profile in curves}
    policies: list[dict[str, Choice | None]] = [
        {llm: Choice(profile, pods) if profile in curves else None for llm, curves in recorded.measured.items()}
        for profile in profiles
        for pods in STATIC_PODS
    ]
    return max(policies, key=lambda policy: score(policy, recorded).both)


def percentage_errors(predicted: Table, measured: Table) -> tuple[list[float], list[float]]:
    """Absolute percentage errors of (ITL, nTTFT) at every measured point, as shares."""
    itl, nttft = [], []
    for llm, curves in measured.items():
        for profile, curve in curves.items():
            for true, guess in zip(curve, predicted[llm][profile], strict=True):
                itl.append(abs(guess.itl / true.itl - 1))
                nttft.append(abs(guess.nttft / true.nttft - 1))
    return itl, nttft
