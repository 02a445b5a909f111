"""`plimsoll`: one command line, whose subcommands load only when used."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click

from plimsoll_cli.errors import CommandError

# Subcommand -> (module:attribute of the click command, line for --help).
# The help line stands here so that `plimsoll --help` imports nothing else.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "recommend": (
        "plimsoll_cli.sizing.commands:recommend",
        "Size a service: GPUs, parallelism, engine settings, and why.",
    ),
    "memory": ("plimsoll_cli.sizing.commands:memory", "Show where every GiB of a GPU goes."),
    "predict": ("plimsoll_cli.sizing.commands:predict", "Predict latency and throughput of one configuration."),
    "status": ("plimsoll_cli.services.commands:status", "Show how services of a cluster stand."),
    "explain": ("plimsoll_cli.services.commands:explain", "Show why a service has its configuration."),
    "top": ("plimsoll_cli.services.commands:top", "Show what services carry and cost, the most loaded first."),
    "load": ("plimsoll_cli.load.command:load", "Send traffic to a service and report what its users saw."),
    "sandbox": ("plimsoll_cli.sandbox.commands:sandbox", "A real control plane on this machine, without containers."),
    "crd": ("plimsoll_cli.crd:crd", "Print the LLMService custom resource definition."),
    "reference": ("plimsoll_cli.reference:reference", "Write the reference page of the LLMService."),
    "monitoring": (
        "plimsoll_cli.monitoring.command:monitoring",
        "Write Grafana dashboards and Prometheus rules for a cluster without the chart.",
    ),
    "demo": ("plimsoll_cli.demo.command:demo", "Watch a service sized, served, loaded and scaled on this machine."),
}


class LazyGroup(click.Group):
    """A group that imports a subcommand's module when the subcommand is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands, in the order a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one subcommand, or None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module_name, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="plimsoll")
def plimsoll() -> None:
    """Finds every LLM service's load line, keeps the service on it, and says why."""


def main() -> None:
    """Entry point: a `CommandError` becomes one line on stderr and its exit code."""
    try:
        # Without standalone mode click returns the code that a subcommand left with.
        code = plimsoll(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except CommandError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
