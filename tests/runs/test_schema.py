"""The schemas of what runs write, and what the documentation says of them.

`make readme` writes the documentation again.
"""

import copy
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError

from probekit.pipelines.analysis.finished import Run
from probekit.runs.folder import SCHEMA
from probekit.runs.reading import json_schema
from support.pages import synthetic_run
from support.paths import ROOT

PAGE = ROOT / "docs" / "schema.md"
HEAD = f"""# results.json

The fields of `results.json`, schema `{SCHEMA}`. The JSON Schema itself is
`probekit/runs/schemas/results.schema.json`; `probekit.runs.reading.json_schema()` returns it. Null
is allowed only where it says so. A score is a mean over positions; its interval is a bootstrap
over documents.

"""


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def tables(schema: dict[str, Any]) -> str:
    """Return one table a part of a file, from its schema."""
    parts = {"Top level": schema}
    for name, part in schema["properties"].items():
        rows = part.get("items", part)
        if "properties" in rows:
            parts[f"`{name}`"] = rows
            inner = rows["properties"].items()
            parts |= {f"`{key}` of `{name}`": of for key, of in inner if "properties" in of}
    lines: list[str] = []
    for title, part in parts.items():
        lines += [f"## {title}", "", "| field | type | meaning and unit |", "|---|---|---|"]
        lines += [_line(name, field) for name, field in part["properties"].items()]
        lines.append("")
    return "\n".join(lines)


def _line(name: str, field: dict[str, Any]) -> str:
    if "enum" in field:
        kind = "one of " + ", ".join(field["enum"])
    elif "const" in field:
        kind = "constant"
    else:
        kinds = field["type"] if isinstance(field["type"], list) else [field["type"]]
        kind = " or ".join(kinds)
    meaning = field["description"].replace("|", "&#124;")
    return f"| `{name}` | {kind} | {meaning} |"


def test_a_run_writes_what_the_schema_says(
    finished_run: Run, validator: Draft202012Validator
) -> None:
    validator.validate(dict(finished_run.results))
    assert finished_run.results["schema"] == SCHEMA


@pytest.mark.parametrize("marginal", [True, False])
def test_the_synthetic_run_is_one(marginal: bool, validator: Draft202012Validator) -> None:
    validator.validate(synthetic_run.results(synthetic_run.Size(marginal=marginal)))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("scores", "top1", 1.5),
        ("scores", "nats", None),
        ("scores", "nats", -0.1),
        ("scores", "split", "train"),
        ("scores", "offset", 0),
        ("scores", "extra", 1),
        ("marginal", "route", "off"),
        ("specialization", "best_layer", None),
        ("text", "sha256", "abc"),
    ],
)
def test_a_wrong_row_is_refused(
    validator: Draft202012Validator, part: str, field: str, value: object
) -> None:
    results = copy.deepcopy(synthetic_run.results())
    results[part][0][field] = value
    with pytest.raises(ValidationError):
        validator.validate(results)


def test_a_missing_part_is_refused(validator: Draft202012Validator) -> None:
    results = synthetic_run.results()
    del results["checks"]
    with pytest.raises(ValidationError, match="'checks' is a required property"):
        validator.validate(results)


def page() -> str:
    """Return what the documentation should be."""
    parts = [HEAD + tables(json_schema())]
    for name, schema in {
        "passages": json_schema("passages"),
        "heads": json_schema("heads"),
        "draft": json_schema("draft"),
    }.items():
        title = f"# {name}.json\n\n{schema['description']} Schema `{schema['title']}`.\n\n"
        parts.append(title + tables(schema))
    return "\n".join(parts)


def test_the_documentation_says_what_the_schemas_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
