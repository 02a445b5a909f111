"""The Dockerfiles: what a linter would check, and that they agree with the rest of the repository."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from plimsoll_cli.chart.location import IMAGES

ROOT = Path(__file__).resolve().parents[3]
IMAGES_DIRECTORY = ROOT / "runtime" / "images"
COMPONENTS = ("operator", "detector", "runtime")
EXTRAS = {"operator": "operator", "detector": "detector", "runtime": "engine"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    word: str
    value: str


def parse(text: str) -> list[Instruction]:
    """The instructions, continued lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [Instruction(*line.split(None, 1)) for line in joined.splitlines()]


@pytest.fixture(params=COMPONENTS)
def component(request: pytest.FixtureRequest) -> str:
    """One of the images."""
    return str(request.param)


@pytest.fixture
def instructions(component: str) -> list[Instruction]:
    """Its Dockerfile."""
    return parse((IMAGES_DIRECTORY / component / "Dockerfile").read_text(encoding="utf-8"))


def values(instructions: list[Instruction], word: str) -> list[str]:
    """The values of every instruction of a kind."""
    return [instruction.value for instruction in instructions if instruction.word == word]


def final_stage(instructions: list[Instruction]) -> list[Instruction]:
    """What the image is made of."""
    last = max(index for index, instruction in enumerate(instructions) if instruction.word == "FROM")
    return instructions[last:]


def test_stages_are_named_by_a_digest_that_is_given(instructions: list[Instruction]) -> None:
    """Two stages, one base; without a digest the build fails instead of taking what a tag says today."""
    bases = values(instructions, "FROM")
    assert bases == ["${PYTHON_IMAGE}@${PYTHON_DIGEST} AS builder", "${PYTHON_IMAGE}@${PYTHON_DIGEST}"]
    assert values(instructions, "ARG") == ["PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm", "PYTHON_DIGEST"]


def test_it_runs_as_nobody_and_imports_nothing_from_where_it_stands(instructions: list[Instruction]) -> None:
    """As the chart's pods do: the same user, nothing written."""
    stage = final_stage(instructions)
    assert values(stage, "USER") == ["65532:65532"]
    environment = dict(pair.split("=", 1) for pair in " ".join(values(stage, "ENV")).split())
    assert environment["PYTHONSAFEPATH"] == "1"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert values(stage, "RUN") == [], "the final stage only copies"
    assert values(stage, "ADD") == []
    users = [i for i, instruction in enumerate(stage) if instruction.word == "USER"]
    assert all(instruction.word in ("EXPOSE", "ENTRYPOINT") for instruction in stage[users[0] + 1 :])


def test_the_entry_point_is_a_program_of_the_extra(instructions: list[Instruction], component: str) -> None:
    """In exec form, so that signals reach it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [entry] = values(final_stage(instructions), "ENTRYPOINT")
    [program] = json.loads(entry)
    assert program in project["scripts"]
    assert EXTRAS[component] in project["optional-dependencies"]
    assert f"runtime/images/install.sh {EXTRAS[component]} /opt/plimsoll" in values(instructions, "RUN")


def test_everything_copied_is_there_and_everything_built_is_copied(instructions: list[Instruction]) -> None:
    """The wheel has packages of every top-level folder."""
    sources = [
        source
        for value in values(instructions, "COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    ]
    assert [source for source in sources if not (ROOT / source).exists()] == []
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert {package.partition("/")[0] for package in wheel["wheel"]["packages"]} <= set(sources)


def test_packages_come_from_the_locks(instructions: list[Instruction]) -> None:
    """With hashes; what installs them, too."""
    assert [run for run in values(instructions, "RUN") if "pip install" in run and "--require-hashes" not in run] == []
    script = (IMAGES_DIRECTORY / "install.sh").read_text(encoding="utf-8")
    assert "--verify-hashes" in script
    assert "--constraints locks/dev.txt" in script


def test_the_ports_are_the_charts(chart: Path, component: str, instructions: list[Instruction]) -> None:
    """EXPOSE says what the chart's pods and the serving pods listen on."""
    exposed = {"operator": "8080 8081", "detector": "8082 8083", "runtime": "8000"}[component]
    assert values(instructions, "EXPOSE") == [exposed]
    if component == "runtime":
        return
    template = (chart / "templates" / f"{component}.yaml").read_text(encoding="utf-8")
    health, metrics = exposed.split()
    assert f'"health" {health} "metrics" {metrics}' in template


def test_the_charts_images_are_built_here(chart: Path) -> None:
    """Each has its Dockerfile."""
    defaults = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    for name in ("operator", "detector"):
        repository = defaults[name]["image"]["repository"]
        assert repository in IMAGES
        assert f"-t {repository}:" in (IMAGES_DIRECTORY / name / "Dockerfile").read_text(encoding="utf-8")
