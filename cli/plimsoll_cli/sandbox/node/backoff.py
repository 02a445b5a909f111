"""How long to wait before a container is started, or its image looked for, again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class BackoffPolicy:
    """Exponential delays as the kubelet has them.

    Args:
        first: seconds before the second restart; the first restart is immediate.
        limit: the longest delay, seconds.
        reset: a container that ran this long, seconds, starts anew.
    """

    first: float = 10.0
    limit: float = 300.0
    reset: float = 600.0


@dataclass(frozen=True)
class Backoff:
    """Where one container stands.

    Args:
        delay: seconds before the next restart; 0 restarts at once.
    """

    delay: float = 0.0

    def after(self, policy: BackoffPolicy, ran_seconds: float) -> tuple[float, Backoff]:
        """The delay that is due now, after a run of some length, and the state that follows it."""
        due = 0.0 if ran_seconds >= policy.reset else self.delay
        following = policy.first if due == 0.0 else min(due * 2, policy.limit)
        return due, Backoff(following)


def should_restart(restart_policy: str, exit_code: int) -> bool:
    """Whether a pod's restartPolicy (`Always`, `OnFailure`, `Never`) wants an ended container back."""
    return restart_policy == "Always" or (restart_policy == "OnFailure" and exit_code != 0)


def restored(policy: BackoffPolicy, restarts: int) -> Backoff:
    """The state after a number of quick restarts, for an agent that was itself restarted."""
    state = Backoff()
    for _ in range(min(restarts, 16)):
        state = state.after(policy, 0.0)[1]
    return state
