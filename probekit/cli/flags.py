"""Flags made from the fields of `Settings`, so that the two cannot drift apart.

Every flag is unset unless given: what a --config file says counts then, and the field's
own default last.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from probekit.errors import SettingsError
from probekit.settings import TOKENS_ELSEWHERE, TOKENS_ON_CPU, Settings

# Flags that are usually given, in the order of the help text's first panel.
MAIN = ("model", "text", "offsets", "max_tokens", "marginal", "device", "dtype")


def tokens(on_cpu: int) -> str:
    """Return how many tokens of a text are taken where nobody says how many.

    >>> tokens(10_000)
    '10,000 on a CPU, 200,000 elsewhere'
    """
    return f"{on_cpu:,} on a CPU, {TOKENS_ELSEWHERE:,} elsewhere"


# Defaults in words, of fields whose own default says nothing.
SHOWN = {"text": "built-in text", "max_tokens": tokens(TOKENS_ON_CPU)}


def with_settings(
    *names: str, shown: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag for each of these settings (all, if none are named).

    The command gets them as its parameter `settings`, a dictionary of what was given.

    Args:
        names: Fields of `Settings`.
        shown: What the help says is the default, where that is not the field's own.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = [f for f in dataclasses.fields(Settings) if not names or f.name in names]

        def run(**given: Any) -> None:
            settings = {field.name: given.pop(field.name) for field in fields}
            command(settings=_given(settings), **given)

        signature = inspect.signature(command)
        own = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.name != "settings"
        ]
        parameters = [*own, *(_flag(field, {**SHOWN, **shown}) for field in fields)]
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
        return run

    return decorate


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    return {n: tuple(value) if isinstance(value, list) else value for n, value in given.items()}


def _flag(field: "dataclasses.Field[Any]", shown: Mapping[str, str]) -> inspect.Parameter:
    kinds = get_args(field.type) or (field.type,)
    options: dict[str, Any] = {
        "help": described(Settings, field.name),
        "show_default": shown.get(field.name, _shown(field.default)),
        "rich_help_panel": "Settings" if field.name in MAIN else "More settings",
    }
    kind: Any = next(kind for kind in kinds if kind is not NoneType)
    if field.name in ("text", "probe"):
        kind = list[str]
    elif field.name == "layers":
        kind, options["parser"] = str, _numbers
        options["metavar"] = "L,L,..."
    elif field.name == "batch_size":
        kind, options["parser"] = str, _number_or_auto
        options["metavar"] = "N|auto"
    elif get_origin(field.type) is Literal:
        kind = field.type
    name = "--" + field.name.replace("_", "-")
    declared = f"{name}/--no-{name[2:]}" if kind is bool else name
    annotation = Annotated[kind | None, typer.Option(declared, **options)]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def described(owner: type, name: str) -> str:
    """Return what the docstring of a class of settings says of a field."""
    attributes = inspect.getdoc(owner) or ""
    found = re.search(rf"^    {name}: (.+(?:\n        .+)*)", attributes, re.MULTILINE)
    return " ".join(found.group(1).split()).replace("`", "") if found else ""


def _shown(default: object) -> str | bool:
    if isinstance(default, tuple):
        return ", ".join(default) or "all"
    return False if default is None else str(default)


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"--layers must be numbers such as 0,3,6, got {text!r}") from None


def _number_or_auto(text: str) -> int | str:
    if text == "auto":
        return text
    try:
        return int(text)
    except ValueError:
        raise SettingsError(f"--batch-size must be a number or auto, got {text!r}") from None
