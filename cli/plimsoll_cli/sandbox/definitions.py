"""Custom resource definitions that the sandbox installs: ours, and those of prometheus-operator that it follows."""

from __future__ import annotations

import os
from typing import Final

from plimsoll_api.crd import to_yaml
from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.pins import PROMETHEUS_OPERATOR
from plimsoll_runtime.vllm_environment import cache_directory

_FOLDER: Final = "example/prometheus-operator-crd-full"


def llm_service() -> str:
    """The LLMService definition, generated from the models."""
    return to_yaml()


def pod_monitor() -> str:
    """prometheus-operator's PodMonitor definition.

    Raises:
        CommandError: it is not cached, and Go is missing or the module cannot be fetched.
    """
    return _of_prometheus_operator("podmonitors")


def prometheus_rule() -> str:
    """prometheus-operator's PrometheusRule definition.

    Raises:
        CommandError: as for `pod_monitor`.
    """
    return _of_prometheus_operator("prometheusrules")


def _of_prometheus_operator(plural: str) -> str:
    """One of its definitions, read from its Go module and then from the cache."""
    path, version = PROMETHEUS_OPERATOR
    file = f"monitoring.coreos.com_{plural}.yaml"
    cached = cache_directory(os.environ) / "definitions" / version / file
    if not cached.exists():
        source = binaries.module_directory(path, version) / _FOLDER / file
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}")
        partial.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        partial.rename(cached)
    return cached.read_text(encoding="utf-8")
