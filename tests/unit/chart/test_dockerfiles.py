"""The Dockerfile: a linter finds nothing, and its images agree with the rest of the repository."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from plimsoll_cli.chart.location import IMAGES

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = ROOT / "runtime" / "images" / "Dockerfile"
SCRIPTS = sorted(
    path
    for folder in (ROOT / "runtime" / "images", ROOT / ".ci")
    for path in folder.iterdir()
    if path.is_file() and path.read_bytes().startswith(b"#!")
)
BASE = "${PYTHON_IMAGE}@${PYTHON_DIGEST}"
EXTRAS = {"operator": "operator", "detector": "detector", "runtime": "engine"}


@dataclass(frozen=True)
class Instruction:
    """One instruction of a Dockerfile."""

    word: str
    value: str


@dataclass(frozen=True)
class Stage:
    """What follows one FROM."""

    base: str
    instructions: tuple[Instruction, ...]

    def values(self, word: str) -> list[str]:
        """The values of every instruction of a kind."""
        return [instruction.value for instruction in self.instructions if instruction.word == word]


def parse(text: str) -> list[Instruction]:
    """The instructions, continued lines joined, comments left out."""
    lines = "\n".join(line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", " ", lines)
    return [Instruction(*line.split(None, 1)) for line in joined.splitlines()]


INSTRUCTIONS = parse(DOCKERFILE.read_text(encoding="utf-8"))


def stages() -> dict[str, Stage]:
    """Every stage by its name."""
    found: dict[str, Stage] = {}
    starts = [index for index, instruction in enumerate(INSTRUCTIONS) if instruction.word == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(INSTRUCTIONS)], strict=True):
        base, _, name = INSTRUCTIONS[start].value.partition(" AS ")
        found[name] = Stage(base, tuple(INSTRUCTIONS[start + 1 : end]))
    return found


STAGES = stages()


def image(component: str) -> Stage:
    """What one image is made of: its stage and those that it is based on, the base's first."""
    stage = STAGES[component]
    inherited = image(stage.base).instructions if stage.base in STAGES else ()
    return Stage(stage.base, (*inherited, *stage.instructions))


@pytest.fixture(params=EXTRAS)
def component(request: pytest.FixtureRequest) -> str:
    """One of the images."""
    return str(request.param)


def lint(program: str, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run one of the linters of the environment."""
    command = [str(Path(sys.executable).parent / program), *arguments]
    return subprocess.run(command, cwd=ROOT, input=given, capture_output=True, text=True, check=False, timeout=60)


def test_hadolint_finds_nothing() -> None:
    done = lint("hadolint", str(DOCKERFILE))
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_hadolint_finds_what_is_wrong() -> None:
    """Control: with a floating tag, an unpinned package and a shell form it does not pass."""
    wrong = DOCKERFILE.read_text(encoding="utf-8").replace(BASE, "python")
    wrong = wrong.replace('ENTRYPOINT ["plimsoll-engine"]', "RUN pip install uv\nENTRYPOINT plimsoll-engine")
    done = lint("hadolint", "-", given=wrong)
    assert done.returncode != 0
    assert {"DL3006", "DL3013", "DL3025"} <= set(re.findall(r"DL\d{4}", done.stdout))


def test_shellcheck_finds_nothing() -> None:
    assert {path.name for path in SCRIPTS} >= {"install.sh", "vllm", "run"}
    done = lint("shellcheck", *map(str, SCRIPTS))
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


def test_shellcheck_finds_what_is_wrong() -> None:
    """Control: an unquoted variable does not pass."""
    done = lint("shellcheck", "-", given="#!/bin/sh\nrm -rf $1\n")
    assert done.returncode != 0
    assert "SC2086" in done.stdout


def test_stages_are_named_by_a_digest_that_is_given() -> None:
    """One base; without a digest the build fails instead of taking what a tag says today."""
    outside = {stage.base for stage in STAGES.values()} - set(STAGES)
    assert outside == {BASE}
    arguments = [instruction.value for instruction in INSTRUCTIONS if instruction.word == "ARG"]
    assert arguments == ["PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm", "PYTHON_DIGEST"]
    assert not DOCKERFILE.read_text(encoding="utf-8").startswith("# syntax="), "a builder's image that no digest names"


def test_it_runs_as_nobody_and_imports_nothing_from_where_it_stands(component: str) -> None:
    """As the chart's pods do: the same user, nothing written."""
    stage = image(component)
    assert stage.values("USER") == ["65532:65532"]
    environment = dict(pair.split("=", 1) for pair in " ".join(stage.values("ENV")).split())
    assert environment["PYTHONSAFEPATH"] == "1"
    assert environment["PYTHONDONTWRITEBYTECODE"] == "1"
    assert stage.values("RUN") == [], "the final stages only copy"
    assert stage.values("ADD") == []
    assert not [value for value in stage.values("COPY") if "--chown" in value], "files are root's"


def test_the_entry_point_is_a_program_of_the_extra(component: str) -> None:
    """In exec form, so that signals reach it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    stage = STAGES[component]
    [entry] = stage.values("ENTRYPOINT")
    [program] = json.loads(entry)
    assert program in project["scripts"]
    assert EXTRAS[component] in project["optional-dependencies"]
    installed = f"{component}-installed"
    assert f"--from={installed} /opt/plimsoll /opt/plimsoll" in stage.values("COPY")
    assert STAGES[installed].base == "sources"
    assert STAGES[installed].values("RUN") == [f"runtime/images/install.sh {EXTRAS[component]} /opt/plimsoll"]


def test_everything_copied_is_there_and_everything_built_is_copied() -> None:
    """The wheel has packages of every top-level folder; the builder is sent these and nothing else."""
    copied = [
        source
        for value in (instruction.value for instruction in INSTRUCTIONS if instruction.word == "COPY")
        if not value.startswith("--from")
        for source in value.split()[:-1]
    ]
    assert [source for source in copied if not (ROOT / source).exists()] == []
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert {package.partition("/")[0] for package in wheel["wheel"]["packages"]} <= set(copied)
    ignored = DOCKERFILE.with_name("Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    sent = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    assert "*" in ignored
    assert sent == {source.partition("/")[0] for source in copied}


def test_packages_come_from_the_locks() -> None:
    """With hashes; what installs them, too."""
    runs = [instruction.value for instruction in INSTRUCTIONS if instruction.word == "RUN"]
    assert [run for run in runs if "pip install" in run and "--require-hashes" not in run] == []
    script = (DOCKERFILE.parent / "install.sh").read_text(encoding="utf-8")
    assert "--verify-hashes" in script
    assert "--constraints locks/dev.txt" in script


def test_the_ports_are_the_charts(chart: Path, component: str) -> None:
    """EXPOSE says what the chart's pods and the serving pods listen on."""
    exposed = {"operator": "8080 8081", "detector": "8082 8083", "runtime": "8000"}[component]
    assert image(component).values("EXPOSE") == [exposed]
    if component == "runtime":
        return
    template = (chart / "templates" / f"{component}.yaml").read_text(encoding="utf-8")
    health, metrics = exposed.split()
    assert f'"health" {health} "metrics" {metrics}' in template


def test_the_charts_images_are_built_here(chart: Path) -> None:
    """Each is a target, and the documentation builds it under the name that the chart asks for."""
    defaults = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
    quickstart = (ROOT / "docs" / "quickstart.md").read_text(encoding="utf-8")
    for name in ("operator", "detector"):
        repository = defaults[name]["image"]["repository"]
        assert repository in IMAGES
        assert re.search(rf"docker build .*--target {name} .*-t {repository}:", quickstart.replace("\\\n", " "))
