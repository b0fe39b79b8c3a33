"""Fields of settings: the flag of each, and the values that it may have."""

import math
import reprlib
from collections.abc import Mapping
from dataclasses import Field
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from probekit.errors import SettingsError

# The largest that torch, numpy and TOML all take.
LARGEST = 2**63 - 1


def flag(field: Field[Any]) -> str:
    """Return the flag of a field: its name, hyphenated, or what its metadata calls it."""
    return "--" + str(field.metadata.get("flag", field.name)).replace("_", "-")


def kinds(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, or the one type that an annotation is."""
    in_union = get_origin(annotation) in (Union, UnionType)
    return get_args(annotation) if in_union else (annotation,)


def require_kind(field: Field[Any], value: object) -> None:
    """Raise if a value is not of a kind that a field may have.

    Raises:
        SettingsError: If it is not.
    """
    allowed = kinds(field.type)
    if not any(_is_kind(value, kind) for kind in allowed):
        # What a list may hold may stand alone: that is said once.
        items = [get_args(kind)[0] for kind in allowed if get_origin(kind) is tuple]
        shown = " or ".join(_described(kind) for kind in allowed if kind not in items)
        raise SettingsError(f"{flag(field)} must be {shown}, got {value!r}")


def require_within(
    field: Field[Any],
    value: object,
    least: Mapping[str, int],
    most: Mapping[str, int],
) -> None:
    """Raise if a number is not finite, or lies outside the bounds of its field.

    Raises:
        SettingsError: If it does.
    """
    if float in kinds(field.type) and not _is_finite(value):
        raise SettingsError(f"{flag(field)} must be a finite number, got {reprlib.repr(value)}")
    if isinstance(value, int) and field.name in least:
        lowest, highest = least[field.name], most.get(field.name, LARGEST)
        if value < lowest:
            raise SettingsError(f"{flag(field)} must be at least {lowest}, got {value}")
        if value > highest:
            raise SettingsError(f"{flag(field)} must be at most {highest}, got {value}")


def _is_finite(value: Any) -> bool:
    try:
        return isinstance(value, str) or math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _is_kind(value: object, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is tuple:
        inner = get_args(kind)[0]
        return isinstance(value, tuple) and all(_is_kind(item, inner) for item in value)
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    if kind is str and isinstance(value, str):
        return not any("\ud800" <= each <= "\udfff" for each in value)  # bytes that are not UTF-8
    return isinstance(value, kind)


def _described(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(get_args(kind))
    if get_origin(kind) is tuple:
        return f"a list, each {_described(get_args(kind)[0])}"
    if kind is float:
        return "a number"
    if kind is str:
        return "text in UTF-8"
    return "unset" if kind is NoneType else str(kind.__name__)
