"""Read the files of a run folder: undamaged, and of the shape that they should be, or not at all.

A file that passes here may be drawn and compared; whatever else it may be is refused in a sentence
that says how it is written again.
"""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from jsonschema import Draft202012Validator
from pandas.api.types import is_numeric_dtype

from probekit.digests import require_undamaged, way_out
from probekit.errors import RunError

# Beyond it a number is none that was measured, and its square may be infinite.
LARGEST = 1e100
# What 64 bits hold, and a seed may be.
LARGEST_INTEGER = 2**63 - 1
# Of a reading in passages.json, what it has for each position of each passage.
BY_POSITION = ("nats", "rank", "top", "probs")
# Columns of sums by document.
WORDS = ("readout", "positions", "split", "domain")
NUMBERS = (
    "offset", "document", "seed", "n", "bytes_per_token",
    "nats_sum", "top1_sum", "top5_sum", "joint_sum", "joint_nats_sum",
)  # fmt: skip
# Characters of what a validator says: it quotes the value, however long.
SHOWN = 200


def json_schema(
    name: Literal["results", "passages", "heads", "draft"] = "results",
) -> dict[str, Any]:
    """Return the JSON Schema of results.json, passages.json, heads.json or draft.json."""
    text = (files("probekit.runs") / "schemas" / f"{name}.schema.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def read_json(path: Path, schema: str, what: str = "run") -> dict[str, Any]:
    """Return what a JSON file of a run folder holds.

    Args:
        path: The file.
        schema: The schema that it must say it has, such as probekit.results/4, and must have.
        what: What its folder does not hold where there is no such file.

    Raises:
        RunError: If the file cannot be read, is damaged, is not JSON, or is of another schema.
    """
    require_undamaged(path)
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text, parse_float=_float, parse_int=_int, parse_constant=_float)
    except OSError:
        raise RunError(
            f"{path.parent} holds no finished {what}: there is no readable {path}"
        ) from None
    except (RecursionError, ValueError) as error:
        raise RunError(f"{path} is not JSON: {error}. {way_out(path)}") from None
    if not isinstance(content, dict) or content.get("schema") != schema:
        raise RunError(
            f"{path} is not of schema {schema}: another version wrote it, and its numbers may mean "
            f"other things. {way_out(path)}"
        )
    name = schema.partition(".")[2].partition("/")[0]
    validator = Draft202012Validator(json_schema(name))  # type: ignore[arg-type]
    wrong = next(validator.iter_errors(content), None)
    if wrong is not None:
        where = ".".join(map(str, wrong.absolute_path)) or "its top level"
        raise RunError(
            f"{path} does not hold what schema {schema} says, at {where!r}: "
            f"{wrong.message[:SHOWN]}. {way_out(path)}"
        )
    return content


def read_passages(path: Path, schema: str) -> dict[str, Any]:
    """Return what passages.json holds.

    Raises:
        RunError: As `read_json`, or if it names tokens that its vocabulary has not, or readings
            of other positions than its passages have.
    """
    content = read_json(path, schema)
    passages, readings = content["passages"], content["readings"]
    named = {word for passage in passages for word in passage["tokens"]}
    named |= {w for passage in passages for words in passage["targets"].values() for w in words}
    tops = [top for reading in readings for of_passage in reading["top"] for top in of_passage]
    named |= {word for top in tops for word in top or ()}
    lengths = [len(passage["tokens"]) for passage in passages]
    rows = [list(map(len, reading[part])) for reading in readings for part in BY_POSITION]
    if max(named - {None}, default=0) >= len(content["vocabulary"]):
        raise RunError(f"{path} names tokens beyond its vocabulary. {way_out(path)}")
    if any(row != lengths for row in rows):
        raise RunError(f"{path} has readings of other positions than its passages. {way_out(path)}")
    return content


def _float(digits: str) -> float:
    number = float(digits)
    if not abs(number) <= LARGEST:
        raise ValueError(f"{digits[:SHOWN]} is no number that is measured")
    return number


def _int(digits: str) -> int:
    # Thousands of digits are not even read.
    if len(digits) > len(f"-{LARGEST_INTEGER}") or abs(number := int(digits)) > LARGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits)} digits is no number that is counted")
    return number


def read_sums(path: Path) -> pd.DataFrame:
    """Return sums by document, as `DocumentSums.named` made them.

    Raises:
        RunError: If the file cannot be read, is damaged, or has not all columns and numbers.
    """
    table = read_table(path)
    missing = [name for name in (*WORDS, *NUMBERS, "layer") if name not in table]
    if missing:
        raise RunError(f"{path} has no column {', '.join(missing)}. {way_out(path)}")
    for name in NUMBERS:
        if not is_numeric_dtype(table[name]) or not np.isfinite(table[name].to_numpy(float)).all():
            raise RunError(f"{path} has values that are no numbers in {name}. {way_out(path)}")
    return table


def read_table(path: Path) -> pd.DataFrame:
    """Return a table of a run folder.

    Raises:
        RunError: If there is none, it is damaged, or is no parquet.
    """
    require_undamaged(path)
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        said = str(error).partition("\n")[0][:SHOWN]
        raise RunError(f"{path} cannot be read as parquet: {said}. {way_out(path)}") from None
