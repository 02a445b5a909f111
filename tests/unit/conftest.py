"""`fake_kube`: a Kubernetes API in memory, for what needs its answers but not its validation.

`in_virtual_time`: time that passes only when everybody waits for it.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import pytest

from plimsoll_kube.client import ObjectList
from plimsoll_kube.errors import Conflict, NotFound
from plimsoll_kube.resources import Manifest, Resource
from plimsoll_kube.watching import WatchEvent

Result = TypeVar("Result")
Path = tuple[str, ...]
ITEM_KEYS = ("type", "name", "mountPath", "containerPort", "uid", "key")


def key_of_items(items: list[Any]) -> str | None:
    """The field that identifies the items of a list, as list-maps have one."""
    for key in ITEM_KEYS:
        if items and all(isinstance(item, dict) and key in item for item in items):
            return key
    return None


def leaves(value: Any, path: Path = ()) -> dict[Path, Any]:
    """Every leaf of an object by its path; list-maps by the key of their items, other lists as one leaf."""
    if isinstance(value, dict) and value:
        return {k: v for name, inner in value.items() for k, v in leaves(inner, (*path, name)).items()}
    if isinstance(value, list) and (key := key_of_items(value)):
        return {k: v for item in value for k, v in leaves(item, (*path, f"[{key}={item[key]}]")).items()}
    return {path: value}


def rebuilt(flat: dict[Path, Any]) -> Any:
    """The object of some leaves."""
    root: dict[str, Any] = {}
    for path, value in flat.items():
        node = root
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = value
    return _listed(root)


def _listed(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    if node and all(name.startswith("[") for name in node):
        return [_listed(item) for item in node.values()]
    return {name: _listed(inner) for name, inner in node.items()}


class FakeKube:
    """Server-side apply with owners and conflicts, resource versions, generations, status and scale subresources.

    `before` and `after` are called around every request with its number, verb, kind and name, and may raise.
    """

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str, str], dict[Path, Any]] = {}
        self.owners: dict[tuple[str, str, str], dict[str, set[Path]]] = {}
        self.meta: dict[tuple[str, str, str], dict[str, Any]] = {}
        self.calls: list[tuple[str, str, str]] = []
        self.writes: list[tuple[str, str, str, str]] = []
        self.before: Callable[[int, str, str, str], None] = lambda number, verb, kind, name: None
        self.after: Callable[[int, str, str, str], None] = lambda number, verb, kind, name: None
        self.unserved: set[Resource] = set()
        self.replicas: dict[str, list[int]] = {}
        """Every number of replicas that each Deployment ever asked for."""
        self.logs: dict[tuple[str, str, bool], str] = {}
        """Of engines, by namespace, pod and whether of the previous run."""
        self._version = itertools.count(1)

    # What tests do to the cluster, past the counters.

    def put(self, manifest: Manifest, manager: str = "test") -> Manifest:
        """Create or apply an object as a person would."""
        return self._merge(copy.deepcopy(manifest), manager, force=True, subresource="")

    def put_status(self, manifest: Manifest, manager: str = "test") -> Manifest:
        """Write a status as a controller would."""
        return self._merge(copy.deepcopy(manifest), manager, force=True, subresource="status")

    def see(self, resource: Resource, namespace: str, name: str) -> Manifest:
        """An object; fails when it does not exist."""
        found = self._object((resource.kind, namespace, name))
        assert found is not None, f"{resource.kind} {namespace}/{name} does not exist"
        return found

    def remove(self, resource: Resource, namespace: str, name: str) -> None:
        """Delete an object without anybody being told."""
        for store in (self.objects, self.owners, self.meta):
            store.pop((resource.kind, namespace, name), None)  # type: ignore[attr-defined]

    def snapshot(self) -> dict[str, Any]:
        """Everything but what differs from run to run: identifiers, versions and times."""
        shown = {}
        for key in sorted(self.objects):
            if key[0] == "Event":
                continue
            found = self._object(key)
            assert found is not None
            for volatile in ("resourceVersion", "uid", "generation"):
                found["metadata"].pop(volatile, None)
            shown["/".join(key)] = json.loads(json.dumps(found, sort_keys=True))
        return shown

    # KubeApi

    async def log(
        self, namespace: str, pod: str, container: str, *, previous: bool, tail_lines: int, limit_bytes: int
    ) -> str:
        self._begin("log", "Pod", pod)
        text = self.logs.get((namespace, pod, previous))
        self._end("log", "Pod", pod)
        if text is None:
            raise NotFound(404, "NotFound", f"pods {pod} has no such log")
        return "".join(text.splitlines(keepends=True)[-tail_lines:])[:limit_bytes]

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Manifest | None:
        self._begin("get", resource.kind, name)
        found = self._object((resource.kind, namespace or "", name))
        self._end("get", resource.kind, name)
        return found

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str | None = None,
    ) -> ObjectList:
        self._begin("list", resource.kind, "")
        items = [
            found
            for key in list(self.objects)
            if key[0] == resource.kind
            and (namespace is None or key[1] == namespace)
            and (found := self._object(key)) is not None
            and _selected(found, label_selector)
        ]
        self._end("list", resource.kind, "")
        return ObjectList(items, str(next(self._version)))

    async def apply(
        self, manifest: Manifest, *, field_manager: str, force: bool = True, subresource: str = ""
    ) -> Manifest:
        return self._write(
            "apply",
            manifest,
            field_manager,
            lambda: self._merge(copy.deepcopy(manifest), field_manager, force=force, subresource=subresource),
        )

    async def scale(
        self,
        resource: Resource,
        namespace: str,
        name: str,
        replicas: int,
        *,
        field_manager: str,
        resource_version: str | None = None,
    ) -> int:
        metadata = {"resourceVersion": resource_version} if resource_version else {}
        manifest = resource.manifest(namespace, name, metadata=metadata, spec={"replicas": replicas})
        self._write("scale", manifest, field_manager, lambda: self._merge(manifest, field_manager, True, ""))
        return replicas

    async def create(self, manifest: Manifest, *, field_manager: str = "") -> Manifest:
        def write() -> Manifest:
            if _key(manifest) in self.objects:
                raise Conflict(409, "AlreadyExists", f"{_key(manifest)} exists")
            return self._merge(copy.deepcopy(manifest), field_manager, force=True, subresource="")

        return self._write("create", manifest, field_manager, write)

    async def replace(self, manifest: Manifest, *, field_manager: str = "", subresource: str = "") -> Manifest:
        def write() -> Manifest:
            key = _key(manifest)
            if key not in self.objects:
                raise NotFound(404, "NotFound", f"{key}")
            wanted = manifest["metadata"].get("resourceVersion")
            if wanted is not None and wanted != self.meta[key]["resourceVersion"]:
                raise Conflict(409, "Conflict", f"{key} was modified")
            self.owners[key] = {field_manager: set()}
            self.objects[key] = {}
            return self._merge(copy.deepcopy(manifest), field_manager, force=True, subresource="")

        return self._write("update", manifest, field_manager, write)

    async def patch(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        patch: Manifest,
        *,
        subresource: str = "",
        field_manager: str = "",
    ) -> Manifest:
        manifest = resource.manifest(namespace, name, **patch)
        return self._write(
            "patch",
            manifest,
            field_manager,
            lambda: self._merge(manifest, f"patch-{len(self.calls)}", True, subresource),
        )

    async def delete(
        self,
        resource: Resource,
        namespace: str | None,
        name: str,
        *,
        uid: str | None = None,
        grace_period_seconds: int | None = None,
    ) -> bool:
        self._begin("delete", resource.kind, name)
        existed = (resource.kind, namespace or "", name) in self.objects
        self.remove(resource, namespace or "", name)
        self.writes.append(("delete", resource.kind, name, ""))
        self._end("delete", resource.kind, name)
        return existed

    async def watch(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str = "",
        field_selector: str = "",
        resource_version: str = "",
    ) -> AsyncIterator[WatchEvent]:
        raise NotImplementedError("tests of watches script their own")
        yield

    async def served(self, resource: Resource) -> bool:
        self._begin("get", "APIResourceList", resource.plural)
        self._end("get", "APIResourceList", resource.plural)
        return resource not in self.unserved

    # Inside

    def _begin(self, verb: str, kind: str, name: str) -> None:
        self.calls.append((verb, kind, name))
        self.before(len(self.calls), verb, kind, name)

    def _end(self, verb: str, kind: str, name: str) -> None:
        self.after(len(self.calls), verb, kind, name)

    def _write(self, verb: str, manifest: Manifest, manager: str, write: Callable[[], Manifest]) -> Manifest:
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        self._begin(verb, kind, name)
        self.writes.append((verb, kind, name, manager))
        written = write()
        self._end(verb, kind, name)
        return written

    def _object(self, key: tuple[str, str, str]) -> Manifest | None:
        if key not in self.objects:
            return None
        found: Manifest = rebuilt(copy.deepcopy(self.objects[key]))
        found["metadata"].update(copy.deepcopy(self.meta[key]))
        scales = {"f:spec": {"f:replicas": {}}}
        found["metadata"]["managedFields"] = [
            {"manager": who, "operation": "Apply", "fieldsV1": scales if ("spec", "replicas") in paths else {}}
            for who, paths in sorted(self.owners[key].items())
            if who
        ]
        return found

    def _merge(self, manifest: Manifest, manager: str, force: bool, subresource: str) -> Manifest:
        key = _key(manifest)
        known = self.meta.get(key)
        for field in ("uid", "resourceVersion"):
            asked = manifest["metadata"].pop(field, None)
            if asked is not None and (known is None or known[field] != asked):
                raise Conflict(409, "Conflict", f"{key}: {field} is not {asked}")
        manifest["metadata"].pop("managedFields", None)
        if key not in self.objects:
            if subresource:
                raise NotFound(404, "NotFound", f"{key}")
            self.objects[key] = {}
            self.owners[key] = {}
            self.meta[key] = {"uid": f"uid-{next(self._version)}", "generation": 0}
        wanted = {path: value for path, value in leaves(manifest).items() if _written(path, key[0], subresource)}
        before = dict(self.objects[key])
        part = f"{manager}{'/' + subresource if subresource else ''}"
        mine = self.owners[key].get(part, set())
        others = {path: owner for owner, paths in self.owners[key].items() if owner != part for path in paths}
        clashes = [path for path, value in wanted.items() if path in others and before.get(path) != value]
        if clashes and not force:
            raise Conflict(409, "Conflict", f"{key}: {clashes[0]} is owned by {others[clashes[0]]}")
        for path in clashes:
            for paths in self.owners[key].values():
                paths.discard(path)
        for path in mine - wanted.keys() - others.keys():
            self.objects[key].pop(path, None)
        self.objects[key].update(wanted)
        self.owners[key][part] = {path for path in wanted if path[0] not in ("apiVersion", "kind")}
        self._stamp(key, before)
        found = self._object(key)
        assert found is not None
        return found

    def _stamp(self, key: tuple[str, str, str], before: dict[Path, Any]) -> None:
        after = self.objects[key]
        if after == before:
            return
        self.meta[key]["resourceVersion"] = str(next(self._version))
        if key[0] == "Deployment":
            self.replicas.setdefault(key[2], []).append(after.get(("spec", "replicas"), 1))
        spec = [{p: v for p, v in flat.items() if p[0] not in ("metadata", "status")} for flat in (before, after)]
        if spec[0] != spec[1]:
            self.meta[key]["generation"] += 1


def _written(path: Path, kind: str, subresource: str) -> bool:
    """Whether a request to a subresource writes a path."""
    if path[0] in ("apiVersion", "kind") or path in (("metadata", "name"), ("metadata", "namespace")):
        return True
    return (path[0] == "status") == (subresource == "status")


def _key(manifest: Manifest) -> tuple[str, str, str]:
    metadata = manifest["metadata"]
    return manifest["kind"], metadata.get("namespace", ""), metadata["name"]


def _selected(found: Manifest, selector: str) -> bool:
    labels = found["metadata"].get("labels") or {}
    return all(
        labels.get(name) == value for name, _, value in (part.partition("=") for part in selector.split(",") if part)
    )


@pytest.fixture
def fake_kube() -> FakeKube:
    """An empty cluster in memory that knows PodMonitors."""
    return FakeKube()


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer instead of waiting for it. For code without input and output."""

    def __init__(self, late: float) -> None:
        super().__init__()
        self._late = late
        self._now = 0.0
        self._wait = self._selector.select  # type: ignore[attr-defined]
        self._selector.select = self._jump  # type: ignore[attr-defined]

    def time(self) -> float:
        """Seconds since the loop was made."""
        return self._now

    def _jump(self, timeout: float | None) -> Any:
        ready = self._wait(0)
        if not ready:
            assert timeout is not None, "everybody waits, and for nothing"
            self._now += timeout + self._late if timeout > 0 else 0.0
        return ready


def run_in_virtual_time(scenario: Coroutine[Any, Any, Result], late: float = 0.0) -> Result:
    """The result of a coroutine whose sleeps take no time.

    Args:
        scenario: the coroutine.
        late: seconds that every timer fires late.
    """
    with asyncio.Runner(loop_factory=lambda: VirtualTimeLoop(late)) as runner:
        return runner.run(scenario)


@pytest.fixture
def in_virtual_time() -> Callable[..., Any]:
    """`in_virtual_time(scenario(), late=0.0)`."""
    return run_in_virtual_time
