"""Keys and certificates of one sandbox, made with the `openssl` command; all are thrown away with it."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from plimsoll_cli.errors import CommandError

_DAYS: Final = "365"
"""Validity: longer than any sandbox lives, so that nothing has to rotate."""
_CURVE: Final = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key, both PEM files."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Authority:
    """The certificate authority of one sandbox: everything trusts it and nothing else."""

    directory: Path

    @property
    def certificate(self) -> Path:
        """The authority's own certificate."""
        return self.directory / "ca.crt"

    def client(self, user: str, group: str | None = None) -> KeyPair:
        """A client certificate: the API server reads the user from CN and the group from O."""
        subject = f"/O={group}/CN={user}" if group else f"/CN={user}"
        return self._issue(user.replace(":", "-"), subject, "extendedKeyUsage=clientAuth")

    def server(self, name: str, addresses: tuple[str, ...], hostnames: tuple[str, ...] = ()) -> KeyPair:
        """A serving certificate for IP addresses and host names, which can also be a client's (etcd needs both)."""
        alternatives = ",".join([*(f"IP:{a}" for a in addresses), *(f"DNS:{h}" for h in hostnames)])
        return self._issue(
            name, f"/CN={name}", "extendedKeyUsage=serverAuth,clientAuth", f"subjectAltName={alternatives}"
        )

    def signing_key(self, name: str) -> Path:
        """A bare private key, for signing service-account tokens; the API server also verifies with it."""
        path = self.directory / f"{name}.key"
        _openssl("ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out", str(path))
        return path

    def _issue(self, name: str, subject: str, *extensions: str) -> KeyPair:
        """Make a key and a certificate signed by this authority."""
        pair = KeyPair(self.directory / f"{name}.crt", self.directory / f"{name}.key")
        added = [argument for extension in extensions for argument in ("-addext", extension)]
        signer = ("-CA", str(self.certificate), "-CAkey", str(self.directory / "ca.key"))
        files = ("-out", str(pair.certificate), "-keyout", str(pair.key))
        _openssl("req", "-x509", *_CURVE, "-days", _DAYS, "-subj", subject, *added, *signer, *files)
        return pair


def create_authority(directory: Path) -> Authority:
    """Make the authority in a folder that only this user can read.

    Raises:
        CommandError: `openssl` is missing, older than 3.0 or fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o700)
    authority = Authority(directory)
    _openssl(
        "req", "-x509", *_CURVE, "-days", _DAYS, "-subj", "/CN=plimsoll-sandbox",
        "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-out", str(authority.certificate), "-keyout", str(directory / "ca.key"),
    )  # fmt: skip
    return authority


def _openssl(*arguments: str) -> None:
    """Run openssl, or say what is missing."""
    program = shutil.which("openssl")
    if program is None:
        raise CommandError("the sandbox needs the `openssl` command (3.0 or newer) to make its certificates", 3)
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(f"openssl {arguments[0]} failed: {done.stderr.strip()[-400:]}", 3)
