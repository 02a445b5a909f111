"""What must be true of a demo for it to count as passed (pure)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from plimsoll_cli.demo.snapshot import Snapshot


@dataclass(frozen=True)
class TrafficOutcome:
    """What the clients saw."""

    requests: int
    failed: int
    truncated: int


@dataclass(frozen=True)
class ScalingOutcome:
    """How far the service scaled."""

    first: int
    peak: int
    last: int

    @property
    def scaled_out(self) -> bool:
        """Whether more replicas served at the peak than at first."""
        return self.peak > self.first

    @property
    def scaled_in(self) -> bool:
        """Whether fewer replicas served in the end than at the peak."""
        return self.last < self.peak


def scaling_outcome(snapshots: Sequence[Snapshot]) -> ScalingOutcome:
    """The replicas that served at first, at the peak and in the end.

    Only ready replicas count: a wish that no pod followed is not scaling.
    """
    ready = [snapshot.ready for snapshot in snapshots if snapshot.ready > 0]
    if not ready:
        return ScalingOutcome(0, 0, 0)
    return ScalingOutcome(first=ready[0], peak=max(ready), last=ready[-1])


def failures(traffic: TrafficOutcome, scaling: ScalingOutcome, left_running: Sequence[str]) -> list[str]:
    """Reasons why the demo did not pass, in words; empty when it did."""
    found = []
    if traffic.requests == 0:
        found.append("no request was sent")
    if traffic.failed:
        found.append(f"{traffic.failed} of {traffic.requests} requests failed")
    if traffic.truncated:
        found.append(f"{traffic.truncated} of {traffic.requests} responses were truncated")
    if not scaling.scaled_out:
        found.append(f"it never scaled out: {scaling.first} replicas served at first, {scaling.peak} at the peak")
    if not scaling.scaled_in:
        found.append(f"it never scaled in: {scaling.peak} replicas served at the peak, {scaling.last} in the end")
    if left_running:
        found.append(f"left running: {', '.join(left_running)}")
    return found
