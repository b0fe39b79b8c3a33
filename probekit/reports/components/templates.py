"""Templates, styles and scripts: how text of a run gets into a page, and how scripts may run."""

import base64
import hashlib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from probekit.reports.components.numbers import offset_range
from probekit.reports.components.visible_text import clean


@cache
def environment() -> Environment:
    """Return the environment of all templates: everything is escaped, and cleaned before.

    The filter `svg` lets a figure through as it is; `offset_range` says offsets in few words.
    """
    templates = Environment(
        loader=PackageLoader("probekit.reports"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["svg"] = Markup  # figures hold none of the run's text
    templates.filters["offset_range"] = offset_range
    return templates


def _finalize(value: Any) -> Any:
    """Clean every text of the run on its way into the page."""
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def rendered(
    template: str,
    values: Mapping[str, Any],
    styles: tuple[str, ...] = ("style.css",),
    scripts: tuple[str, ...] = (),
) -> str:
    """Return the page that a template makes of values, its styles and scripts within it."""
    values = {**assets(styles, scripts), **values}
    return environment().get_template(template).render(values)


@cache
def assets(styles: tuple[str, ...], scripts: tuple[str, ...]) -> Mapping[str, Any]:
    """Return style and script, and the script's hash for the content security policy.

    Args:
        styles: Names of the style sheets, joined in this order.
        scripts: Names of the scripts, joined in this order into one.

    Returns:
        The values of `style`, `script` and `script_hash` in a template.
    """
    script = "\n".join(map(_text, scripts))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {
        "style": Markup("\n".join(map(_text, styles))),
        "script": Markup(script),
        "script_hash": digest,
    }


def _text(name: str) -> str:
    return files("probekit.reports").joinpath("assets", name).read_text(encoding="utf-8")
