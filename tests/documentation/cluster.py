"""The cluster of the documentation's reader."""

from __future__ import annotations

import copy
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote
from urllib.request import urlopen

import yaml

from documentation.pages import ROOT
from documentation.terminal import CommandFailedError, Terminal
from plimsoll_cli.sandbox import binaries

START: Final = "plimsoll sandbox up --helm --without=operator,detector"
"""As docs/flows/install.md says: a cluster without Plimsoll, whose images it can run."""
NODES: Final = (
    "--node gpu=NVIDIA-L4:4,name=kind-control-plane --node gpu=NVIDIA-L40S:8 --node gpu=NVIDIA-H100-80GB-HBM3:8"
)
"""The default ones, and the node that the page about kind gives four GPUs."""
PROMETHEUS: Final = "http://prometheus-operated.monitoring.svc:9090"
FRESH: Final = "kubeconfig-fresh"
"""Of a namespace without a service, for a page that makes `chat` itself."""
DEFINITION: Final = "llmservices.plimsoll.dev"
POD: Final = (
    "$(kubectl get pods -n ml -l plimsoll.dev/service=chat --no-headers"
    " -o custom-columns=:metadata.name,:metadata.deletionTimestamp | awk '/<none>/ {print $1; exit}')"
)
"""One that stays: after a page that scales, another may be gone before it is looked at."""
REPLACED: Final = {
    r"(?<!\w)NAMESPACE(?!\w)": "ml",
    r"(?<!\w)NAME(?![\w:])": "chat",
    r"(?<!\w)POD(?!\w)": POD,
    r"(?<!\w)NODE(?!\w)": "kind-control-plane",
    r"(?<!\w)N(?!\w)": "1",
    r"(?<!\w)MODEL(?!\w)": "meta-llama/Llama-3.1-8B-Instruct",
    r"(?<!\w)GPU(?!\w)": "L40S",
    r"(?<!\w)DIR(?!\w)": "monitoring",
    r"--duration \w+": "--duration 3s --length-factor 0.1",
    r"--require-attainment": "--ttft 60s --tpot 10s --require-attainment",
}
"""Words that a page leaves to its reader; and traffic lasts seconds instead of minutes, with short answers, whose times
are held against what a busy machine keeps, too."""
FASTER: Final = "detector.interval=2s,detector.window=10s,operator.scrapeInterval=2s,monitoring.interval=2s"
"""As the demo has them: what takes minutes with the defaults takes seconds."""
ANSWER_SECONDS: Final = 60.0
"""A Prometheus starts, discovers and scrapes within 3 s; a busy machine gets twenty times that."""
ADDRESS: Final = "127.0.0.2"
"""Connections on this machine take their ports on 127.0.0.1: one that is free there may be taken at any time."""
FOLDER_OF_A_MODEL: Final = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192,
    "num_hidden_layers": 16, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64,
    "vocab_size": 128256, "max_position_embeddings": 8192, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
}  # fmt: skip


class Cluster:
    """A control plane, nodes and Prometheus; `chat` serves in the namespace `ml` once that is asked for.

    Args:
        folder: an empty one, for the desk at which the reader types and for all state.
    """

    def __init__(self, folder: Path) -> None:
        self._serves = False
        self.desk = folder / "desk"
        _lay(self.desk)
        clients = [str(binaries.resolve(client).parent) for client in ("kubectl", "helm", "prometheus", "promtool")]
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([*clients, str(Path(sys.executable).parent), os.environ["PATH"]]),
            "XDG_STATE_HOME": str(folder / "state"),
            "HELM_CACHE_HOME": str(folder / "helm"),
            "HELM_CONFIG_HOME": str(folder / "helm"),
            "HELM_DATA_HOME": str(folder / "helm"),
            "COLUMNS": "160",
        }
        self.type = Terminal(self.desk, environment)
        exported = self.type(f"{START} {NODES}").strip().removeprefix("export KUBECONFIG=")
        environment["KUBECONFIG"] = str(self.desk / "kubeconfig")
        self.prometheus = str(json.loads(self.type("plimsoll sandbox status -o json"))["prometheus"])
        self.type.substitutes = {re.escape(PROMETHEUS): f"{self.prometheus},{FASTER}", **REPLACED}
        for namespace, name in (("ml", "kubeconfig"), ("fresh", FRESH)):
            (self.desk / name).write_text(Path(exported).read_text(encoding="utf-8"), encoding="utf-8")
            self.type(f"kubectl create namespace {namespace}")
            self.type(f"kubectl --kubeconfig={name} config set-context --current --namespace={namespace}")

    def end(self) -> None:
        """Stop all of it."""
        self.type("plimsoll sandbox down --all")

    def releases(self) -> list[Any]:
        """What helm has installed."""
        return list(json.loads(self.type("helm list --all-namespaces -o json")))

    def serves_chat(self) -> None:
        """What most pages take for granted: Plimsoll runs, `ml/chat` serves, and the detector sees it."""
        if self._serves:
            return
        definition = self.type(f"kubectl get crd {DEFINITION} --ignore-not-found")
        if not self.releases() or not definition:
            self.type(
                "helm upgrade --install plimsoll charts/plimsoll --namespace plimsoll-system --create-namespace --wait "
                f"--set prometheus.url={PROMETHEUS}"
            )
        self.type("kubectl apply -f examples/chat.yaml")
        for condition in ("Available", "MetricsAvailable"):
            self.type(f"kubectl wait --for=condition={condition} llm/chat --timeout=90s")
        self._serves = True

    def is_empty(self) -> bool:
        """Whether a page has taken the definition away, and all services with it."""
        self._serves = bool(self.type(f"kubectl get crd {DEFINITION} --ignore-not-found").strip())
        return not self._serves

    @contextmanager
    def prometheus_with(self, config: Mapping[str, Any]) -> Iterator[Callable[[str], list[Any]]]:
        """A Prometheus outside the cluster that discovers its pods; called with a query, it waits for an answer."""
        file = self.desk / "prometheus.yml"
        file.write_text(yaml.safe_dump(dict(config)), encoding="utf-8")
        self.type(f"promtool check config {file.name}")
        reached = copy.deepcopy(dict(config))
        for job in reached["scrape_configs"]:
            job["scrape_interval"] = "1s"
            for discovery in job["kubernetes_sd_configs"]:
                discovery["kubeconfig_file"] = "kubeconfig"
        file.write_text(yaml.safe_dump(reached), encoding="utf-8")
        with socket.create_server((ADDRESS, 0)) as free:
            address = f"{ADDRESS}:{free.getsockname()[1]}"
        command = ["prometheus", f"--config.file={file.name}", "--storage.tsdb.path=tsdb"]
        with (self.desk / "prometheus.log").open("wb") as log:
            process = subprocess.Popen(
                [*command, f"--web.listen-address={address}"],
                cwd=self.desk,
                env=self.type.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            yield lambda query: _answer(f"http://{address}/api/v1/query?query={quote(query)}")
        finally:
            process.terminate()
            process.wait()


def _answer(url: str) -> list[Any]:
    """The first result that is not empty.

    Raises:
        CommandFailedError: none in time.
    """
    deadline = time.monotonic() + ANSWER_SECONDS
    while time.monotonic() < deadline:
        try:
            with urlopen(url, timeout=5) as response:
                if found := json.load(response)["data"]["result"]:
                    return list(found)
        except OSError:
            pass  # it starts
        time.sleep(0.2)
    raise CommandFailedError(f"{url}: no series after {ANSWER_SECONDS:g} s")


def _lay(desk: Path) -> None:
    """What the reader has before them: the repository, a service of their own, a token, a model in a folder."""
    desk.mkdir()
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "out":
            (desk / entry.name).symlink_to(entry)
    (desk / "token").write_text("a token", encoding="utf-8")
    (desk / "folder").mkdir()
    (desk / "folder" / "config.json").write_text(json.dumps(FOLDER_OF_A_MODEL), encoding="utf-8")
