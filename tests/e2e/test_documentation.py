"""Every command of the documentation is typed and every manifest applied, page by page, on a cluster of its own.

The cluster is the one that docs/flows/install.md starts: a real control plane, nodes and Prometheus. Operator and
detector are installed by the pages' first `helm install`. Python blocks: tests/integration/docs.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import pytest
import yaml

from documentation.cluster import START, Cluster
from documentation.pages import PAGES, ROOT, Piece, pieces
from documentation.reader import Reader, reader
from documentation.terminal import CommandFailedError

pytestmark = [pytest.mark.xdist_group("documentation"), pytest.mark.slow, pytest.mark.timeout(600)]

CONTAINERS: Final = "needs containers, and images from a registry"
SUITE: Final = (
    "takes minutes: CI runs `make test`, and tests/unit and tests/e2e what the demo and the benchmarks are made of"
)
NAMED: Final = "names an option, without what it takes"
NOT_TYPED: Final = {
    "make demo*": SUITE,
    "make test": SUITE,
    "python -m bench*": f"{SUITE}; needs measured data beside the repository",
    "make binaries && . .venv/bin/activate": "made the environment that this runs in",
    "docker build *": f"{CONTAINERS}; tests/integration/chart installs what each target does, and starts it",
    "kind create cluster": CONTAINERS,
    "kind load docker-image *": CONTAINERS,
    "helm install monitoring *": "a chart from the internet",
    "kubectl port-forward *": "the sandbox's nodes forward no ports; the request after it goes to the Service",
    "plimsoll recommend --model hf://ORG/NAME": "asks the hub; tests/unit/cli answer in its place",
    "plimsoll recommend --mix-accelerators": NAMED,
    "plimsoll recommend --observed": NAMED,
    "plimsoll load --service": NAMED,
    "plimsoll sandbox up --helm": "tests/integration/chart runs in such a one",
    START: "starts the cluster of these tests",
}
"""Commands that are not typed, by pattern, and why. Whatever is not in here is."""
NOT_READ: Final = {
    "docs/guides/interop.md": "objects of other projects, whose definitions tests/integration/interop serves",
}
"""Pages that other tests follow."""
HAPPENS_SECONDS: Final = 120.0
"""The detector first acts on what README.md scales: 30 s later, more where a busy machine leaves gaps in its window."""


def is_done(piece: Piece) -> bool:
    """Whether a piece of a page is done here."""
    return piece.language != "python" and not any(fnmatchcase(piece.text, pattern) for pattern in NOT_TYPED)


CHART: Final = ROOT / "charts" / "plimsoll" / "README.md"
INSTALL: Final = ROOT / "docs" / "flows" / "install.md"
OPERATIONS: Final = ROOT / "docs" / "guides" / "operations.md"
FOLLOWED: Final = [
    page
    for page in PAGES
    if page not in (CHART, INSTALL, OPERATIONS)
    if str(page.relative_to(ROOT)) not in NOT_READ and any(map(is_done, pieces(page)))
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One cluster for all pages."""
    started = Cluster(tmp_path_factory.mktemp("documentation"))
    try:
        yield started
    finally:
        started.end()


@pytest.fixture(autouse=True)
def show_logs_on_failure() -> None:
    """A failure here has the command and all that it said; the sandbox of the other tests is not started for it."""


@pytest.fixture(scope="session", autouse=True)
def early_real_engine() -> None:
    """No page wants it: the worker of these tests starts no second sandbox, and no second vLLM in it."""


def follow(cluster: Cluster, page: Path, state: Path) -> None:
    """Do what a page says, in its order."""
    found = [piece for piece in pieces(page) if is_done(piece)]
    with reader(cluster, found, state) as someone:
        for piece in found:
            printed = someone(piece)
            # A question of a runbook or a concept has an answer, once what it asks for has happened.
            silent = "-o jsonpath" not in piece.text or " > " in piece.text
            deadline = time.monotonic() + HAPPENS_SECONDS
            while not printed.strip() and not silent and time.monotonic() < deadline:
                time.sleep(0.5)
                printed = someone(piece)
            assert printed.strip() or silent, f"{piece}\nprints nothing"


def test_plimsoll_is_installed(cluster: Cluster, tmp_path: Path) -> None:
    """What a page says of a cluster without it."""
    follow(cluster, INSTALL, tmp_path)
    assert cluster.releases()


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_is_done(cluster: Cluster, page: Path, tmp_path: Path) -> None:
    """What fails is the page's mistake, or the product's."""
    cluster.serves_chat()
    follow(cluster, page, tmp_path)


def test_the_static_scrape_configuration_finds_engines_and_processes(cluster: Cluster) -> None:
    """A Prometheus without its operator, with the page's file: the labels that the detector asks for, and our own."""
    cluster.serves_chat()
    cluster.type("plimsoll monitoring --output plimsoll")
    [config] = [
        document
        for piece in pieces(ROOT / "docs" / "guides" / "prometheus.md")
        if piece.language == "yaml"
        for document in yaml.safe_load_all(piece.text)
        if "scrape_configs" in document
    ]
    with cluster.prometheus_with(config) as answer:
        for engine in answer('vllm:num_requests_running{namespace="ml",llmservice="chat"}'):
            assert engine["metric"]["pod"].startswith("chat-engine-")
        # The namespace is the service's, not that of the process that tells of it.
        assert answer('plimsoll_service_ready_replicas{namespace="ml",llmservice="chat"}')


def test_every_reason_is_still_needed() -> None:
    """An entry that fits no command goes."""
    typed = [piece.text for page in PAGES for piece in pieces(page) if piece.language == "shell"]
    assert [pattern for pattern in NOT_TYPED if not any(fnmatchcase(text, pattern) for text in typed)] == []
    assert [name for name in NOT_READ if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("kubectl get llmservicez", "llmservicez"),
        ("kubectl get llm chat --watch -n nowhere", "nowhere"),
        ("plimsoll recommend --model no/such --gpu L40S", "no/such"),
        ("kubectl get llm -A | grep no-such-service", "exit code 1"),
    ],
)
def test_a_wrong_command_fails(cluster: Cluster, command: str, complaint: str) -> None:
    """Control."""
    with pytest.raises(CommandFailedError, match=complaint):
        cluster.type(command)


def test_a_wrong_manifest_fails(cluster: Cluster) -> None:
    """Control: a field that the definition does not have."""
    cluster.serves_chat()
    wrong = (
        "apiVersion: plimsoll.dev/v1alpha1\nkind: LLMService\nmetadata: {name: wrong}\n"
        "spec: {model: {uri: 'hf://a/b'}, replica: 1}\n"
    )
    with pytest.raises(CommandFailedError, match="replica"):
        Reader(cluster, {}).applies(wrong)


def test_plimsoll_is_removed(cluster: Cluster, tmp_path: Path) -> None:
    """After upgrade, rollback, backup and restore."""
    cluster.serves_chat()
    follow(cluster, OPERATIONS, tmp_path)
    assert cluster.releases() == []
    assert cluster.is_empty()


def test_plimsoll_is_installed_and_removed_again(cluster: Cluster, tmp_path: Path) -> None:
    """The chart's own page, on a cluster on which nothing is left."""
    follow(cluster, CHART, tmp_path)
    assert cluster.is_empty()
