"""Custom resource definitions that the sandbox installs: ours, and prometheus-operator's PodMonitor."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from plimsoll_api.crd import to_yaml
from plimsoll_cli.sandbox import binaries
from plimsoll_cli.sandbox.pins import PROMETHEUS_OPERATOR
from plimsoll_runtime.vllm_environment import cache_directory

_POD_MONITOR_FILE: Final = "example/prometheus-operator-crd-full/monitoring.coreos.com_podmonitors.yaml"


def llm_service() -> str:
    """The LLMService definition, generated from the models."""
    return to_yaml()


def pod_monitor() -> str:
    """prometheus-operator's PodMonitor definition, read from its Go module and then from the cache.

    Raises:
        CommandError: it is not cached, and Go is missing or the module cannot be fetched.
    """
    path, version = PROMETHEUS_OPERATOR
    cached = cache_directory(os.environ) / "definitions" / version / Path(_POD_MONITOR_FILE).name
    if not cached.exists():
        source = binaries.module_directory(path, version) / _POD_MONITOR_FILE
        cached.parent.mkdir(parents=True, exist_ok=True)
        partial = cached.with_suffix(f".{os.getpid()}")
        partial.write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        partial.rename(cached)
    return cached.read_text(encoding="utf-8")
