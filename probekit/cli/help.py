"""What -h says: the flags given most often, and with --help-all the others too.

Words are never broken, and nothing is imported for it that a run does not need.
"""

import re
import textwrap
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

# Names of the panels: what is neither is an argument.
USUAL, MORE = "Flags", "More flags"
ALL = "--help-all"
GAP = 2
# How wide the column of flags is at most.
WIDEST = 26

HELP_NAMES = {"help_option_names": ["-h", "--help"]}


HelpAll = Annotated[bool, typer.Option(ALL, help="Show all flags.")]


class Command(TyperCommand):
    """A command whose help shows the usual flags first."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take --help-all for --help, and note what is to be shown."""
        if ALL in args:
            ctx.meta[ALL], args = True, ["--help"]
        return super().parse_args(ctx, args)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the usual flags, and the others if they are asked for."""
        _write_parameters(self.get_params(ctx), ctx, formatter)


class Group(TyperGroup):
    """The program, whose help shows what each command does, to the end."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the commands, then the flags of the program itself."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        rows = [(name, found.get_short_help_str(200)) for name, found in commands if found]
        _write(formatter, "Commands", rows)
        _write_parameters(self.get_params(ctx), ctx, formatter)


def _write_parameters(parameters: Iterable[Any], ctx: Any, formatter: Any) -> None:
    panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], USUAL: [], MORE: []}
    for parameter in parameters:
        record = parameter.get_help_record(ctx)
        if record is not None:
            argument = parameter.param_type_name == "argument"
            if argument:  # without its type: what it is stands beside it
                record = (record[0].partition(" <")[0], record[1])
            panel = getattr(parameter, "rich_help_panel", None) or USUAL
            panels["Arguments" if argument else panel].append(record)
    if not ctx.meta.get(ALL):
        panels.pop(MORE)
    for title, rows in panels.items():
        _write(formatter, title, rows)


def _write(formatter: Any, title: str, rows: Iterable[tuple[str, str]]) -> None:
    rows = list(rows)
    if not rows:
        return
    column = min(WIDEST, max(len(first) for first, _ in rows)) + GAP
    formatter.write(f"\n{title}\n")
    for first, text in rows:
        # A default in words comes in brackets of its own; its first word is not parted from it.
        told = re.sub(r"\[default: \(?(.*?)\)?\]$", "[default:\xa0\\1]", text)
        lines = textwrap.wrap(
            told, formatter.width - column - 2, break_long_words=False, break_on_hyphens=False
        )
        if len(first) > column - GAP:
            lines.insert(0, "")
        for number, line in enumerate(lines or [""]):
            left = (first if number == 0 else "").ljust(column)
            formatter.write(f"  {left}{line}".rstrip().replace("\xa0", " ") + "\n")
