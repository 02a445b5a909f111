"""Programs of other projects that clusters run beside Plimsoll; tests run them against a sandbox.

docs/guides/interop.md says how each of them is configured. A sandbox starts none of them by itself. The minutes of a
build are half the processor time that it took (2026-11-25), for two cores.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from plimsoll_cli.sandbox.pins import Binary, Module

KEDA: Final = Module(
    path="github.com/kedacore/keda/v2",
    version="v2.21.0",
    packages=("github.com/kedacore/keda/v2/cmd/operator", "github.com/kedacore/keda/v2/cmd/adapter"),
)
PROMETHEUS_ADAPTER: Final = Module(
    path="sigs.k8s.io/prometheus-adapter",
    version="v0.12.0",
    packages=("sigs.k8s.io/prometheus-adapter/cmd/adapter",),
)
KUBE_STATE_METRICS: Final = Module(
    path="k8s.io/kube-state-metrics/v2",
    version="v2.20.0",
    packages=("k8s.io/kube-state-metrics/v2",),
    variables=("github.com/prometheus/common/version.Version=v2.20.0",),
)
GOPHER_LUA: Final = Module(
    path="github.com/yuin/gopher-lua",
    # What Argo CD runs health checks in, at the version its 3.4 and 3.5 require. Argo CD itself would take five minutes
    # more to build, and from 3.3 on its go.mod needs a folder that the module's archive does not hold.
    version="v1.1.2",
    packages=("github.com/yuin/gopher-lua/cmd/glua",),
)
GATEWAY_API: Final = ("sigs.k8s.io/gateway-api", "v1.6.3")
"""Module whose folder holds the definitions of Gateways and HTTPRoutes; nothing of it is built."""

NEIGHBOURS: Final[Mapping[str, Binary]] = {
    binary.name: binary
    for binary in (
        Binary(
            name="keda-operator",
            module=KEDA,
            package=KEDA.packages[0],
            version_arguments=("--version",),
            accepts=((2, 21), (3,)),
            release=None,
            build_minutes=6.5,
        ),
        Binary(
            name="keda-adapter",
            module=KEDA,
            package=KEDA.packages[1],
            version_arguments=("--version",),
            accepts=((2, 21), (3,)),
            release=None,
            build_minutes=1,
        ),
        Binary(
            name="prometheus-adapter",
            module=PROMETHEUS_ADAPTER,
            package=PROMETHEUS_ADAPTER.packages[0],
            version_arguments=("--version",),
            accepts=((0, 12), (1,)),
            release=None,
            build_minutes=1.8,
        ),
        Binary(
            name="kube-state-metrics",
            module=KUBE_STATE_METRICS,
            package=KUBE_STATE_METRICS.path,
            version_arguments=("version",),
            accepts=((2, 18), (3,)),
            release=None,
            build_minutes=1.4,
        ),
        Binary(
            name="glua",
            module=GOPHER_LUA,
            package=GOPHER_LUA.packages[0],
            version_arguments=("-v",),
            accepts=((1, 1), (2,)),
            release=None,
            build_minutes=0.2,
        ),
    )
}
