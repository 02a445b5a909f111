"""The checks behind each condition: the first that has something to say decides."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from plimsoll_api import names
from plimsoll_api.names import ConditionType
from plimsoll_api.v1alpha1 import RecommendationStatus
from plimsoll_operator import start_log
from plimsoll_operator.conditions.memory import what_to_change
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.conditions.situation import Situation, Verdict
from plimsoll_operator.gpu_memory import excerpt
from plimsoll_operator.pods import Failure, PodView

Check = Callable[[Situation], Verdict | None]

QUOTED: Final = 300
"""Characters of a failed container's last words that a condition quotes."""

_IMAGE_WAITS: Final = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName"})


def refused(situation: Situation) -> Verdict | None:
    """The spec cannot be acted on."""
    error = situation.refused
    return Verdict("False", error.reason, error.message) if error else None


def accepted(situation: Situation) -> Verdict | None:
    """The spec can be acted on."""
    return Verdict("True", Reason.ACCEPTED, f"generation {situation.generation} can be served as it is")


def kept(situation: Situation) -> Verdict | None:
    """A configuration stays in force although the present spec cannot be acted on."""
    if situation.refused is None or situation.recommendation is None:
        return None
    was = situation.recommendation
    text = f"{describe(was)}, of generation {was.applied_generation}, stays in force: {situation.refused.message}"
    return Verdict("True", Reason.KEPT, text)


def recommended(situation: Situation) -> Verdict | None:
    """A configuration is in force."""
    if situation.recommendation is None:
        return Verdict("False", Reason.NOT_ACCEPTED, "there is no configuration yet")
    line = situation.recommendation.predicted.load_line_requests_per_second
    return Verdict("True", Reason.RECOMMENDED, f"{describe(situation.recommendation)}; load line {line} requests/s")


def not_created(situation: Situation) -> Verdict | None:
    """There is nothing that could serve."""
    if situation.deployment is not None:
        return None
    if situation.refused is not None:
        return Verdict("False", Reason.NOT_CREATED, f"nothing is created: {situation.refused.message}")
    if situation.blocked is not None:
        return Verdict("False", Reason.NOT_CREATED, situation.blocked.message)
    return Verdict("False", Reason.NOT_CREATED, "the Deployment does not exist yet")


def serving(situation: Situation) -> Verdict | None:
    """At least one replica serves."""
    if not situation.ready:
        return None
    wanted = situation.ready if situation.wanted is None else situation.wanted
    return Verdict("True", Reason.SERVING, f"{situation.ready} of {wanted} replicas ready")


def scaled_to_zero(situation: Situation) -> Verdict | None:
    """Nothing serves, as wanted."""
    return Verdict("False", Reason.SCALED_TO_ZERO, "0 replicas are wanted") if situation.wanted == 0 else None


def none_ready(situation: Situation) -> Verdict | None:
    """Nothing serves, although it should."""
    text = f"0 of {situation.wanted} replicas ready"
    failing = _failing(situation.current)
    if failing is not None:
        text += f": {_failure_text(situation, *failing)}"
    elif (said := _replica_failure(situation)) is not None:
        text += f": {said}"
    return Verdict("False", Reason.NO_REPLICA_READY, text)


def paused(situation: Situation) -> Verdict | None:
    """A person asked to leave the children alone."""
    if not situation.paused:
        return None
    return Verdict("False", Reason.PAUSED, "spec.paused is true: the children stay as they are until it is false")


def not_accepted(situation: Situation) -> Verdict | None:
    """Nothing moves until the spec changes."""
    if situation.refused is None:
        return None
    stays = "what runs keeps its configuration" if situation.deployment else "nothing is created"
    return Verdict("False", Reason.NOT_ACCEPTED, f"{stays} until the spec changes: {situation.refused.message}")


def blocked(situation: Situation) -> Verdict | None:
    """Children could not be applied."""
    error = situation.blocked
    return Verdict("False", error.reason, error.message) if error else None


def unschedulable(situation: Situation) -> Verdict | None:
    """The scheduler finds no node for some replicas."""
    pending = [pod for pod in situation.current if pod.unschedulable]
    if not pending:
        return None
    text = f"{len(pending)} of {situation.wanted} replicas find no node: {pending[0].unschedulable}"
    return Verdict("False", Reason.UNSCHEDULABLE, text)


def pods_refused(situation: Situation) -> Verdict | None:
    """Pods are not even created: a quota or a policy is in the way."""
    said = _replica_failure(situation)
    if said is None or situation.ready >= (situation.wanted or 0):
        return None
    return Verdict("False", Reason.PODS_REFUSED, f"{situation.ready} of {situation.wanted} replicas ready: {said}")


def failing(situation: Situation) -> Verdict | None:
    """An engine of the newest configuration cannot start."""
    found = _failing([pod for pod in situation.current if situation.revision in ("", pod.revision)])
    if found is None:
        return None
    pod, failure = found
    return Verdict("False", _failure_reason(failure), _failure_text(situation, pod, failure))


def rolling_out(situation: Situation) -> Verdict | None:
    """The pods are being replaced by ones of a newer template."""
    if situation.deployment is None or not situation.wanted:
        return None
    status = situation.deployment.get("status") or {}
    seen = status.get("observedGeneration")
    if seen is None:
        return None
    updated = int(status.get("updatedReplicas") or 0)
    total = int(status.get("replicas") or 0)
    newest = seen >= situation.deployment["metadata"].get("generation", 0)
    if newest and updated >= total:
        return None
    text = f"{updated} of {situation.wanted} replicas have the newest configuration, {situation.ready} are ready"
    return Verdict("True", Reason.ROLLING_OUT, text)


def starting(situation: Situation) -> Verdict | None:
    """Replicas are missing or not ready yet."""
    wanted = situation.wanted or 0
    if situation.ready >= wanted:
        return None
    return Verdict("True", Reason.STARTING, f"{situation.ready} of {wanted} replicas ready")


def draining(situation: Situation) -> Verdict | None:
    """Replicas that are no longer wanted finish their streams."""
    leaving = len(situation.pods) - len(situation.current)
    surplus = max(0, len(situation.current) - (situation.wanted or 0))
    if leaving + surplus == 0:
        return None
    text = f"{leaving + surplus} replicas finish their streams before they stop; {situation.wanted} wanted"
    return Verdict("True", Reason.DRAINING, text)


def complete(situation: Situation) -> Verdict | None:
    """Everything is as wanted."""
    return Verdict("False", Reason.COMPLETE, f"{situation.ready} of {situation.wanted or 0} replicas ready")


CHAINS: Final[dict[ConditionType, tuple[Check, ...]]] = {
    ConditionType.ACCEPTED: (refused, accepted),
    ConditionType.CONFIG_RECOMMENDED: (kept, refused, recommended),
    ConditionType.AVAILABLE: (not_created, serving, scaled_to_zero, none_ready),
    ConditionType.PROGRESSING: (
        paused,
        not_accepted,
        blocked,
        unschedulable,
        pods_refused,
        failing,
        rolling_out,
        starting,
        draining,
        complete,
    ),
}
"""Condition -> its checks, in order; the last of each always has something to say."""


def describe(recommendation: RecommendationStatus) -> str:
    """A configuration in a few words."""
    config = recommendation.config
    pipeline = f" x PP {config.pipeline_parallel_size}" if config.pipeline_parallel_size > 1 else ""
    return (
        f"{config.accelerator}, TP {config.tensor_parallel_size}{pipeline}, {config.max_num_seqs} sequences, "
        f"context {config.max_model_len}"
    )


def _replica_failure(situation: Situation) -> str | None:
    """What the API server said when it would not take a pod of the Deployment, if it did."""
    conditions = ((situation.deployment or {}).get("status") or {}).get("conditions") or []
    said = (one.get("message") for one in conditions if one["type"] == "ReplicaFailure" and one["status"] == "True")
    return next(said, None)


def _failing(pods: Iterable[PodView]) -> tuple[PodView, Failure] | None:
    """The first pod that cannot start."""
    for pod in pods:
        if pod.failure is not None:
            return pod, pod.failure
    return None


def _failure_reason(failure: Failure) -> Reason:
    if failure.shortage:
        return Reason.OUT_OF_GPU_MEMORY
    if failure.reason in _IMAGE_WAITS:
        return Reason.IMAGE_PULL
    if failure.reason == "OOMKilled":
        return Reason.OUT_OF_MEMORY
    return Reason.START_FAILED


def _failure_text(situation: Situation, pod: PodView, failure: Failure) -> str:
    exit_code = f", exit code {failure.exit_code}" if failure.exit_code is not None else ""
    said = f": {excerpt(failure.message, QUOTED)}" if failure.message else ""
    fix = ""
    if failure.shortage:
        fix = what_to_change(failure.shortage, situation)
    elif start_log.is_above(failure.message):
        fix = f"; kubectl logs {pod.name} -c {names.ENGINE_CONTAINER} --previous shows it"
    return f"{pod.name}: {failure.reason}{exit_code}{said}{fix}"
