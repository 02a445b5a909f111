"""Which binaries the sandbox runs: their modules, versions, and what an already installed one must be to be used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

Version = tuple[int, ...]


@dataclass(frozen=True)
class Release:
    """Where a project publishes built binaries.

    Args:
        url: of the file, with {os} and {arch}.
        checksum_url: of the SHA-256 published beside it.
        member: path inside the archive; None when the file is the binary itself.
    """

    url: str
    checksum_url: str
    member: str | None = None


@dataclass(frozen=True)
class Module:
    """A Go module that binaries are built from.

    Args:
        path: module path.
        version: pinned version.
        packages: main packages built from it; they become `tool` lines, so that the module needs no Go file.
        variables: what `-X` sets at link time. Without them Kubernetes reports a version that clients cannot parse.
        tags: build tags.
        staging: a prefix of modules that the pinned module requires at v0.0.0, and the version that replaces it.
    """

    path: str
    version: str
    packages: tuple[str, ...]
    variables: tuple[str, ...] = ()
    tags: str = ""
    staging: tuple[str, str] | None = None

    @property
    def linker_flags(self) -> str:
        """The value of `-ldflags`: stripped, with the variables set."""
        return " ".join(["-s -w", *(f"-X {variable}" for variable in self.variables)])


@dataclass(frozen=True)
class Binary:
    """One program of the sandbox.

    Args:
        name: file name.
        module: what it is built from.
        package: its main package.
        version_arguments: what makes it print its version.
        accepts: lowest and first too high version of an installed one.
        release: where built ones are published; None when images are all that is.
        build_minutes: minutes a cold build takes on 2 cores (measured 2026-11-21).
    """

    name: str
    module: Module
    package: str
    version_arguments: tuple[str, ...]
    accepts: tuple[Version, Version]
    release: Release | None
    build_minutes: float


_KUBERNETES_VERSION: Final = "v1.36.3"
_KUBERNETES_COMMANDS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")

KUBERNETES: Final = Module(
    path="k8s.io/kubernetes",
    version=_KUBERNETES_VERSION,
    packages=tuple(f"k8s.io/kubernetes/cmd/{name}" for name in _KUBERNETES_COMMANDS),
    variables=(
        f"k8s.io/component-base/version.gitVersion={_KUBERNETES_VERSION}",
        "k8s.io/component-base/version.gitMajor=1",
        "k8s.io/component-base/version.gitMinor=36",
        f"k8s.io/client-go/pkg/version.gitVersion={_KUBERNETES_VERSION}",
    ),
    staging=("k8s.io/", "v0.36.3"),
)
ETCD: Final = Module(path="go.etcd.io/etcd/server/v3", version="v3.6.16", packages=("go.etcd.io/etcd/server/v3",))
PROMETHEUS: Final = Module(
    path="github.com/prometheus/prometheus",
    version="v0.315.0",
    packages=("github.com/prometheus/prometheus/cmd/prometheus", "github.com/prometheus/prometheus/cmd/promtool"),
    # Without the cloud providers' SDKs: 75 instead of 102 MB, and a shorter build.
    tags="netgo,remove_all_sd,enable_kubernetes_sd",
)
_HELM_VERSION: Final = "v4.3.1"
HELM: Final = Module(
    path="helm.sh/helm/v4",
    version=_HELM_VERSION,
    packages=("helm.sh/helm/v4/cmd/helm",),
    # Without it `helm version` tells the minor version only.
    variables=(f"helm.sh/helm/v4/internal/version.version={_HELM_VERSION}",),
)
PROMETHEUS_OPERATOR: Final = ("github.com/prometheus-operator/prometheus-operator", "v0.85.0")
"""Module whose folder holds the PodMonitor definition; nothing of it is built."""

_PROMETHEUS_RELEASE: Final = "3.15.0"
"""The release that module version v0.315.0 stands for."""


def _kubernetes(name: str, accepts: tuple[Version, Version], build_minutes: float) -> Binary:
    """A binary of the Kubernetes module."""
    url = f"https://dl.k8s.io/release/{_KUBERNETES_VERSION}/bin/{{os}}/{{arch}}/{name}"
    return Binary(
        name=name,
        module=KUBERNETES,
        package=f"k8s.io/kubernetes/cmd/{name}",
        version_arguments=("version", "--client") if name == "kubectl" else ("--version",),
        accepts=accepts,
        release=Release(url, f"{url}.sha256"),
        build_minutes=build_minutes,
    )


def _prometheus(name: str) -> Binary:
    """A binary of the Prometheus module."""
    folder = f"prometheus-{_PROMETHEUS_RELEASE}.{{os}}-{{arch}}"
    base = f"https://github.com/prometheus/prometheus/releases/download/v{_PROMETHEUS_RELEASE}"
    return Binary(
        name=name,
        module=PROMETHEUS,
        package=f"github.com/prometheus/prometheus/cmd/{name}",
        version_arguments=("--version",),
        accepts=((3, 0), (4,)),
        release=Release(f"{base}/{folder}.tar.gz", f"{base}/sha256sums.txt", f"{folder}/{name}"),
        build_minutes=4.5 if name == "prometheus" else 1,
    )


_ETCD_RELEASE: Final = f"https://github.com/etcd-io/etcd/releases/download/{ETCD.version}"
_SAME_MINOR: Final = ((1, 36), (1, 37))
# kubectl may be one minor version older or newer than the server: kubernetes.io/releases/version-skew-policy
_KUBECTL_SKEW: Final = ((1, 35), (1, 38))

BINARIES: Final[Mapping[str, Binary]] = {
    binary.name: binary
    for binary in (
        Binary(
            name="etcd",
            module=ETCD,
            package=ETCD.path,
            version_arguments=("--version",),
            # The server asks etcd for watch progress, which 3.5 answers reliably since 3.5.13.
            accepts=((3, 5, 13), (4,)),
            release=Release(
                f"{_ETCD_RELEASE}/etcd-{ETCD.version}-{{os}}-{{arch}}.tar.gz",
                f"{_ETCD_RELEASE}/SHA256SUMS",
                f"etcd-{ETCD.version}-{{os}}-{{arch}}/etcd",
            ),
            build_minutes=0.5,
        ),
        _kubernetes("kube-apiserver", _SAME_MINOR, 4),
        _kubernetes("kube-controller-manager", _SAME_MINOR, 1),
        _kubernetes("kube-scheduler", _SAME_MINOR, 0.5),
        _kubernetes("kubectl", _KUBECTL_SKEW, 0.5),
        _prometheus("prometheus"),
        _prometheus("promtool"),
        Binary(
            name="helm",
            module=HELM,
            package="helm.sh/helm/v4/cmd/helm",
            version_arguments=("version",),
            # Helm 3 installs the chart as well (tested with 3.22); `--take-ownership` came with 3.17.
            accepts=((3, 17), (5,)),
            release=Release(
                f"https://get.helm.sh/helm-{_HELM_VERSION}-{{os}}-{{arch}}.tar.gz",
                f"https://get.helm.sh/helm-{_HELM_VERSION}-{{os}}-{{arch}}.tar.gz.sha256sum",
                "{os}-{arch}/helm",
            ),
            build_minutes=2.5,
        ),
    )
}


def parse_version(output: str) -> Version | None:
    """The first dotted version in what a program prints about itself; None when there is none.

    >>> parse_version("etcd Version: 3.6.16")
    (3, 6, 16)
    """
    found = re.search(r"\bv?(\d+(?:\.\d+)+)", output)
    return tuple(int(part) for part in found.group(1).split(".")) if found else None
