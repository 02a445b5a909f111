"""A reader who follows a page on the cluster."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import yaml

from documentation.cluster import FRESH, Cluster
from documentation.pages import ROOT, Piece

FORWARDED: Final = "http://127.0.0.1:8000"
"""Where a port forward would answer; here it is the Service itself."""


@contextmanager
def reader(cluster: Cluster, page: Iterable[Piece], state: Path) -> Iterator[Reader]:
    """Somebody who follows a page; what they start beside the cluster ends with it."""
    commands = [piece.text for piece in page]
    own: dict[str, str] = {}
    if "kubectl apply -f chat.yaml" in commands:
        own["KUBECONFIG"] = str(cluster.desk / FRESH)
    # A page that starts a sandbox has one of its own, under the name that it gives it.
    begins = any(command.startswith("plimsoll sandbox up") for command in commands)
    if begins:
        own["XDG_STATE_HOME"] = str(state)
    (cluster.desk / "chat.yaml").write_bytes((ROOT / "examples" / "chat.yaml").read_bytes())
    try:
        yield Reader(cluster, own)
    finally:
        if any(command.startswith("kubectl cordon") for command in commands):
            cluster.type("kubectl uncordon -l nvidia.com/gpu.product")
        if begins:
            cluster.type("plimsoll sandbox down --all", environment=own)


class Reader:
    """Does what a page says, piece by piece.

    Args:
        cluster: on which.
        own: what their commands see beside the cluster's environment.
    """

    def __init__(self, cluster: Cluster, own: Mapping[str, str]) -> None:
        self.cluster = cluster
        self.own = own

    def __call__(self, piece: Piece) -> str:
        """Do one piece; what it printed."""
        if piece.language == "yaml":
            return self.applies(piece.text)
        command = piece.text
        if FORWARDED in command:
            template = "'http://{.spec.clusterIP}:{.spec.ports[0].port}'"
            address = self.cluster.type(f"kubectl get service minimal -o jsonpath={template}", environment=self.own)
            command = command.replace(FORWARDED, address)
        if self.only_rehearses(command):
            command = f"{command.replace(' --wait', '')} --dry-run=server"
            command += " --take-ownership" if "helm install" in command else ""
        return self.cluster.type(command, environment=self.own)

    def only_rehearses(self, command: str) -> bool:
        """Whether helm asks the server what would come of a command, and no more.

        A release is installed once, and not with a registry, a proxy or a Prometheus that is somebody else's.
        """
        if not re.search("helm (install|upgrade) plimsoll", command):
            return False
        return "example.com" in command or ("helm install" in command and bool(self.cluster.releases()))

    def applies(self, text: str) -> str:
        """Let the API server judge every object, and keep each under its name for a later `kubectl apply -f`."""
        printed = ""
        for document in yaml.safe_load_all(text):
            if "kind" in document:
                name = f"{document['metadata']['name']}.yaml"
                (self.cluster.desk / name).write_text(yaml.safe_dump(document), encoding="utf-8")
                printed += self.cluster.type(
                    f"kubectl apply --server-side --force-conflicts --dry-run=server --field-manager=reader -f {name}",
                    environment={"KUBECONFIG": str(self.cluster.desk / FRESH)},
                )
        return printed
