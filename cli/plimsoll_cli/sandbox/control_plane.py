"""etcd and kube-apiserver, with controller-manager and scheduler on request: real, with RBAC on."""

from __future__ import annotations

import shutil
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import binaries, kubeconfig, loopback
from plimsoll_cli.sandbox.addresses import AddressBlock, Ports, ReservedBlock, free_ports, reserve_block
from plimsoll_cli.sandbox.certificates import Authority, KeyPair, create_authority
from plimsoll_cli.sandbox.fleet import Fleet
from plimsoll_cli.sandbox.kubectl import Kubectl
from plimsoll_cli.sandbox.processes import Component

ETCD: Final = "etcd"
API_SERVER: Final = "kube-apiserver"
CONTROLLER_MANAGER: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"
ORDER: Final = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER)
"""Order of starting; stopping is the reverse."""

ANSWER_SECONDS: Final = 5.0
"""A component that takes longer to say that it is ready is not; a busy machine takes more than one."""

TOKEN_DURATION: Final = "24h"  # noqa: S105 (a duration)
"""Longer than a sandbox is used, so that no component has to fetch a new token."""

FRONT_PROXY: Final = "front-proxy"
"""Folder of the authority that the API server's certificate towards aggregated API servers comes from."""
_FRONT_PROXY_USER: Final = "front-proxy-client"

# The API server refuses loopback addresses in Endpoints and EndpointSlices, and the controllers would log an event for
# every try; the sandbox's own Service front follows Ready pods by selector instead.
CONTROLLERS: Final = "*,-endpoints-controller,-endpointslice-controller,-endpointslice-mirroring-controller"

# Who did what to which object, without bodies. Health probes and lease renewals would drown the rest.
_AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: None
    nonResourceURLs: ["/readyz*", "/livez*", "/healthz*"]
  - level: None
    users: ["system:apiserver", "system:kube-controller-manager", "system:kube-scheduler"]
    resources: [{group: coordination.k8s.io, resources: [leases]}]
  - level: Metadata
"""


@dataclass(frozen=True)
class Layout:
    """Where a control plane keeps what.

    Args:
        root: its folder.
        block: its addresses.
        ports: of its components.
    """

    root: Path
    block: AddressBlock
    ports: Ports = field(default_factory=Ports)

    @property
    def certificates(self) -> Path:
        """Keys and certificates."""
        return self.root / "pki"

    @property
    def audit_log(self) -> Path:
        """One JSON object per request."""
        return self.root / "logs" / "audit.log"

    def log(self, component: str) -> Path:
        """A component's log file."""
        return self.root / "logs" / f"{component}.log"

    def kubeconfig(self, identity: str) -> Path:
        """An identity's kubeconfig."""
        return self.root / "kubeconfigs" / f"{identity}.yaml"

    @property
    def url(self) -> str:
        """The API server's address."""
        return f"https://{self.block.control_address}:{self.ports.api}"


class ControlPlane:
    """A running control plane; use it as a context manager."""

    def __init__(
        self,
        layout: Layout,
        fleet: Fleet,
        reserved: ReservedBlock | None,
        authority: Authority,
        further: Mapping[str, Sequence[str]],
    ) -> None:
        self.layout = layout
        self.fleet = fleet
        self.authority = authority
        self.kubectl = Kubectl(binaries.resolve("kubectl"), layout.kubeconfig("admin"))
        self._reserved = reserved
        self._further = further

    @classmethod
    def start(
        cls,
        directory: Path,
        components: Sequence[str] = ORDER[:2],
        block: AddressBlock | None = None,
        fleet: Fleet | None = None,
        announce: Callable[[str], None] = lambda _: None,
        further: Mapping[str, Sequence[str]] | None = None,
    ) -> ControlPlane:
        """Start the components and wait until etcd and kube-apiserver are ready; the others may take a moment more.

        Args:
            directory: folder for state, certificates and logs; what an earlier run left there is removed.
            components: which of `ORDER` to run; etcd and kube-apiserver always do.
            block: addresses the caller has reserved; None reserves some for as long as this runs.
            fleet: what the components are added to; None makes one that ends with this control plane.
            announce: told the name of each component as it becomes ready.
            further: arguments by component, after its own; of a flag given twice the last counts.

        Raises:
            CommandError: a binary is missing, or a component did not start (with the end of its log).
        """
        if sys.platform != "linux":
            raise CommandError(f"the sandbox needs Linux: it relies on what {sys.platform} does not have", 3)
        reserved = reserve_block() if block is None else None
        addresses = reserved.block if reserved is not None else block
        assert addresses is not None
        for stale in ("etcd", "pki", "kubeconfigs", "logs"):
            shutil.rmtree(directory / stale, ignore_errors=True)
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        layout = Layout(directory.resolve(), addresses, free_ports(addresses.control_address))
        plane = cls(layout, fleet or Fleet(), reserved, create_authority(layout.certificates), further or {})
        try:
            plane._prepare()
            for name in (ETCD, API_SERVER):
                plane._launch(name)
                plane.fleet.await_ready([name], announce)
            for name in ORDER[2:]:
                if name in components:
                    plane._launch(name)
        except BaseException:
            plane.stop()
            raise
        return plane

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """The API server's address."""
        return self.layout.url

    @property
    def audit_log(self) -> Path:
        """JSON lines, one per request, at level Metadata."""
        return self.layout.audit_log

    @property
    def admin_kubeconfig(self) -> Path:
        """A kubeconfig that may do everything."""
        return self.kubectl.kubeconfig

    def kubeconfig_for(self, namespace: str, service_account: str) -> Path:
        """A kubeconfig with a fresh token of a service account, which is created (without any right) when absent.

        Raises:
            CommandError: the API server refused.
        """
        create_token = ("create", "token", service_account, "-n", namespace, f"--duration={TOKEN_DURATION}")
        answer = self.kubectl.attempt(*create_token)
        if answer.returncode != 0:
            self.kubectl.apply(
                f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}\n---\n"
                "{apiVersion: v1, kind: ServiceAccount, "
                f"metadata: {{name: {service_account}, namespace: {namespace}}}}}\n"
            )
        token = answer.stdout if answer.returncode == 0 else self.kubectl(*create_token)
        path = self.layout.kubeconfig(f"{namespace}.{service_account}")
        return kubeconfig.write_for_token(path, self.url, self.authority.certificate, token.strip(), namespace)

    def kubeconfig_for_certificate(self, identity: str, pair: KeyPair) -> Path:
        """A kubeconfig that identifies by a client certificate of this control plane's authority."""
        path = self.layout.kubeconfig(identity)
        return kubeconfig.write_for_certificate(path, self.url, self.authority.certificate, pair)

    def healthy(self, name: str) -> bool:
        """Whether a component answers its own readiness check."""
        return answers(health_url(name, self.layout), self.layout)

    def stop(self) -> None:
        """Stop everything in reverse order and give the addresses back. Idempotent."""
        self.fleet.close()
        if self._reserved is not None:
            self._reserved.close()

    def _launch(self, name: str) -> None:
        """Start one component."""
        arguments = (
            str(binaries.resolve(name)),
            *component_arguments(name, self.layout),
            *self._further.get(name, ()),
        )
        self.fleet.launch(Component(name, arguments, self.layout.log(name)), lambda: self.healthy(name))

    def _prepare(self) -> None:
        """Certificates, kubeconfigs, audit policy."""
        block, authority = self.layout.block, self.authority
        authority.server("etcd", (block.control_address,))
        authority.server(
            "apiserver",
            (block.control_address, block.first_service_address),
            ("localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"),
        )
        authority.client("etcd-client")
        create_authority(authority.directory / FRONT_PROXY).client(_FRONT_PROXY_USER)
        authority.client("kubelet-client")  # the node agent asks for a certificate, not for a group
        authority.signing_key("service-accounts")
        self.kubeconfig_for_certificate("admin", authority.client("admin", "system:masters"))
        for name in (CONTROLLER_MANAGER, SCHEDULER):
            authority.server(f"{name}-serving", (block.control_address,))
            self.kubeconfig_for_certificate(name, authority.client(f"system:{name}"))
        self.audit_log.parent.mkdir(parents=True, exist_ok=True)
        (self.layout.root / "audit-policy.yaml").write_text(_AUDIT_POLICY, encoding="utf-8")


def health_url(name: str, layout: Layout) -> str:
    """Where a component answers whether it is ready."""
    path = {
        ETCD: f"{layout.ports.etcd}/readyz",
        API_SERVER: f"{layout.ports.api}/readyz",
        CONTROLLER_MANAGER: f"{layout.ports.controller_manager}/healthz",
        SCHEDULER: f"{layout.ports.scheduler}/readyz",
    }[name]
    return f"https://{layout.block.control_address}:{path}"


def answers(url: str, layout: Layout) -> bool:
    """Whether a URL of this sandbox answers 200, soon enough.

    Only this sandbox's authority is trusted. etcd answers nobody without a certificate, so one is shown to all.
    """
    try:
        trust = ssl.create_default_context(cafile=str(layout.certificates / "ca.crt"))
        trust.load_cert_chain(layout.certificates / "etcd-client.crt", layout.certificates / "etcd-client.key")
        opener = loopback.opener(urllib.request.HTTPSHandler(context=trust))
        with opener.open(url, timeout=ANSWER_SECONDS) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def component_arguments(name: str, layout: Layout) -> tuple[str, ...]:
    """The command line of a component."""
    return {
        ETCD: _etcd_arguments,
        API_SERVER: _api_server_arguments,
        CONTROLLER_MANAGER: _controller_manager_arguments,
        SCHEDULER: _scheduler_arguments,
    }[name](layout)


def _etcd_arguments(layout: Layout) -> tuple[str, ...]:
    """etcd on its own, with certificates on both sides, without waiting for the disk: its data is thrown away."""
    address, pki = layout.block.control_address, layout.certificates
    client, peer = f"https://{address}:{layout.ports.etcd}", f"http://{address}:{layout.ports.etcd_peer}"
    return (
        f"--data-dir={layout.root / 'etcd'}",
        "--unsafe-no-fsync",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        f"--cert-file={pki / 'etcd.crt'}",
        f"--key-file={pki / 'etcd.key'}",
        f"--trusted-ca-file={pki / 'ca.crt'}",
        "--client-cert-auth",
        "--log-level=warn",
    )


def _api_server_arguments(layout: Layout) -> tuple[str, ...]:
    """The API server: RBAC, bound service-account tokens, audit log, a trusted way to the nodes for logs."""
    pki = layout.certificates
    return (
        f"--bind-address={layout.block.control_address}",
        f"--advertise-address={layout.block.control_address}",
        f"--secure-port={layout.ports.api}",
        "--endpoint-reconciler-type=none",
        f"--etcd-servers=https://{layout.block.control_address}:{layout.ports.etcd}",
        f"--etcd-cafile={pki / 'ca.crt'}",
        f"--etcd-certfile={pki / 'etcd-client.crt'}",
        f"--etcd-keyfile={pki / 'etcd-client.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        # The aggregation layer, so that APIServices work: an authority of its own, because whoever holds its
        # certificates may speak for any user to the servers behind APIServices.
        f"--requestheader-client-ca-file={pki / FRONT_PROXY / 'ca.crt'}",
        f"--requestheader-allowed-names={_FRONT_PROXY_USER}",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / FRONT_PROXY / _FRONT_PROXY_USER}.crt",
        f"--proxy-client-key-file={pki / FRONT_PROXY / _FRONT_PROXY_USER}.key",
        "--authorization-mode=Node,RBAC",
        # As OpenShift does: whoever sets blockOwnerDeletion needs the right to `finalizers` of the owner.
        "--enable-admission-plugins=OwnerReferencesPermissionEnforcement",
        f"--service-cluster-ip-range={layout.block.service_cidr}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--audit-policy-file={layout.root / 'audit-policy.yaml'}",
        f"--audit-log-path={layout.audit_log}",
        "--audit-log-maxsize=0",
        "--profiling=false",
    )


def _controller_manager_arguments(layout: Layout) -> tuple[str, ...]:
    """The controllers that a cluster without clouds and with loopback pods can run."""
    pki, config = layout.certificates, layout.kubeconfig(CONTROLLER_MANAGER)
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={layout.block.control_address}",
        f"--secure-port={layout.ports.controller_manager}",
        f"--tls-cert-file={pki / f'{CONTROLLER_MANAGER}-serving.crt'}",
        f"--tls-private-key-file={pki / f'{CONTROLLER_MANAGER}-serving.key'}",
        f"--controllers={CONTROLLERS}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        "--leader-elect=false",
        "--profiling=false",
    )


def _scheduler_arguments(layout: Layout) -> tuple[str, ...]:
    """The scheduler, as it comes."""
    pki, config = layout.certificates, layout.kubeconfig(SCHEDULER)
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--bind-address={layout.block.control_address}",
        f"--secure-port={layout.ports.scheduler}",
        f"--tls-cert-file={pki / f'{SCHEDULER}-serving.crt'}",
        f"--tls-private-key-file={pki / f'{SCHEDULER}-serving.key'}",
        "--leader-elect=false",
        "--profiling=false",
    )
