"""What the operator is started with: flags, each with an environment variable `PLIMSOLL_<FLAG>`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plimsoll_api.v1alpha1 import parse_duration

DEFAULT_ENGINE_IMAGE: Final = "vllm/vllm-openai:v0.32.0"
"""The oldest vLLM without a known advisory for untrusted clients."""

ENVIRONMENT_PREFIX: Final = "PLIMSOLL_"


@dataclass(frozen=True)
class Settings:
    """What the operator is started with.

    Attributes:
        kubeconfig: file, or None for `$KUBECONFIG` or the service account.
        namespaces: namespaces to watch; empty watches all.
        engine_image: image of services that name none.
        scrape_interval: how often Prometheus scrapes a serving pod, as a Prometheus duration.
        health_port: port of `/healthz` and `/readyz`; 0 takes any free one.
        metrics_port: port of `/metrics`; 0 takes any free one.
        lease_namespace: where the Lease is.
        lease_duration: seconds without a renewal after which a standby takes over.
        workers: reconciles at once.
        resync: seconds after which every service is reconciled again, at the earliest.
    """

    kubeconfig: Path | None = None
    namespaces: tuple[str, ...] = ()
    engine_image: str = DEFAULT_ENGINE_IMAGE
    scrape_interval: str = "15s"
    health_port: int = 8080
    metrics_port: int = 8081
    lease_namespace: str = "plimsoll-system"
    lease_duration: float = 15.0
    workers: int = 8
    resync: float = 300.0


def parse_settings(arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Read flags; a flag that is not given is taken from `PLIMSOLL_<FLAG>`, then from its default.

    Raises:
        SystemExit: a flag is unknown or its value cannot be used (argparse prints why).
    """
    parser = argparse.ArgumentParser(
        prog="plimsoll-operator", description="Turns every LLMService into running, watched vLLM pods."
    )

    def flag(name: str, default: str, text: str, kind: type | None = None) -> None:
        value = environment.get(ENVIRONMENT_PREFIX + name.upper().replace("-", "_"), default)
        parser.add_argument(f"--{name}", default=value, type=kind or str, help=f"{text} (default {default or 'none'})")

    flag("kubeconfig", "", "kubeconfig file; inside a cluster the service account is used")
    parser.add_argument(
        "--namespace",
        action="append",
        default=None,
        help="namespace to watch; may be given several times (default all)",
    )
    flag("engine-image", DEFAULT_ENGINE_IMAGE, "image of services that name none")
    flag("scrape-interval", "15s", "how often Prometheus scrapes a serving pod")
    flag("health-port", "8080", "port of /healthz and /readyz; 0 takes a free one", int)
    flag("metrics-port", "8081", "port of /metrics; 0 takes a free one", int)
    flag("lease-namespace", "plimsoll-system", "namespace of the leader's Lease")
    flag("lease-duration", "15s", "time without a renewal after which a standby takes over")
    flag("workers", "8", "reconciles at once", int)
    flag("resync", "5m", "every service is reconciled again after this long, or up to twice as long")
    given = parser.parse_args(arguments)
    namespaces = given.namespace or [n for n in environment.get("PLIMSOLL_NAMESPACE", "").split(",") if n]
    try:
        durations = parse_duration(given.lease_duration), parse_duration(given.resync)
        parse_duration(given.scrape_interval)
    except ValueError as error:
        parser.error(str(error))
    return Settings(
        kubeconfig=Path(given.kubeconfig) if given.kubeconfig else None,
        namespaces=tuple(namespaces),
        engine_image=given.engine_image,
        scrape_interval=given.scrape_interval,
        health_port=given.health_port,
        metrics_port=given.metrics_port,
        lease_namespace=given.lease_namespace,
        lease_duration=durations[0],
        workers=given.workers,
        resync=durations[1],
    )
