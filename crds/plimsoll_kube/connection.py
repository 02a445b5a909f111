"""How to reach the API server: a kubeconfig file, `$KUBECONFIG`, or the pod's service account."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import yaml
from kubernetes.aio import config
from kubernetes.aio.client import Configuration
from kubernetes.aio.config.incluster_config import InClusterConfigLoader

POOL_SIZE: Final = 64
"""Connections to the API server. HTTP/1.1 carries one request each, and every watch keeps one."""

SERVICE_ACCOUNT_DIRECTORY: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a kubelet mounts a pod's token and the API server's authority."""
SERVICE_ACCOUNT_VARIABLE: Final = "PLIMSOLL_SERVICE_ACCOUNT_DIRECTORY"
"""Names another folder with the same files, for a token that is projected elsewhere."""


_UNUSABLE: Final = (config.ConfigException, OSError, yaml.YAMLError, TypeError, ValueError, AttributeError, KeyError)
"""What reading a kubeconfig raises: to its loader a file that is empty, or no mapping, is a fault in the program."""


class NoClusterError(Exception):
    """There is no kubeconfig and no service account: one line that says what to set."""


async def load_configuration(kubeconfig: Path | None, context: str | None = None) -> Configuration:
    """The connection settings of a kubeconfig file, `$KUBECONFIG` or, inside a pod, its service account.

    Args:
        kubeconfig: the file; None looks at `$KUBECONFIG` and then at the service account.
        context: of the kubeconfig; None is its current one.

    Raises:
        NoClusterError: the file cannot be used, or there is nothing to use.
    """
    configuration = Configuration()
    configuration.connection_pool_maxsize = POOL_SIZE
    chosen = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or _default_file()
    try:
        if chosen:
            await config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=chosen, context=context, client_configuration=configuration, persist_config=False
            )
        else:
            _use_service_account(configuration)
    except _UNUSABLE as error:
        hint = f"cannot use kubeconfig {chosen}" if chosen else "give --kubeconfig or set KUBECONFIG outside a cluster"
        raise NoClusterError(f"no Kubernetes API server: {hint}: {_why(error)}") from error
    if (urlsplit(configuration.host).hostname or "").startswith(("127.", "localhost", "::1")):
        configuration.client_session_kwargs = {"trust_env": False}  # a proxy cannot reach this machine's loopback
    return configuration


def current_namespace(kubeconfig: Path | None, context: str | None = None) -> str:
    """The namespace that a kubeconfig's context names, as kubectl takes it; `default` where it names none.

    Raises:
        NoClusterError: the file cannot be read, or has no such context.
    """
    chosen = str(kubeconfig) if kubeconfig else os.environ.get("KUBECONFIG") or _default_file()
    if not chosen:
        return "default"
    try:
        contexts, current = config.list_kube_config_contexts(config_file=chosen)  # type: ignore[no-untyped-call]
    except _UNUSABLE as error:
        raise NoClusterError(f"cannot use kubeconfig {chosen}: {_why(error)}") from error
    named = {item["name"]: item for item in contexts}
    if context is not None and context not in named:
        raise NoClusterError(f"kubeconfig {chosen} has no context {context!r}: it has {', '.join(sorted(named))}")
    wanted = current if context is None else named[context]
    return str(wanted["context"].get("namespace") or "default")


def _why(error: Exception) -> str:
    """Why a kubeconfig cannot be used, on one line."""
    told = isinstance(error, (config.ConfigException, OSError, yaml.YAMLError))
    return " ".join(str(error).split()) if told else "it is not a kubeconfig"


def _use_service_account(configuration: Configuration) -> None:
    """The pod's service account, whose token is read again every minute.

    Raises:
        ConfigException: this is no pod, or its token is absent.
    """
    folder = Path(os.environ.get(SERVICE_ACCOUNT_VARIABLE) or SERVICE_ACCOUNT_DIRECTORY)
    loader = InClusterConfigLoader(token_filename=str(folder / "token"), cert_filename=str(folder / "ca.crt"))  # type: ignore[no-untyped-call]
    loader.load_and_set(configuration)  # type: ignore[no-untyped-call]


def _default_file() -> str | None:
    """`~/.kube/config` outside a cluster; None inside one, where the service account is meant."""
    if os.environ.get("KUBERNETES_SERVICE_HOST"):
        return None
    default = Path.home() / ".kube" / "config"
    return str(default) if default.exists() else None
