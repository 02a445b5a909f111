"""Keep a sandbox's Prometheus in step with the PodMonitors and PrometheusRules in its API server."""

from __future__ import annotations

import json
import logging
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from plimsoll_cli.sandbox import loopback, prometheus

_LOG: Final = logging.getLogger("plimsoll.sandbox.prometheus")
_PERIOD_SECONDS: Final = 1.0
"""A list of either kind takes the API server 2 ms; a new service is scraped at most this much later."""
_TIMEOUT_SECONDS: Final = 5.0
_RULES_FOLDER: Final = "rules"
_API: Final = "/apis/monitoring.coreos.com/v1"


@dataclass(frozen=True)
class Source:
    """Where PodMonitors and PrometheusRules come from.

    Args:
        url: the API server.
        authority: its certificate authority.
        token: of the service account that lists them.
    """

    url: str
    authority: Path
    token: str

    def pod_monitors(self) -> list[dict[str, Any]]:
        """Every PodMonitor of the cluster.

        Raises:
            OSError: the API server does not answer, or refuses.
        """
        return self._list("podmonitors")

    def prometheus_rules(self) -> list[dict[str, Any]]:
        """Every PrometheusRule of the cluster.

        Raises:
            OSError: the API server does not answer, or refuses.
        """
        return self._list("prometheusrules")

    def _list(self, plural: str) -> list[dict[str, Any]]:
        headers = {"Authorization": f"Bearer {self.token}"}
        request = urllib.request.Request(f"{self.url}{_API}/{plural}", headers=headers)  # noqa: S310
        trust = ssl.create_default_context(cafile=str(self.authority))
        with loopback.opener(urllib.request.HTTPSHandler(context=trust)).open(
            request, timeout=_TIMEOUT_SECONDS
        ) as answer:
            items: list[dict[str, Any]] = json.load(answer)["items"]
            return items


@dataclass(frozen=True)
class _Rendered:
    """What Prometheus loads.

    Args:
        config: text of its configuration.
        rules: text of every rule file by its name.
        monitors: number of PodMonitors it is made of.
    """

    config: str
    rules: Mapping[str, str]
    monitors: int


class MonitorSync:
    """A thread that renders Prometheus' configuration and rules again, and reloads them, whenever they would change.

    Args:
        source: where PodMonitors and PrometheusRules come from.
        config: Prometheus' configuration file.
        prometheus_url: of the Prometheus to reload.
        kubeconfig: identity with which Prometheus watches pods.
        scrape_interval: of endpoints that name none.
        own_targets: job -> `address:port` of processes that are not pods here, asked each time.
    """

    def __init__(
        self,
        source: Source,
        config: Path,
        prometheus_url: str,
        kubeconfig: Path,
        scrape_interval: str,
        own_targets: Callable[[], Mapping[str, Sequence[str]]],
    ) -> None:
        self._source = source
        self._config = config
        self._prometheus_url = prometheus_url
        self._kubeconfig = kubeconfig
        self._scrape_interval = scrape_interval
        self._own_targets = own_targets
        self._loaded: _Rendered | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sandbox-monitors", daemon=True)

    def write_first(self) -> None:
        """Write a configuration without monitors and rules, for Prometheus to start with."""
        self._write(self._render([], []))

    def start(self) -> None:
        """Begin to follow what there is."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD_SECONDS):
            try:
                self._step()
            except (OSError, ValueError) as error:
                _LOG.warning("API server or Prometheus out of reach, keeping the last configuration: %s", error)

    def _step(self) -> None:
        """Render; when it differs from what Prometheus has, write it and reload."""
        monitors = self._source.pod_monitors()
        wanted = self._render(monitors, self._source.prometheus_rules())
        if wanted == self._loaded:
            return
        self._write(wanted)
        self._reload()
        self._loaded = wanted
        _LOG.info("Prometheus follows %d PodMonitors and %d PrometheusRules", wanted.monitors, len(wanted.rules))
        for line in prometheus.skipped_endpoints(monitors):
            _LOG.warning("%s", line)

    def _render(self, monitors: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]]) -> _Rendered:
        targets = self._own_targets()
        patterns = [f"{_RULES_FOLDER}/*.yaml"]
        config = prometheus.render(monitors, self._kubeconfig, self._scrape_interval, targets, patterns)
        return _Rendered(yaml.safe_dump(config, sort_keys=False), prometheus.rule_files(rules), len(monitors))

    def _write(self, wanted: _Rendered) -> None:
        """Write the configuration and the rule files, and remove rule files that no object stands for any more."""
        folder = self._config.parent / _RULES_FOLDER
        folder.mkdir(exist_ok=True)
        for name, text in wanted.rules.items():
            _replace(folder / name, text)
        for path in folder.iterdir():
            if path.name not in wanted.rules:
                path.unlink()
        _replace(self._config, wanted.config)

    def _reload(self) -> None:
        """Tell Prometheus; a configuration it refuses is an error that names it."""
        request = urllib.request.Request(f"{self._prometheus_url}/-/reload", method="POST")  # noqa: S310
        try:
            loopback.opener().open(request, timeout=_TIMEOUT_SECONDS).close()
        except urllib.error.HTTPError as error:
            raise ValueError(f"Prometheus refuses {self._config}: {error.read().decode()[:300]}") from error


def _replace(path: Path, text: str) -> None:
    """Write a file as a whole: Prometheus may be starting, and ends on half a configuration."""
    whole = path.with_name(f".{path.name}.new")
    whole.write_text(text, encoding="utf-8")
    whole.replace(path)
