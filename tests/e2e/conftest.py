"""Fixtures of the end-to-end tests: a namespace in the running sandbox, and a service in it that serves."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import yaml

from plimsoll_cli.sandbox.sandbox import Sandbox

SERVE_SECONDS = 180
"""For up to three starts of an engine, while vLLM starts beside it and two other workers have tests of theirs."""

Apply = Callable[..., str]


@pytest.fixture(scope="session", autouse=True)
def early_real_engine(request: pytest.FixtureRequest) -> None:
    """Have the real engine start while other tests run, where one of them will want it.

    What goes wrong with it is the failure of those that want it, not of the others.
    """
    if any("real_engine" in getattr(item, "fixturenames", ()) for item in request.session.items):
        with suppress(Exception):
            request.getfixturevalue("real_engine")


@pytest.fixture
def sandbox_namespace(sandbox: Sandbox) -> Iterator[str]:
    """A namespace of the test's own; its services go with it."""
    name = f"e2e-{uuid.uuid4().hex[:8]}"
    sandbox.kubectl("create", "namespace", name)
    yield name
    # Pods go in the background: each drains for ten seconds and more, and there are GPUs for the next test's.
    sandbox.kubectl("delete", "llm", "--all", "-n", name)
    sandbox.kubectl("delete", "namespace", name, "--wait=false")


def service(name: str, spec: dict[str, Any]) -> dict[str, Any]:
    """An LLMService of a small model, with the given spec fields on top."""
    merged = {
        "model": {"uri": "hf://meta-llama/Llama-3.1-8B-Instruct", "servedName": name},
        "rollout": {"drainTimeout": "60s"},
        **spec,
    }
    return {
        "apiVersion": "plimsoll.dev/v1alpha1",
        "kind": "LLMService",
        "metadata": {"name": name},
        "spec": merged,
    }


@pytest.fixture
def declare_service(sandbox: Sandbox, sandbox_namespace: str) -> Callable[..., None]:
    """Apply an LLMService and wait for nothing."""

    def declare(name: str, **spec: Any) -> None:
        manifest = yaml.safe_dump(service(name, spec))
        sandbox.kubectl("apply", "-n", sandbox_namespace, "-f", "-", stdin=manifest)

    return declare


@pytest.fixture
def apply_service(sandbox: Sandbox, sandbox_namespace: str, declare_service: Callable[..., None]) -> Apply:
    """Apply an LLMService and wait until it serves; returns the address of its Service."""

    def apply(name: str, **spec: Any) -> str:
        declare_service(name, **spec)
        sandbox.kubectl(
            "wait",
            "-n",
            sandbox_namespace,
            "--for=condition=Available",
            f"--timeout={SERVE_SECONDS}s",
            f"llm/{name}",
            timeout=SERVE_SECONDS + 30.0,
        )
        front = sandbox.kubectl.json("get", "service", name, "-n", sandbox_namespace)
        return f"http://{front['spec']['clusterIP']}:{front['spec']['ports'][0]['port']}"

    return apply


@pytest.fixture(autouse=True)
def show_logs_on_failure(request: pytest.FixtureRequest, sandbox: Sandbox) -> Iterator[None]:
    """When a test failed, print the end of every component's log."""
    failed_before = request.session.testsfailed
    yield
    if request.session.testsfailed > failed_before:
        for component in sandbox.components:
            log = sandbox.log(component)
            tail = log.read_text(errors="replace").splitlines()[-20:] if log.is_file() else []
            print(f"--- end of {component}'s log", *tail, sep="\n")
