"""Where a program is looked for, in which order, and which versions are good enough."""

from __future__ import annotations

import hashlib
import http.server
import io
import socket
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from plimsoll_cli.errors import CommandError
from plimsoll_cli.sandbox import binaries, go_build, release_archive
from plimsoll_cli.sandbox.neighbours import NEIGHBOURS
from plimsoll_cli.sandbox.pins import BINARIES, KUBERNETES, Release, parse_version

ETCD = BINARIES["etcd"]


def program(folder: Path, name: str, version: str) -> Path:
    """A program that only prints a version."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{version}'\n")
    path.chmod(0o755)
    return path


def test_kubebuilder_assets_come_before_path(tmp_path: Path) -> None:
    """Both are usable: the assets folder wins."""
    assets = program(tmp_path / "assets", "etcd", "etcd Version: 3.6.1")
    program(tmp_path / "path", "etcd", "etcd Version: 3.6.2")
    environment = {"KUBEBUILDER_ASSETS": str(tmp_path / "assets"), "PATH": str(tmp_path / "path")}
    found, passed_over = binaries.installed(ETCD, environment)
    assert found == binaries.Found(assets, "KUBEBUILDER_ASSETS")
    assert passed_over == []


def test_an_old_program_is_passed_over_with_a_reason(tmp_path: Path) -> None:
    """Debian 12's etcd is 3.4.23: the API server could start on it and then fail; the next place is asked."""
    program(tmp_path / "assets", "etcd", "etcd Version: 3.4.23")
    newer = program(tmp_path / "path", "etcd", "etcd Version: 3.6.16")
    environment = {"KUBEBUILDER_ASSETS": str(tmp_path / "assets"), "PATH": str(tmp_path / "path")}
    found, passed_over = binaries.installed(ETCD, environment)
    assert found is not None
    assert (found.path, found.source) == (newer, "PATH")
    assert passed_over == [f"{tmp_path}/assets/etcd is 3.4.23, needed is 3.5.13 or newer, below 4"]


def test_a_control_plane_of_another_minor_version_is_passed_over(tmp_path: Path) -> None:
    """Control-plane components of different minor versions do not go together in either order."""
    path = program(tmp_path, "kube-apiserver", "Kubernetes v1.35.2")
    assert "1.35.2" in (binaries.unusable(BINARIES["kube-apiserver"], path) or "")


def test_a_program_that_tells_no_version_is_passed_over(tmp_path: Path) -> None:
    """Something else of the same name is not run."""
    path = program(tmp_path, "etcd", "hello")
    assert binaries.unusable(ETCD, path) == f"{path} does not tell its version"


def test_the_cache_comes_before_release_and_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached program is used without asking anything else."""
    monkeypatch.setenv("PLIMSOLL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    cached = binaries.cache_path(ETCD, {"PLIMSOLL_CACHE": str(tmp_path)})
    program(cached.parent, "etcd", "irrelevant: the key is its version")
    assert binaries.find("etcd") == binaries.Found(cached, "cache")


def test_without_release_and_go_the_error_tells_everything_that_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One message: what is missing, and each thing that was passed over."""
    monkeypatch.setenv("PLIMSOLL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    old = program(tmp_path / "path", "etcd", "etcd Version: 3.4.23")
    old.write_text("#!/bin/sh\necho 'etcd Version: 3.4.23'\n")

    def unreachable(release: Release, output: Path) -> None:
        raise release_archive.UnavailableError("the release does not answer: refused")

    monkeypatch.setattr(release_archive, "fetch", unreachable)
    with pytest.raises(CommandError) as failure:
        binaries.resolve("etcd")
    message = str(failure.value)
    assert "the Go toolchain (1.26.0 or newer) is not on PATH" in message
    assert "etcd is 3.4.23" in message
    assert "the release does not answer" in message
    assert not list((tmp_path / "cache" / "bin").glob("*/etcd"))


def test_an_unknown_program_is_refused() -> None:
    """The message names those there are."""
    with pytest.raises(CommandError, match="kubelet is not a program of the sandbox: it runs etcd, kube-apiserver"):
        binaries.resolve("kubelet")


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Kubernetes v1.36.3", (1, 36, 3)),
        ("prometheus, version 3.15.0 (branch: HEAD)", (3, 15, 0)),
        ("Client Version: v1.32.4-dispatcher", (1, 32, 4)),
        ("nothing", None),
    ],
)
def test_versions_are_read_from_what_programs_print(text: str, version: tuple[int, ...] | None) -> None:
    """The first dotted number counts."""
    assert parse_version(text) == version


def test_staging_modules_are_replaced_by_their_published_version() -> None:
    """What the pinned module requires at v0.0.0 exists only in its source tree."""
    required = "require (\n\tk8s.io/api v0.0.0\n\tk8s.io/klog/v2 v2.130.1\n\tk8s.io/kubelet v0.0.0\n)\n"
    text = go_build.module_file(KUBERNETES, required)
    assert "replace k8s.io/api => k8s.io/api v0.36.3\n" in text
    assert "replace k8s.io/kubelet => k8s.io/kubelet v0.36.3\n" in text
    assert "klog" not in text
    assert "tool k8s.io/kubernetes/cmd/kubectl\n" in text


def test_a_project_that_publishes_images_only_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched, and the reason is told with the build's."""
    monkeypatch.setenv("PLIMSOLL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(CommandError) as failure:
        binaries.resolve("keda-operator")
    assert "Go toolchain" in str(failure.value)
    assert "github.com/kedacore/keda/v2 publishes no program, only images" in str(failure.value)


def test_each_program_has_a_cache_entry_of_its_own() -> None:
    """Programs of one module share its version but not the entry."""
    programs = [*BINARIES.values(), *NEIGHBOURS.values()]
    paths = {binaries.cache_path(binary, {"PLIMSOLL_CACHE": "/c"}) for binary in programs}
    assert len(paths) == len(programs)


@pytest.fixture
def release_server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """An HTTP server of a folder: its URL and the folder."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", folder
        server.shutdown()
        thread.join()


def publish(folder: Path, content: bytes, checksum: str) -> None:
    """An archive with one file, and a checksum list."""
    with tarfile.open(folder / "etcd.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("etcd-v3/etcd")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    found = hashlib.sha256((folder / "etcd.tar.gz").read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{'0' * 64}  other.tar.gz\n{checksum or found}  etcd.tar.gz\n")


def test_a_release_is_taken_when_its_checksum_is_the_published_one(
    release_server: tuple[str, Path], tmp_path: Path
) -> None:
    """The binary is unpacked and executable."""
    url, folder = release_server
    publish(folder, b"binary", checksum="")
    output = tmp_path / "etcd"
    release_archive.fetch(Release(f"{url}/etcd.tar.gz", f"{url}/SHA256SUMS", "etcd-v3/etcd"), output)
    assert output.read_bytes() == b"binary"
    assert output.stat().st_mode & 0o100


def test_a_release_with_another_checksum_is_refused(release_server: tuple[str, Path], tmp_path: Path) -> None:
    """Nothing is written."""
    url, folder = release_server
    publish(folder, b"binary", checksum="f" * 64)
    output = tmp_path / "etcd"
    with pytest.raises(release_archive.UnavailableError, match="published is ffff"):
        release_archive.fetch(Release(f"{url}/etcd.tar.gz", f"{url}/SHA256SUMS", "etcd-v3/etcd"), output)
    assert not output.exists()


def test_an_interrupted_download_is_unavailable(tmp_path: Path) -> None:
    """A connection that breaks off in the body: go on to the build, too."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(release_archive.UnavailableError, match="does not answer"):
            release_archive.fetch(Release(f"{url}/etcd", f"{url}/etcd.sha256"), tmp_path / "etcd")
        thread.join()


def test_a_release_that_is_not_there_is_unavailable(release_server: tuple[str, Path], tmp_path: Path) -> None:
    """A 404 is an answer: go on to the build."""
    url, _ = release_server
    with pytest.raises(release_archive.UnavailableError, match="does not answer"):
        release_archive.fetch(Release(f"{url}/etcd", f"{url}/etcd.sha256"), tmp_path / "etcd")
