"""The pod's service account as credentials."""

from __future__ import annotations

from pathlib import Path

import pytest

from plimsoll_kube.connection import SERVICE_ACCOUNT_VARIABLE, NoClusterError
from plimsoll_kube.credentials import read_credentials


@pytest.fixture
def pod(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This process as in a pod whose token is projected to a folder of its own."""
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.96.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setenv(SERVICE_ACCOUNT_VARIABLE, str(tmp_path))
    (tmp_path / "token").write_text("abc")
    (tmp_path / "ca.crt").write_text("-----BEGIN CERTIFICATE-----")
    return tmp_path


async def test_the_named_folder_is_used(pod: Path) -> None:
    """Token, authority and the cluster's own address."""
    found = await read_credentials(None)
    assert (found.server, found.token, found.ca_path) == ("https://10.96.0.1:443", "abc", str(pod / "ca.crt"))


async def test_a_replaced_token_is_read(pod: Path) -> None:
    """A kubelet replaces it while we run."""
    await read_credentials(None)
    (pod / "token").write_text("def")
    assert (await read_credentials(None)).token == "def"


async def test_without_a_token_one_line_says_so(pod: Path) -> None:
    """And what to give instead."""
    (pod / "token").unlink()
    with pytest.raises(NoClusterError, match="token file does not exist"):
        await read_credentials(None)
