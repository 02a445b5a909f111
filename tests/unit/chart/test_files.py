"""What the chart's folder must agree on with the rest of the repository."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from plimsoll_api.crd import to_yaml
from plimsoll_cli.chart.location import IMAGES, NAMESPACE, RELEASE
from plimsoll_cli.chart.sandbox_release import values
from plimsoll_cli.sandbox.node.images import ImageNotFoundError, entry_for
from plimsoll_cli.sandbox.node_settings import product_images
from plimsoll_cli.sandbox.options import SandboxOptions

ROOT = Path(__file__).resolve().parents[3]


def read(path: Path) -> dict[str, Any]:
    """A YAML file."""
    content: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return content


def test_the_definition_is_the_generated_one(chart: Path) -> None:
    """A link into crds/: there is nothing that could go stale."""
    link = chart / "files" / "crds" / "plimsoll.dev_llmservices.yaml"
    assert link.resolve() == ROOT / "crds" / "plimsoll.dev_llmservices.yaml"
    assert link.read_text(encoding="utf-8") == to_yaml()


def test_the_app_version_is_the_projects(chart: Path) -> None:
    """Images are tagged with it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert read(chart / "Chart.yaml")["appVersion"] == project["version"]


def test_the_sandbox_installs_under_the_names_of_the_documentation(chart: Path) -> None:
    """Its README and the sandbox speak of the same release."""
    assert f"helm install {RELEASE} charts/plimsoll --namespace {NAMESPACE}" in (chart / "README.md").read_text()


@pytest.mark.parametrize("prefix", ["", "mirror.example:5000/team/"])
@pytest.mark.parametrize("suffix", [":0.1.0", "@sha256:" + 64 * "0"])
def test_the_sandbox_knows_the_charts_images(chart: Path, prefix: str, suffix: str) -> None:
    """From any registry, by tag or digest."""
    defaults = read(chart / "values.yaml")
    repositories = {defaults[component]["image"]["repository"] for component in ("operator", "detector")}
    assert repositories == set(IMAGES)
    for repository in repositories:
        entry = entry_for(f"{prefix}{repository}{suffix}", product_images())
        assert entry.entrypoint[-1] == IMAGES[repository]


def test_a_strangers_image_is_not_ours() -> None:
    """Control: the pattern is not everything."""
    with pytest.raises(ImageNotFoundError):
        entry_for("plimsoll/operator-tools:1", product_images())


def test_what_a_sandbox_leaves_out_has_no_pods() -> None:
    """The release is still whole."""
    made = values(SandboxOptions(without=frozenset({"detector"}), operators=2, helm=True), "http://p:9090")
    assert (made["operator"]["replicas"], made["detector"]["replicas"]) == (2, 0)
