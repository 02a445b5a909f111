"""kubeconfig files: one cluster, one user, nothing else."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from plimsoll_cli.sandbox.certificates import KeyPair


def write_for_certificate(path: Path, url: str, authority: Path, pair: KeyPair) -> Path:
    """A kubeconfig that identifies by client certificate; everything is in the one file."""
    user = {"client-certificate-data": _encoded(pair.certificate), "client-key-data": _encoded(pair.key)}
    return _write(path, url, authority, user, "default")


def write_for_token(path: Path, url: str, authority: Path, token: str, namespace: str) -> Path:
    """A kubeconfig that identifies by a service account's token."""
    return _write(path, url, authority, {"token": token}, namespace)


def _encoded(file: Path) -> str:
    """A file as kubeconfig's *-data fields want it."""
    return base64.b64encode(file.read_bytes()).decode()


def _write(path: Path, url: str, authority: Path, user: dict[str, Any], namespace: str) -> Path:
    """Write a kubeconfig that only this user can read."""
    name = "plimsoll-sandbox"
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url, "certificate-authority-data": _encoded(authority)}}],
        "users": [{"name": name, "user": user}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, "namespace": namespace}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path
