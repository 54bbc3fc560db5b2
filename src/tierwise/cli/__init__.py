"""The command line: thin commands, each in a file of its own, imported only when it is used."""

from __future__ import annotations

import importlib
import io
import sys
from typing import TYPE_CHECKING

import click

from tierwise import __version__
from tierwise.core.errors import (
    ConfigurationError,
    DeadlineExceededError,
    InferenceError,
    ModelError,
    OverloadedError,
    RequestError,
    TierwiseError,
)
from tierwise.core.suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Sequence

COMMANDS: dict[str, tuple[str, str]] = {
    "demo": ("tierwise.cli.demo:demo", "Answer real requests on the device, at the edge and in the cloud."),
    "serve": ("tierwise.cli.serve:serve", "Serve a model over MQTT and HTTP."),
    "cloud": ("tierwise.cli.serve:cloud", "Serve a model as a cloud tier with a simulated network delay."),
    "predict": ("tierwise.cli.predict:predict", "Run a model on a file of samples."),
    "profile": ("tierwise.cli.profile:profile", "Measure what a model costs, as a file that scenarios read."),
    "simulate": ("tierwise.cli.simulate:simulate", "Run a scenario in virtual time: latency, accuracy, energy, cost."),
    "model": ("tierwise.cli.model:model", "Create models, describe your own, look into them."),
    "deploy": ("tierwise.cli.deploy:deploy", "Write the manifests that run a model on Docker or Kubernetes."),
    "device": ("tierwise.cli.device:device", "Compile a model for a microcontroller, run it there, watch it."),
}
"""name → (where the command is, its line in the overview): the overview imports no command."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is run or asked for help, not before."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table: the order in which a newcomer needs them."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports and returns one command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module_name, attribute = COMMANDS[cmd_name][0].split(":")
        command = getattr(importlib.import_module(module_name), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module_name}:{attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, which knows only commands that are imported, and so suggests none of these."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}{did_you_mean(name, COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the overview from the table alone."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="tierwise")
def tierwise() -> None:
    """One model on the microcontroller, at the edge and in the cloud: run it, measure it, place it, deploy it."""


INTERRUPTED = 130
"""Ctrl-C: 128 + SIGINT, as shells have it."""

EXIT_CODES: tuple[tuple[type[TierwiseError], int], ...] = (
    (DeadlineExceededError, 1),
    (InferenceError, 1),
    (OverloadedError, 1),
    (ConfigurationError, 2),
    (ModelError, 2),
    (RequestError, 2),
    (TierwiseError, 1),
)
"""Error → exit code, 1 where the work failed, 2 for bad input or usage. The first kind that fits counts."""


def exit_code(error: TierwiseError) -> int:
    """What the process tells its caller about ``error``."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point: runs the command; an error of ours becomes one line on stderr and an exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr does: a locale without µ is no reason to fail
    try:
        sys.exit(tierwise.main(args=arguments, prog_name="tierwise", standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (Exception, KeyboardInterrupt) as error:
        if _was_interrupted(error):
            click.echo("tierwise: interrupted; what was started has been ended", err=True)
            sys.exit(INTERRUPTED)
        if not isinstance(error, TierwiseError):
            raise
        click.echo(f"tierwise: {error}", err=True)
        sys.exit(exit_code(error))


def _was_interrupted(error: BaseException | None) -> bool:
    """Whether it is a Ctrl-C, or came of one: an import that was cut short may say that a package is missing."""
    return error is not None and (
        isinstance(error, KeyboardInterrupt) or _was_interrupted(error.__cause__) or _was_interrupted(error.__context__)
    )
