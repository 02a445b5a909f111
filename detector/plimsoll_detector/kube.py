"""The detector's only way to the API server: one snapshot of the fleet per tick, `/scale`, status and Events."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from plimsoll_api import names
from plimsoll_api.v1alpha1 import LLMServiceSpec
from plimsoll_detector.decision.ownership import foreign_manager
from plimsoll_detector.features import Key
from plimsoll_detector.observation import PodFacts
from plimsoll_detector.service import Manifest, Rules, Service, read, seconds_of
from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import Conflict, NotFound
from plimsoll_kube.events import EventRecorder, EventType
from plimsoll_kube.resources import LLM_SERVICE, POD

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Snapshot:
    """The fleet at one moment.

    Attributes:
        services: every LLMService that is not being deleted.
        pods: their pods.
    """

    services: Sequence[Service]
    pods: Mapping[Key, Sequence[PodFacts]]


class FleetApi:
    """What the detector asks of, and tells, the API server."""

    def __init__(self, api: KubeApi, rules: Rules, namespaces: Sequence[str] = ()) -> None:
        self._api = api
        self._scopes: Sequence[str | None] = namespaces or (None,)
        self._rules = rules
        self._events = EventRecorder(api, names.FieldManager.DETECTOR.value)
        self._specs: dict[str, tuple[int, LLMServiceSpec]] = {}

    async def snapshot(self) -> Snapshot:
        """Every service and its pods: two lists, however many there are (two per namespace where those are named).

        Raises:
            ApiError: the API server could not be asked.
        """
        listed = [item for scope in self._scopes for item in (await self._api.list(LLM_SERVICE, scope)).items]
        # Pods from the server's cache: cheap, and a second old at most; /scale is guarded by the object's version.
        cached = {"label_selector": names.SERVICE_LABEL, "resource_version": "0"}
        pods = [pod for scope in self._scopes for pod in (await self._api.list(POD, scope, **cached)).items]
        by_service: dict[Key, list[PodFacts]] = {}
        for pod in pods:
            metadata = pod["metadata"]
            key = (metadata["namespace"], metadata["labels"][names.SERVICE_LABEL])
            if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
                by_service.setdefault(key, []).append(pod_facts(pod))
        live = [item for item in listed if not item["metadata"].get("deletionTimestamp")]
        services = [service for item in live if (service := self._read(item)) is not None]
        self._specs = {service.uid: self._specs[service.uid] for service in services}
        return Snapshot(services, by_service)

    async def scale(self, service: Service, replicas: int) -> bool:
        """Write the replicas, unless somebody else has changed them since the snapshot.

        Returns:
            False when somebody has, or the service is gone: the next tick decides anew.

        Raises:
            ApiError: the API server refused for another reason.
        """
        namespace, name = service.key
        version = service.manifest["metadata"]["resourceVersion"]
        for _ in range(3):  # a status write of the operator in between is no reason to wait a whole tick
            try:
                await self._api.scale(
                    LLM_SERVICE,
                    namespace,
                    name,
                    replicas,
                    field_manager=names.FieldManager.DETECTOR.value,
                    resource_version=version,
                )
            except Conflict:
                live = await self._api.get(LLM_SERVICE, namespace, name)
                if live is None or not _same_spec(live, service):
                    return live is not None and _written(live, service, replicas)
                version = live["metadata"]["resourceVersion"]
            except NotFound:
                return False
            else:
                return True
        return False

    async def write_status(self, service: Service, status: Manifest) -> None:
        """Apply the detector's part of the status. A service that is gone is left alone.

        Raises:
            ApiError: the API server refused.
        """
        namespace, name = service.key
        # With the uid the apply cannot meet a new service of the same name.
        manifest = LLM_SERVICE.manifest(namespace, name, metadata={"uid": service.uid}, status=status)
        try:
            await self._api.apply(
                manifest, field_manager=names.FieldManager.DETECTOR_STATUS.value, subresource="status"
            )
        except (NotFound, Conflict):
            logger.info("service is gone", extra={"service": f"{namespace}/{name}"})

    async def tell(self, service: Service, kind: EventType, reason: str, message: str) -> None:
        """Post an Event about a service."""
        await self._events.post(service.manifest, kind, reason, message)

    def _read(self, manifest: Manifest) -> Service | None:
        """A service; None when its spec is of a schema this process does not know."""
        metadata = manifest["metadata"]
        generation = int(metadata.get("generation", 0))
        known = self._specs.get(metadata["uid"])
        try:
            if known is None or known[0] != generation:
                known = (generation, LLMServiceSpec.model_validate(manifest["spec"]))
                self._specs[metadata["uid"]] = known
            return read(manifest, known[1], self._rules)
        except (ValidationError, ValueError, KeyError) as error:
            logger.error(
                "service cannot be read and is left alone: %s",
                str(error).replace("\n", " "),
                extra={"service": f"{metadata['namespace']}/{metadata['name']}"},
            )
            return None


def _same_spec(live: Manifest, service: Service) -> bool:
    """Whether an object is still the one a decision is about."""
    metadata = live["metadata"]
    return (metadata["uid"], int(metadata.get("generation", 0))) == (service.uid, service.generation)


def _written(live: Manifest, service: Service, replicas: int) -> bool:
    """Whether an object is as this very write left it: its answer was lost, and it was sent again."""
    metadata, once = live["metadata"], service.generation + 1
    same = (metadata["uid"], int(metadata.get("generation", 0))) == (service.uid, once)
    ours = foreign_manager(metadata.get("managedFields") or ()) is None
    return same and ours and live["spec"].get("replicas") == replicas


def pod_facts(pod: Manifest) -> PodFacts:
    """What the detector needs of a pod."""
    metadata, status = pod["metadata"], pod.get("status", {})
    ready: Manifest = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    is_ready = ready.get("status") == "True"
    since = ready.get("lastTransitionTime")
    return PodFacts(
        metadata["name"],
        ready=is_ready,
        leaving="deletionTimestamp" in metadata,
        ready_since=seconds_of(since) if is_ready and since else None,
        revision=(metadata.get("annotations") or {}).get(names.REVISION_ANNOTATION),
    )
