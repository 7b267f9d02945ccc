"""The `atelier` command: the table of its commands. Each command's module is loaded only when it is called."""

from __future__ import annotations

import importlib
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from app.commands.speech import speech
from app.language import LANGUAGES

COMMANDS: dict[str, str] = {
    "up": "up:up",
    "worker": "up:worker",
    "data": "data:data",
    "model": "models:model",
    "train": "train:train",
    "chain": "chains:chain",
    "jobs": "jobs:jobs",
    "job": "jobs:job",
    "log": "jobs:log",
    "stop": "jobs:stop",
    "cancel": "jobs:cancel",
    "pause": "jobs:pause",
    "resume": "jobs:resume",
    "retry": "jobs:retry",
    "move": "jobs:move",
    "delete": "jobs:delete",
    "metrics": "metrics:curves",
    "samples": "samples:samples",
    "chat": "chat:chat",
    "merge": "merge:merge",
    "export": "export:export",
    "store": "store:store",
    "check": "check:check",
}
"""Name of a command → module below `app.commands` and its function or group."""

USAGE = 64
t = speech()


class Lazy(TyperGroup):
    """Lists all commands from the table, and loads the one that is called."""

    def __init__(self, **named: Any) -> None:
        super().__init__(**named)
        for name in COMMANDS:
            self.add_command(TyperCommand(name, help=t(f"cli.help.{name}")))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, _stub, rest = super().resolve_command(ctx, args)
        return name, load(name) if name else None, rest


def load(name: str) -> Any:
    """Import a command and return it ready to run."""
    module, _, attribute = COMMANDS[name].partition(":")
    found = getattr(importlib.import_module(f"app.commands.{module}"), attribute)
    if isinstance(found, typer.Typer):
        found.info.help = t(f"cli.help.{name}")
        return typer.main.get_command(found)
    single = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    single.command(name, help=t(f"cli.help.{name}"))(found)
    return typer.main.get_command(single)


app = typer.Typer(
    cls=Lazy,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True, help=t("cli.help"))
def atelier(
    ctx: typer.Context,
    language: Annotated[str | None, typer.Option(metavar="|".join(LANGUAGES), help=t("cli.option.language"))] = None,
    version: Annotated[bool, typer.Option("--version", help=t("cli.option.version"))] = False,
) -> None:
    if language is not None and language not in LANGUAGES:
        raise typer.BadParameter(
            t("cli.language.unknown", given=language, allowed=", ".join(LANGUAGES)), param_hint="--language"
        )
    if version:
        from app.versions import ATELIER

        sys.stdout.write(f"atelier {ATELIER}\n")
        raise typer.Exit
    if ctx.invoked_subcommand is None:
        importlib.import_module("app.commands.up").up()


def main() -> None:
    """Run the command; a usage error ends with 64, an interrupt with 130."""
    try:
        app(prog_name="atelier")
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as end:
        sys.exit(USAGE if end.code == 2 else end.code)


if __name__ == "__main__":
    main()
