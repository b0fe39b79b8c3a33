"""The schema of results.json: what runs write, and what the documentation says."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
import synthetic_run
from jsonschema import Draft202012Validator, ValidationError

from probekit.results import SCHEMA, Run, json_schema

PAGE = Path(__file__).parents[1] / "docs" / "schema.md"


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def fields(schema: dict[str, Any]) -> set[str]:
    found = set()
    for name, part in schema.get("properties", {}).items():
        found |= {name} | fields(part) | fields(part.get("items", {}))
    return found


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


def test_the_documentation_names_every_field() -> None:
    documented = set(re.findall(r"^\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert documented == fields(json_schema())
