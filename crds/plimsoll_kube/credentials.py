"""The connection as plain values, for a library that brings its own HTTP client."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from plimsoll_kube.connection import load_configuration


@dataclass(frozen=True)
class Credentials:
    """How to reach an API server and who we are.

    Attributes:
        server: its URL.
        ca_path: file with the authority that signed its certificate; None trusts the system's.
        insecure: do not check the certificate.
        token: bearer token; None when a certificate identifies us.
        certificate_path: client certificate.
        private_key_path: its key.
        trust_env: whether proxies of the environment apply.
    """

    server: str
    ca_path: str | None
    insecure: bool
    token: str | None
    certificate_path: str | None
    private_key_path: str | None
    trust_env: bool


async def read_credentials(kubeconfig: Path | None) -> Credentials:
    """The credentials of a kubeconfig, `$KUBECONFIG` or the service account, as they are now.

    Raises:
        NoClusterError: there are none.
    """
    configuration = await load_configuration(kubeconfig)
    bearer = str(configuration.api_key.get("BearerToken") or "")
    session = configuration.client_session_kwargs or {}
    return Credentials(
        server=configuration.host,
        ca_path=configuration.ssl_ca_cert,
        insecure=not configuration.verify_ssl,
        token=bearer.split(" ", 1)[-1].strip() or None,
        certificate_path=configuration.cert_file,
        private_key_path=configuration.key_file,
        trust_env=bool(session.get("trust_env", True)),
    )
