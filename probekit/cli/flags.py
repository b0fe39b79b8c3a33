"""Flags made from the fields of a dataclass of settings, so that the two cannot drift apart.

A flag that is not given is unset: then the --config file decides, and last the field's default.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, NoneType
from typing import Annotated, Any, get_args, get_origin

import typer

from probekit.errors import SettingsError
from probekit.settings import TOKENS_ELSEWHERE, RunSettings, flag, kinds

# Settings that are given most often, in the first panel of the help text.
MAIN = (
    "model", "text", "offsets", "max_tokens", "marginal", "device", "dtype",
    "strategies", "kind", "epochs", "sweep", "heads", "drafters", "tree", "prompts", "new_tokens",
)  # fmt: skip
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
            settings = {field.name: arguments.pop(field.name) for field in fields}
            command(settings=_given(settings), **arguments)

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
        run.__annotations__ = {p.name: p.annotation for p in [*parameters, *flags]}
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[*parameters, *flags]
        )
        return run

    return decorate


def _given(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that were given, lists as tuples."""
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    return {n: tuple(value) if isinstance(value, list) else value for n, value in given.items()}


def _parameter(
    field: "dataclasses.Field[Any]", text: str, default: str | None
) -> inspect.Parameter:
    """Return the parameter from which typer makes the flag of a field."""
    name = flag(field)
    options: dict[str, Any] = {
        "help": text,
        "show_default": default or _shown(field.default),
        "rich_help_panel": "Settings" if field.name in MAIN else "More settings",
    }
    kind: Any
    kind, *words = (kind for kind in kinds(field.type) if kind is not NoneType)
    if kind == tuple[int, ...]:
        options |= _numbers_or_word(name, [get_args(word)[0] for word in words])
        kind = str
    elif words:
        options |= _number_or_word(name, kind, get_args(words[0]))
        kind = str
    elif get_origin(kind) is tuple:
        kind = list[str]
    elif kind is bool:
        name = f"{name}/--no-{name[2:]}"
    annotation = Annotated[kind | None, typer.Option(name, **options)]
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
    return False if default is None else str(default)


def _numbers_or_word(name: str, words: Sequence[str]) -> dict[str, Any]:
    """Return options of a flag that takes numbers, parted by commas, or one of some words."""

    def parse(text: str) -> tuple[int, ...] | str:
        try:
            return text if text in words else tuple(int(part) for part in text.split(","))
        except ValueError:
            allowed = "".join(f", or {word}" for word in words)
            raise SettingsError(
                f"{name} must be numbers such as 0,3,6{allowed}, got {text!r}"
            ) from None

    return {"parser": parse, "metavar": "|".join(("N,N,...", *words))}


def _number_or_word(name: str, kind: type, words: tuple[str, ...]) -> dict[str, Any]:
    """Return options of a flag that takes a number or one of some words."""
    allowed = words[0] if len(words) == 1 else f"one of {', '.join(words)}"

    def parse(text: str) -> Any:
        if text in words:
            return text
        try:
            return kind(text)
        except ValueError:
            raise SettingsError(f"{name} must be a number or {allowed}, got {text!r}") from None

    return {"parser": parse, "metavar": "|".join(("N", *words))}
