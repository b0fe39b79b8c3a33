"""Flags made from the fields of a dataclass of settings, so that the two cannot drift apart.

A flag that is not given is unset: then the --config file decides, and last the field's default.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

import typer

from probekit.cli import values
from probekit.cli.help import MORE, USUAL
from probekit.errors import SettingsError
from probekit.fields import flag, kinds
from probekit.settings import TOKENS_ELSEWHERE, RunSettings

# Settings that are given most often: the others are behind --help-all.
MAIN = (
    "model", "text", "max_tokens", "offsets", "layers", "kind", "strategies", "drafters", "tree",
    "device",
)  # fmt: skip
SHORT = {"model": ("-m",), "text": ("-t",)}
# What stands for a value in the help text, where its kind does not say.
METAVARS = {"model": "MODEL", "text": "PATH", "device": "DEVICE"}
# Defaults as the help text states them, where the field's own default is not informative.
SHOWN = {
    "text": "built-in text",
    "layers": "all, on a CPU eleven of a large model",
    "strategies": "those that suit the kind",
}


def tokens(record: type[RunSettings]) -> str:
    """Return the default of --max-tokens in words.

    >>> tokens(RunSettings)
    '13,500 on a CPU, 200,000 elsewhere'
    """
    return f"{record.tokens_on_cpu:,} on a CPU, {TOKENS_ELSEWHERE:,} elsewhere"


def with_settings(
    record: type[RunSettings], *names: str, shown: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one flag for each of these settings (all, if none are named).

    The command receives those that were given as its parameter `settings`, a dictionary.

    Args:
        record: The dataclass of settings.
        names: Fields of it.
        shown: Defaults as the help text states them, by field.
    """
    words = {**SHOWN, "max_tokens": tokens(record), **shown}

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = [f for f in dataclasses.fields(record) if not names or f.name in names]

        def run(**arguments: Any) -> None:
            settings = _given(fields, {f.name: arguments.pop(f.name) for f in fields})
            command(settings=settings, **arguments)

        signature = inspect.signature(command)
        parameters = [
            parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            for parameter in signature.parameters.values()
            if parameter.name != "settings"
        ]
        flags = [
            _parameter(field, described(record, field.name), words.get(field.name))
            for field in fields
        ]
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        usual = sorted((f for f in flags if f.name in MAIN), key=lambda f: MAIN.index(f.name))
        ordered = [*usual, *parameters, *(f for f in flags if f.name not in MAIN)]
        run.__annotations__ = {p.name: p.annotation for p in ordered}
        run.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
        return run

    return decorate


def _given(
    fields: Sequence["dataclasses.Field[Any]"], arguments: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the settings that were given, each of the kind that its field has."""
    given = {field: arguments[field.name] for field in fields}
    return {f.name: _value(f, raw) for f, raw in given.items() if raw not in (None, [])}


def _value(field: "dataclasses.Field[Any]", raw: Any) -> Any:
    name, kind, words = flag(field), *_kind_and_words(field)
    if kind == tuple[int, ...]:
        return values.numbers(name, raw, words)
    if get_origin(kind) is tuple:
        return values.listed(raw)
    if kind is int:
        return values.count(name, raw, words)
    return _fraction(name, raw, words) if kind is float and words else raw


def _kind_and_words(field: "dataclasses.Field[Any]") -> tuple[Any, list[str]]:
    """Return the kind that a field has, and the words that it may be instead."""
    kind, *words = (kind for kind in kinds(field.type) if kind is not NoneType)
    return kind, [word for literal in words for word in get_args(literal)]


def _parameter(
    field: "dataclasses.Field[Any]", text: str, default: str | None
) -> inspect.Parameter:
    """Return the parameter from which typer makes the flag of a field."""
    name = flag(field)
    options: dict[str, Any] = {
        "help": text,
        "show_default": default or _shown(field.default),
        "rich_help_panel": USUAL if field.name in MAIN else MORE,
    }
    kind: Any
    kind, words = _kind_and_words(field)
    names = [name, f"--{field.name}"] if "flag" in field.metadata else [name]
    if get_origin(kind) is tuple:
        metavar = "N,N,..." if kind == tuple[int, ...] else METAVARS.get(field.name, "A,B,...")
        kind = list[str]
    elif kind is bool:
        metavar, names = None, [f"{name}/--no-{name[2:]}"]
    elif get_origin(kind) is Literal:
        metavar = "|".join(get_args(kind))
    else:
        metavar = METAVARS.get(field.name, "TEXT" if kind is str else "N")
        kind = kind if kind is float and not words else str
    if metavar is not None:
        options["metavar"] = "|".join((metavar, *words))
    annotation = Annotated[kind | None, typer.Option(*names, *SHORT.get(field.name, ()), **options)]
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation
    )


def described(record: type, name: str) -> str:
    """Return the description of a field in the docstring of its dataclass or of a base."""
    for owner in record.__mro__:
        attributes = inspect.cleandoc(owner.__doc__ or "")
        line = re.search(rf"^    {name}: (.+(?:\n        .+)*)", attributes, re.MULTILINE)
        if line:
            return " ".join(line.group(1).split()).replace("`", "")
    return ""


def _shown(default: object) -> str | bool:
    if isinstance(default, tuple):
        return ", ".join(map(str, default))
    return False if default is None or isinstance(default, bool) else str(default)


def _fraction(name: str, text: str, words: Sequence[str]) -> float | str:
    try:
        return text if text in words else float(text)
    except ValueError:
        allowed = ", ".join(words)
        raise SettingsError(f"{name} must be a number or one of {allowed}, got {text!r}") from None
