"""Making a service's children what they should be: apply, scale and prune, and nothing when nothing is to do."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from plimsoll_api import names
from plimsoll_api.names import FieldManager
from plimsoll_kube.client import KubeApi
from plimsoll_kube.errors import NAMESPACE_TERMINATING, Conflict, Forbidden, Invalid
from plimsoll_kube.resources import DEPLOYMENT, LLM_SERVICE, POD, Manifest, resource_of
from plimsoll_operator.conditions.reasons import Reason
from plimsoll_operator.drift import differences
from plimsoll_operator.errors import BlockedError, InvalidSpecError
from plimsoll_operator.observe import ChildKey, Observed
from plimsoll_operator.pods import PodView

NAME_TAKEN_RETRY_S: Final = 60.0
"""Somebody has to remove the object in the way; its removal is no event of ours."""


class Actuator:
    """Writes to a service's children. It remembers, per child, what the API server would not take as it was sent."""

    def __init__(self, api: KubeApi) -> None:
        self._api = api
        self._settled: dict[str, tuple[str, frozenset[str]]] = {}

    async def seed_replicas(self, observed: Observed, replicas: int) -> None:
        """Give a new service its first `spec.replicas`.

        An apply on the object itself, because the API server records the writers of `/scale` only once somebody owns
        the field. Its uid and resource version make sure that nobody said a number since it was read.

        Raises:
            Conflict: the service changed since it was read.
        """
        metadata = observed.service["metadata"]
        identity = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
        seed = LLM_SERVICE.manifest(observed.namespace, observed.name, metadata=identity, spec={"replicas": replicas})
        await self._api.apply(seed, field_manager=FieldManager.OPERATOR_SEED, force=False)

    async def create(self, children: list[Manifest], replicas: int) -> None:
        """Apply the children of a service that should have none yet.

        Raises:
            InvalidSpecError, BlockedError, ApiError: as `apply` does.
        """
        for child in children:
            await self._create(_with_replicas(child, replicas))

    async def apply(self, observed: Observed, children: list[Manifest], replicas: int) -> dict[ChildKey, Manifest]:
        """Make every child what it should be and return the live children.

        The replicas of a Deployment are an owner's of their own, from its second write on: created without them it
        would have one pod that nobody asked for.

        Raises:
            InvalidSpecError: the API server refuses what `spec.podTemplate` makes of the pods.
            BlockedError: an object of another owner, a quota or a policy is in the way.
            ApiError: the API server refuses or cannot be reached.
        """
        live: dict[ChildKey, Manifest] = dict(observed.children)
        blocked: list[BlockedError] = []
        for child in children:
            key = (child["kind"], child["metadata"]["name"])
            try:
                live[key] = await self._apply_child(child, live.get(key), replicas)
            except BlockedError as error:  # the children do not depend on one another
                blocked.append(error)
        if blocked:
            raise blocked[0]
        return live

    async def prune(self, observed: Observed, children: list[Manifest]) -> None:
        """Delete what the service controls and no longer should have."""
        wanted = {(child["kind"], child["metadata"]["name"]) for child in children}
        for key, child in observed.children.items():
            metadata = child["metadata"]
            if key in wanted or "deletionTimestamp" in metadata:
                continue
            await self._api.delete(resource_of(child), metadata["namespace"], metadata["name"], uid=metadata.get("uid"))
            self._settled.pop(metadata.get("uid", ""), None)

    async def replace(self, namespace: str, pod: PodView) -> bool:
        """Delete a replica, so that its Deployment starts another; False when it was gone already.

        It drains as any other that goes: what still streams may finish. An eviction would be refused by the disruption
        budget, to which a wedged replica looks healthy.
        """
        return await self._api.delete(POD, namespace, pod.name, uid=pod.uid or None)

    async def scale(self, deployment: Manifest, replicas: int) -> Manifest:
        """Give a live Deployment its replicas and nothing else; it as it is then.

        Raises:
            BlockedError: a quota or a policy is in the way.
            ApiError: the API server refuses or cannot be reached.
        """
        if deployment["spec"].get("replicas") == replicas and _owns_replicas(deployment):
            return deployment
        metadata = deployment["metadata"]
        asked = DEPLOYMENT.manifest(metadata["namespace"], metadata["name"], spec={"replicas": replicas})
        try:
            return await self._api.apply(asked, field_manager=FieldManager.OPERATOR_REPLICAS)
        except Forbidden as error:
            raise _forbidden(asked, error) from None

    async def _apply_child(self, child: Manifest, before: Manifest | None, replicas: int) -> Manifest:
        if child["kind"] == DEPLOYMENT.kind:
            return await self._apply_deployment(child, before, replicas)
        if before is None:
            return await self._create(child)
        return await self._update(child) if self._differs(child, before) else before

    async def _apply_deployment(self, child: Manifest, before: Manifest | None, replicas: int) -> Manifest:
        if before is None:
            before = await self._create(_with_replicas(child, replicas))
        # First the owner of the replicas, then an apply that no longer mentions them: never neither.
        before = await self.scale(before, replicas)
        return await self._update(child) if self._differs(child, before) else before

    async def _create(self, child: Manifest) -> Manifest:
        """Apply a child that is not there, without taking an object of the same name from anybody."""
        try:
            return self._settle(child, await self._api.apply(child, field_manager=FieldManager.OPERATOR, force=False))
        except Conflict as error:
            name = f"{child['kind']} {child['metadata']['name']}"
            text = f"{name} exists and is not this service's: rename the LLMService or remove it ({error.message})"
            raise BlockedError(Reason.NAME_TAKEN, text, NAME_TAKEN_RETRY_S) from None
        except Forbidden as error:
            raise _forbidden(child, error) from None
        except Invalid as error:
            raise _refused(child, error) from None

    async def _update(self, child: Manifest) -> Manifest:
        try:
            return self._settle(child, await self._api.apply(child, field_manager=FieldManager.OPERATOR))
        except Forbidden as error:
            raise _forbidden(child, error) from None
        except Invalid as error:
            raise _refused(child, error) from None

    def _differs(self, child: Manifest, live: Manifest) -> bool:
        """Whether a live child is not what it should be: asked anew, or changed by somebody else."""
        missing = differences(child, live)
        if not missing:
            return False
        return self._settled.get(live["metadata"].get("uid", "")) != (_hash_of(child), missing)

    def _settle(self, child: Manifest, applied: Manifest) -> Manifest:
        """Remember what the API server wrote differently, so that it is not sent again and again."""
        missing = differences(child, applied)
        uid = applied["metadata"].get("uid", "")
        if missing:
            self._settled[uid] = (_hash_of(child), missing)
        else:
            self._settled.pop(uid, None)
        return applied


def _with_replicas(child: Manifest, replicas: int) -> Manifest:
    """A child as it is first written: a Deployment with its replicas, so that it never has another number of pods."""
    if child["kind"] != DEPLOYMENT.kind:
        return child
    return {**child, "spec": {**child["spec"], "replicas": replicas}}


def _hash_of(child: Manifest) -> str:
    return str(child["metadata"]["annotations"][names.CONFIG_HASH_ANNOTATION])


def _owns_replicas(deployment: Manifest) -> bool:
    return any(
        entry.get("manager") == FieldManager.OPERATOR_REPLICAS
        for entry in deployment["metadata"].get("managedFields", [])
    )


def _refused(child: Manifest, error: Invalid) -> InvalidSpecError | BlockedError:
    """What a person can do about an object that the API server will not take."""
    if child["kind"] == DEPLOYMENT.kind:
        text = f"the API server refuses the pods; check spec.podTemplate: {error.message}"
        return InvalidSpecError(Reason.INVALID_POD_TEMPLATE, text)
    text = f"the API server refuses {child['kind']} {child['metadata']['name']}: {error.message}"
    return BlockedError(Reason.REFUSED, text, NAME_TAKEN_RETRY_S)


def _forbidden(child: Manifest, error: Forbidden) -> BlockedError | Forbidden:
    """A quota, a policy, a claim that cannot grow: one child's matter, unless nothing can be written at all."""
    if error.status != HTTPStatus.FORBIDDEN or error.reason == NAMESPACE_TERMINATING:
        return error
    text = f"the API server forbids {child['kind']} {child['metadata']['name']}: {error.message}"
    return BlockedError(Reason.REFUSED, text, NAME_TAKEN_RETRY_S)
