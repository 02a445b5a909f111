"""One reconcile: observe, size, plan, apply, say what is true. Level-triggered; it needs no memory of earlier ones."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from plimsoll_api.names import FieldManager
from plimsoll_api.v1alpha1 import LLMServiceSpec, RecommendationStatus
from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import NAMESPACE_TERMINATING, Forbidden
from plimsoll_kube.events import EventRecorder
from plimsoll_kube.resources import DEPLOYMENT, LLM_SERVICE, Manifest
from plimsoll_operator import memory_ceilings, memory_steps, replacement
from plimsoll_operator.actuate import Actuator
from plimsoll_operator.conditions import Situation, evaluate, transitions
from plimsoll_operator.configuration import Configuration, Configurations
from plimsoll_operator.errors import BlockedError, InvalidSpecError, ReconcileError
from plimsoll_operator.manifests import ServiceInputs, children_of, revision_of
from plimsoll_operator.memory_steps import Case, Finding
from plimsoll_operator.monitoring_api import MonitoringApi
from plimsoll_operator.observe import Observed, observe, parse_spec
from plimsoll_operator.settings import Settings
from plimsoll_operator.sizer import Sizer
from plimsoll_operator.status import changed, status_manifest, status_of

logger = logging.getLogger(__name__)

Key = tuple[str, str]
"""Namespace and name of an LLMService."""

UNSCHEDULABLE_LOOK_S: Final = 60.0
"""A replica that finds no node is looked at again this often: a node that joins is no event of the service."""


@dataclass(frozen=True)
class Outcome:
    """How a reconcile ended.

    Attributes:
        result: `created`, `reconciled`, `refused`, `blocked` or `gone`; a low-cardinality label.
        requeue_after: seconds until it should run again by itself; None waits for a change or the resync.
        ready: replicas that serve; None when there is no service.
        wanted: replicas wanted; None when nobody has said.
        status: the operator's part of the status as it should be; None when nothing was concluded.
        spec: None when it cannot be understood.
    """

    result: str
    requeue_after: float | None = None
    ready: int | None = None
    wanted: int | None = None
    status: Mapping[str, Any] | None = None
    spec: LLMServiceSpec | None = None


class Reconciler:
    """Brings one LLMService at a time to what its spec asks for."""

    def __init__(
        self,
        api: KubeApi,
        settings: Settings,
        sizer: Sizer,
        recorder: EventRecorder,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._api = api
        self._settings = settings
        self._recorder = recorder
        self._now = now
        self._actuator = Actuator(api)
        self._configurations = Configurations(api, sizer, settings.engine_image)
        self._monitoring = MonitoringApi(api)
        self._begun: set[Key] = set()

    async def reconcile(self, key: Key) -> Outcome:
        """Reconcile one service.

        Raises:
            ApiError: the API server refuses or cannot be reached; nothing is concluded from that.
        """
        try:
            return await self._reconcile(key)
        except Forbidden as error:
            if error.reason == NAMESPACE_TERMINATING:
                return Outcome("gone")
            raise

    async def _reconcile(self, key: Key) -> Outcome:
        service = await self._api.get(LLM_SERVICE, *key)
        if service is None or "deletionTimestamp" in service["metadata"]:
            return Outcome("gone")  # owner references and garbage collection do the rest
        if not service.get("status") and key not in self._begun:
            self._begun.add(key)
            if await self._create_children(service):
                return Outcome("created", requeue_after=0.0)
        self._begun.discard(key)
        observed = await observe(self._api, service, monitors=await self._monitoring.served())
        now = self._now()
        situation, spec, error = await self._act(observed, now)
        status = await self._report(observed, spec, situation, now)
        look_again = None if spec is None or spec.paused else await self._replace_stalled(observed, now)
        stepped = await self._tell_step(observed, situation)
        requeue = _soonest(_requeue(error, situation), look_again, 0.0 if stepped else None)
        return Outcome(_result(error), requeue, situation.ready, situation.wanted, status, spec)

    async def _create_children(self, service: Manifest) -> bool:
        """The short way for a service that nobody has looked at: its children at once, everything else afterwards.

        A burst of new services is served in the order that matters to people. What is applied is what a full reconcile
        would apply, so that one that was cut short goes on from here. False leaves everything to a full reconcile.
        """
        observed = Observed(service, {}, ())
        try:
            spec = parse_spec(service)
            if spec.paused:
                return False
            recommendation = (await self._configurations.of(observed, spec)).recommendation
            inputs = await self._inputs(observed, spec, recommendation)
            wanted = first_replicas(spec, recommendation, None) if spec.replicas is None else spec.replicas
            await self._actuator.create(children_of(inputs), wanted)
        except ReconcileError:
            return False
        return True

    async def _act(
        self, observed: Observed, now: datetime
    ) -> tuple[Situation, LLMServiceSpec | None, ReconcileError | None]:
        """Everything but the status: what is true afterwards, the spec, and what stood in the way."""
        situation = Situation(
            generation=observed.generation,
            recommendation=observed.recommendation,
            wanted=(observed.service.get("spec") or {}).get("replicas"),
            deployment=observed.deployment,
            pods=observed.pods,
            served_revision=observed.status.get("servedRevision"),
            memory_steps=memory_ceilings.remembered(observed.status),
        )
        spec: LLMServiceSpec | None = None
        try:
            spec = parse_spec(observed.service)
            current = await self._configurations.of(observed, spec)
            situation = replace(situation, recommendation=current.recommendation, paused=spec.paused)
            if not spec.paused:
                inputs = await self._inputs(observed, spec, current.recommendation)
                children = children_of(inputs)
                situation = replace(situation, revision=revision_of(children))
                situation = await self._apply(observed, inputs, children, current.recommendation, situation)
                situation = await self._step_down(observed, spec, current, situation, now)
        except InvalidSpecError as error:
            situation = await self._follow_replicas(observed, situation)
            kept = replace(situation, refused=error, recommendation=observed.recommendation, revision="")
            return kept, spec, error
        except BlockedError as error:
            situation = await self._follow_replicas(observed, situation)
            if situation.recommendation is None:  # what the spec refers to is missing: nothing was tried
                return replace(situation, refused=error), spec, error
            return replace(situation, blocked=error), spec, error
        return situation, spec, None

    async def _follow_replicas(self, observed: Observed, situation: Situation) -> Situation:
        """Scale what runs although the rest of the spec cannot be acted on: scaling goes on, and must not pile up."""
        paused = bool((observed.service.get("spec") or {}).get("paused"))
        if situation.deployment is None or situation.wanted is None or paused:
            return situation
        try:
            live = await self._actuator.scale(situation.deployment, situation.wanted)
        except BlockedError as error:
            return replace(situation, blocked=error)
        return replace(situation, deployment=live)

    async def _apply(
        self,
        observed: Observed,
        inputs: ServiceInputs,
        children: list[Manifest],
        recommendation: RecommendationStatus,
        situation: Situation,
    ) -> Situation:
        """Seed the replicas of a new service, then apply and prune its children."""
        wanted = inputs.spec.replicas
        if wanted is None:
            wanted = first_replicas(inputs.spec, recommendation, observed.deployment)
            await self._actuator.seed_replicas(observed, wanted)
        live = await self._actuator.apply(observed, children, wanted)
        await self._actuator.prune(observed, children)
        return replace(situation, wanted=wanted, deployment=live[DEPLOYMENT.kind, inputs.engine_name])

    async def _step_down(
        self,
        observed: Observed,
        spec: LLMServiceSpec,
        current: Configuration,
        situation: Situation,
        now: datetime,
    ) -> Situation:
        """What is to be done about a start that ran out of GPU memory.

        A step is only remembered here. It is acted on once the status has it, so that nobody can take it again.
        """
        revision, steps = situation.revision, situation.memory_steps
        served = memory_steps.has_served(revision, situation.served_revision, observed.pods)
        config = current.recommendation.config
        case = Case(current.subject, spec.engine, config, revision, served, observed.pods, steps)
        found = await self._configurations.outlook(spec, current.grounds, case, now)
        if found.finding is Finding.DUE:
            steps = memory_ceilings.with_step(steps, found.proposals[0].step)
        last = revision if served else situation.served_revision
        return replace(situation, memory=found, memory_steps=steps, served_revision=last)

    async def _tell_step(self, observed: Observed, situation: Situation) -> bool:
        """Tell people about a step that the status has now; False when none was taken."""
        found = situation.memory
        if found.finding is not Finding.DUE:
            return False
        who = {"namespace": observed.namespace, "llmservice": observed.name, "pod": found.pod}
        logger.warning("memory settings stepped down", extra={**who, "change": found.proposals[0].change})
        await self._recorder.post(observed.service, "Warning", "MemorySteppedDown", memory_steps.told(found))
        return True

    async def _replace_stalled(self, observed: Observed, now: datetime) -> float | None:
        """Replace a wedged replica if one is due; seconds after which one may be."""
        plan = replacement.plan(replacement.named(observed.status), observed.pods, now)
        if plan.pod is not None and await self._actuator.replace(observed.namespace, plan.pod):
            text = (
                f"{plan.pod.name} is replaced: {observed.status['diagnosis'].get('message') or 'its engine is stalled'}"
            )
            who = {"namespace": observed.namespace, "llmservice": observed.name, "pod": plan.pod.name}
            logger.warning("replica replaced", extra=who)
            await self._recorder.post(observed.service, "Warning", "ReplicaReplaced", text)
        return plan.look_again

    async def _inputs(
        self, observed: Observed, spec: LLMServiceSpec, recommendation: RecommendationStatus
    ) -> ServiceInputs:
        return ServiceInputs(
            namespace=observed.namespace,
            name=observed.name,
            uid=observed.service["metadata"]["uid"],
            spec=spec,
            config=recommendation.config,
            default_image=self._settings.engine_image,
            scrape_interval=self._settings.scrape_interval,
            monitors=await self._monitoring.served(),
        )

    async def _report(
        self, observed: Observed, spec: LLMServiceSpec | None, situation: Situation, now: datetime
    ) -> Mapping[str, Any]:
        """Write the status when it changed, and tell people about transitions; the status as it should be."""
        conditions = evaluate(situation, observed.conditions, now.strftime("%Y-%m-%dT%H:%M:%SZ"))
        status = status_of(observed.service, spec, situation, conditions)
        if not changed(observed.status, status):
            return status
        manifest = status_manifest(observed.service, status)
        await self._api.apply(manifest, field_manager=FieldManager.OPERATOR, subresource="status")
        for change in transitions(observed.conditions, conditions):
            found = change.verdict
            logger.info(
                "condition",
                extra={
                    "namespace": observed.namespace,
                    "llmservice": observed.name,
                    "condition": str(change.type),
                    "status": found.status,
                    "reason": found.reason,
                    "detail": found.message,
                },
            )
            text = f"{change.type} is {found.status}: {found.message}"
            await self._recorder.post(observed.service, change.event_type, found.reason, text)
        return status


def first_replicas(spec: LLMServiceSpec, recommendation: RecommendationStatus, deployment: Manifest | None) -> int:
    """Replicas of a service that says none: what runs already, else what its expected workload needs, in bounds."""
    if deployment is not None:
        return int(deployment["spec"].get("replicas", 1))
    return max(spec.scaling.min_replicas, min(spec.scaling.max_replicas, recommendation.config.replicas))


def _result(error: ReconcileError | None) -> str:
    if error is None:
        return "reconciled"
    return "blocked" if isinstance(error, BlockedError) else "refused"


def _soonest(*delays: float | None) -> float | None:
    return min((delay for delay in delays if delay is not None), default=None)


def _requeue(error: ReconcileError | None, situation: Situation) -> float | None:
    if isinstance(error, BlockedError):
        return error.retry_after
    return UNSCHEDULABLE_LOOK_S if any(pod.unschedulable for pod in situation.current) else None
