"""The detector's command line; every flag may also come from the environment as `PLIMSOLL_<FLAG>`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from plimsoll_api.v1alpha1 import parse_duration

BIND_ADDRESS_VARIABLE = "PLIMSOLL_BIND_ADDRESS"


@dataclass(frozen=True)
class Settings:
    """What the process was told.

    Attributes:
        kubeconfig: file; None uses the service account or `$KUBECONFIG`.
        prometheus_url: where Prometheus is.
        prometheus_token_file: file with the bearer token that Prometheus asks for; None sends none.
        prometheus_ca_file: certificates that Prometheus' own is checked against; None takes the system's.
        namespaces: namespaces whose services are looked after; empty is all of them.
        interval: seconds between two ticks.
        window: seconds over which rates are taken; four scrape intervals at least.
        health_port: of `/healthz` and `/readyz`; 0 is any free one.
        metrics_port: of `/metrics`; 0 is any free one.
        bind_address: of both.
        lease_namespace: where the Lease is.
        lease_duration: seconds without a renewal after which another detector takes over.
        wake_signal: whether something brings a stopped service back when a request arrives.
        log_level: least severe level that is logged.
    """

    kubeconfig: Path | None
    prometheus_url: str
    prometheus_token_file: Path | None
    prometheus_ca_file: Path | None
    namespaces: tuple[str, ...]
    interval: float
    window: float
    health_port: int
    metrics_port: int
    bind_address: str
    lease_namespace: str
    lease_duration: float
    wake_signal: bool
    log_level: str


def _duration(text: str) -> float:
    """Seconds of a duration flag; argparse turns the error into a usage message."""
    try:
        seconds = parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    if seconds <= 0:
        raise argparse.ArgumentTypeError(f"{text} must be more than 0")
    return seconds


def _boolean(text: str) -> bool:
    return text.lower() in ("1", "true", "yes")


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Settings:
    """The settings of a command line.

    Raises:
        SystemExit: something is missing or wrong (argparse has said what).
    """
    parser = argparse.ArgumentParser(
        prog="plimsoll-detector",
        description="Diagnose every LLMService from Prometheus data and scale it, with reasons.",
    )

    def add(flag: str, default: str | None, help_text: str, kind: type | object = str) -> None:
        value = environment.get("PLIMSOLL_" + flag.removeprefix("--").replace("-", "_").upper(), default)
        parser.add_argument(flag, default=value, type=kind, help=help_text)  # type: ignore[arg-type]

    add("--kubeconfig", None, "kubeconfig file (default: the pod's service account, or $KUBECONFIG)", Path)
    add("--prometheus-url", None, "where Prometheus is, such as http://prometheus:9090")
    add("--prometheus-token-file", None, "file with a bearer token for Prometheus, read again for every query", Path)
    add("--prometheus-ca-file", None, "certificates to check Prometheus' own against (default: the system's)", Path)
    parser.add_argument(
        "--namespace",
        action="append",
        dest="namespaces",
        help="namespace to look after; may be given several times (default: all)",
    )
    add("--interval", "15s", "time between two decisions (default 15s)", _duration)
    add("--window", "1m", "time over which rates are taken: at least four scrape intervals (default 1m)", _duration)
    add("--health-port", "8082", "port of /healthz and /readyz; 0 is any free one (default 8082)", int)
    add("--metrics-port", "8083", "port of /metrics; 0 is any free one (default 8083)", int)
    add("--bind-address", environment.get(BIND_ADDRESS_VARIABLE, ""), "address of both (default: every interface)")
    add("--lease-namespace", "plimsoll-system", "namespace of the Lease (default plimsoll-system)")
    add("--lease-duration", "15s", "time after which another detector takes over (default 15s)", _duration)
    add(
        "--wake-signal",
        "false",
        "true when something sets replicas to 1 as a request arrives; without it the last replica is never stopped",
        _boolean,
    )
    add("--log-level", "INFO", "least severe level that is logged (default INFO)")
    parsed = parser.parse_args(arguments)
    if not parsed.prometheus_url:
        parser.error("give --prometheus-url or set PLIMSOLL_PROMETHEUS_URL")
    if not parsed.prometheus_url.startswith(("http://", "https://")):
        parser.error(f"--prometheus-url {parsed.prometheus_url!r} must start with http:// or https://")
    given = parsed.namespaces or environment.get("PLIMSOLL_NAMESPACE", "").split(",")
    parsed.namespaces = tuple(name for name in given if name)
    return Settings(**vars(parsed))
