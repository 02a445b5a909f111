"""Why a reconcile could not finish, in the words that its condition and its next try need."""

from __future__ import annotations


class ReconcileError(Exception):
    """A reconcile ends here. `reason` is the condition's reason, the text its message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


class InvalidSpecError(ReconcileError):
    """The spec cannot work as it is: nothing is created, what ran before keeps running, a person must change it."""


class BlockedError(ReconcileError):
    """Something outside the spec is in the way: try again after `retry_after` seconds."""

    def __init__(self, reason: str, message: str, retry_after: float) -> None:
        super().__init__(reason, message)
        self.retry_after = retry_after
