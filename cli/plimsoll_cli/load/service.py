"""`--service`: what an LLMService says about its traffic, and the record of a test in the cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from plimsoll_api import names
from plimsoll_api.v1alpha1 import (
    LLMServiceSpec,
    LLMServiceStatus,
    LoadTestStatus,
    TokenLengths,
    Workload,
    format_decimal,
    format_duration,
    parse_duration,
)
from plimsoll_cli.errors import CommandError
from plimsoll_cli.load.arrivals import TrafficOptions
from plimsoll_cli.load.document import summary_document, timestamp
from plimsoll_cli.load.plan import Objectives
from plimsoll_cli.load.records import LoadResult
from plimsoll_cli.load.statistics import Summary
from plimsoll_cli.load.terminal import headline
from plimsoll_kube.resources import CONFIG_MAP, LLM_SERVICE, SERVICE, Manifest
from plimsoll_simulator.traffic import MAX_P95_OVER_MEAN, SHAPES

if TYPE_CHECKING:
    from plimsoll_kube.client import KubeApi

COMPONENT: Final = "load-test"
"""Component label of the records."""
KEPT_RECORDS: Final = 10
"""Records kept per service: enough to compare with, few enough to leave nothing to tidy."""
SUMMARY_KEY: Final = "summary.json"
DEFAULT_DURATION_SECONDS: Final = 60.0
_P95_OVER_MEAN: Final = 2.5
"""What the API says an absent p95 means."""
_BAD_INPUT: Final = 2
_MISSING: Final = 3
# Shapes whose rate the workload's rate stands for; a published shape has its own.
_WITH_RATE: Final = ("poisson", "gamma", "flash")


@dataclass(frozen=True)
class Target:
    """What an LLMService says: where it is reached and what it expects.

    Args:
        namespace, name, uid: the LLMService.
        url: where clients reach it.
        model: the name clients ask for.
        objectives: what it promises, in seconds.
        workload: the traffic it expects.
        context: tokens a request may have at most, where the service's status says it.
    """

    namespace: str
    name: str
    uid: str
    url: str
    model: str
    objectives: Objectives
    workload: Workload
    context: int | None


async def read_target(kube: KubeApi, namespace: str, name: str, url: str | None) -> Target:
    """The target that an LLMService describes.

    Args:
        kube: the cluster.
        namespace: of the LLMService.
        name: of the LLMService.
        url: where to reach it, instead of its Service's cluster address.

    Raises:
        CommandError: there is no such LLMService, or its Service has no address.
        ApiError: the API server refused or did not answer.
    """
    service = await kube.get(LLM_SERVICE, namespace, name)
    if service is None:
        raise CommandError(f"--service {namespace}/{name}: there is no such LLMService", _BAD_INPUT)
    front = None if url else await kube.get(SERVICE, namespace, name)
    spec = LLMServiceSpec.model_validate(service["spec"])
    status = LLMServiceStatus.model_validate(service.get("status") or {})
    return Target(
        namespace=namespace,
        name=name,
        uid=service["metadata"]["uid"],
        url=url or cluster_url(front, f"{namespace}/{name}"),
        model=spec.model.served_name or name,
        objectives=_objectives(spec),
        workload=spec.workload,
        context=status.recommendation.config.max_model_len if status.recommendation else None,
    )


def cluster_url(front: Manifest | None, service: str) -> str:
    """`http://clusterIP:port` of a Service object.

    Raises:
        CommandError: there is no Service yet, or it has no cluster address.
    """
    address = (front or {}).get("spec", {}).get("clusterIP")
    if front is None or not address or address == "None":
        found = "has no cluster address" if front else "does not exist yet: is the LLMService Accepted?"
        raise CommandError(f"Service {service} {found} (or give --url)", _MISSING)
    ports = front["spec"].get("ports") or []
    named = [port["port"] for port in ports if port.get("name") == names.ENGINE_PORT_NAME]
    port = named[0] if named else names.ENGINE_PORT
    return f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"


def with_workload(options: TrafficOptions, target: Target) -> TrafficOptions:
    """The traffic options with the service's workload wherever the person gave nothing."""
    workload = target.workload
    chosen = options
    if options.shape is None and options.trace is None:
        burstiness = float(workload.burstiness)
        shape, cv = ("poisson", None) if burstiness == 1 else ("gamma", burstiness)
        chosen = replace(
            chosen,
            shape=shape,
            cv=options.cv if options.cv is not None else cv,
            duration=DEFAULT_DURATION_SECONDS if options.duration is None else options.duration,
        )
        if chosen.cv is not None:
            chosen = replace(chosen, shape="gamma")
    if chosen.rate is None and chosen.shape in _WITH_RATE:
        chosen = replace(chosen, rate=float(workload.requests_per_second))
    if chosen.trace is None and chosen.shape not in SHAPES:
        chosen = replace(
            chosen,
            input_tokens=chosen.input_tokens or _lengths(workload.input_tokens),
            output_tokens=chosen.output_tokens or _lengths(workload.output_tokens),
        )
    return replace(chosen, context=target.context) if chosen.context is None else chosen


def config_map(target: Target, result: LoadResult, summary: Summary) -> Manifest:
    """The test record: a ConfigMap that goes when its LLMService goes."""
    stamp = timestamp(result.started_at).translate(str.maketrans("", "", "-:TZ"))
    labels = {
        names.SERVICE_LABEL: target.name,
        names.LABEL_NAME: names.APP_NAME,
        names.LABEL_INSTANCE: target.name,
        names.LABEL_COMPONENT: COMPONENT,
        names.LABEL_MANAGED_BY: names.FieldManager.LOAD.value,
    }
    owner = {"apiVersion": names.API_VERSION, "kind": names.KIND, "name": target.name, "uid": target.uid}
    return CONFIG_MAP.manifest(
        target.namespace,
        f"{target.name}-load-{stamp}",
        metadata={"labels": labels, "ownerReferences": [owner]},
        data={
            "headline": headline(summary, result.plan.objectives),
            SUMMARY_KEY: json.dumps(summary_document(result, summary), indent=2),
        },
    )


def status_patch(target: Target, result: LoadResult, summary: Summary, record: str) -> Manifest | None:
    """The LLMService with its `status.loadTest`; None when no answer was whole, as there is no latency to state."""
    ttft, tpot = summary.at_percentile["ttft"], summary.at_percentile["tpot"]
    if summary.attainment is None or ttft is None or not summary.completed:
        return None
    status = LoadTestStatus(
        at=timestamp(result.started_at),
        config_map=record,
        requests=summary.sent - summary.abandoned,
        failed=summary.failed + summary.timed_out,
        truncated=summary.truncated,
        attainment=format_decimal(summary.attainment, 4),
        ttft=format_duration(ttft),
        tpot=format_duration(tpot or 0.0),  # answers of one token have no time between tokens
    )
    test = status.model_dump(by_alias=True, exclude_none=True)
    return LLM_SERVICE.manifest(target.namespace, target.name, status={"loadTest": test})


async def write_record(kube: KubeApi, target: Target, result: LoadResult, summary: Summary) -> str:
    """Write the record and point the LLMService's status at it; the record's name.

    Raises:
        ApiError: the API server refused or did not answer.
    """
    manager = names.FieldManager.LOAD.value
    record = config_map(target, result, summary)
    name: str = record["metadata"]["name"]
    await kube.apply(record, field_manager=manager)
    patch = status_patch(target, result, summary, name)
    if patch is not None:
        await kube.apply(patch, field_manager=manager, subresource="status")
    await _prune(kube, target)
    return name


async def _prune(kube: KubeApi, target: Target) -> None:
    """Delete all but the newest records; their names end in their time."""
    selector = f"{names.SERVICE_LABEL}={target.name},{names.LABEL_COMPONENT}={COMPONENT}"
    records = await kube.list(CONFIG_MAP, target.namespace, label_selector=selector)
    found = sorted(item["metadata"]["name"] for item in records.items)
    for name in found[:-KEPT_RECORDS]:
        await kube.delete(CONFIG_MAP, target.namespace, name)


def _objectives(spec: LLMServiceSpec) -> Objectives:
    aims = spec.objectives
    return Objectives(
        ttft=parse_duration(aims.ttft),
        tpot=parse_duration(aims.tpot),
        e2e=parse_duration(aims.e2e) if aims.e2e is not None else None,
        percentile=aims.percentile,
        attainment=float(aims.attainment),
    )


def _lengths(tokens: TokenLengths) -> str:
    """`mean:p95` as the options write it; a p95 beyond any lognormal's becomes the largest there is."""
    p95 = tokens.p95 if tokens.p95 is not None else tokens.mean * _P95_OVER_MEAN
    return f"{tokens.mean}:{min(p95, int(tokens.mean * MAX_P95_OVER_MEAN))}"
