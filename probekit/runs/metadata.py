"""What results.json, heads.json and draft.json say of a run and its model."""

import datetime
import uuid
from collections.abc import Mapping
from dataclasses import asdict, fields
from itertools import chain
from types import MappingProxyType
from typing import Any

import pandas as pd

from probekit import provenance
from probekit.data.blocks import OUTSIDE, TokenizedDocument
from probekit.data.formats.given import GIVEN
from probekit.models.loading import LOADING
from probekit.progress import Journal
from probekit.runs.setup import Setup
from probekit.settings import RunSettings

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def run_row(
    setup: Setup, settings: RunSettings, journal: Journal, unread: Mapping[str, Any] = _NOTHING
) -> dict[str, Any]:
    """Return how a run was made, as results.json and heads.json say it.

    Args:
        setup: Model and text.
        settings: What was set; what was not is left out.
        journal: Which stages took how long.
        unread: Settings that mean nothing here, and are listed all the same.
    """
    loaded, seconds = setup.loaded, journal.seconds
    return {
        "id": uuid.uuid4().hex,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": provenance.command(_again(setup, settings)),
        "seconds": sum(seconds.values()),
        "stage_seconds": dict(seconds),
        "seed": settings.seed,
        "device": provenance.machine(loaded.model.device),
        "dtype": loaded.dtype,
        "separator": setup.parting.separator.kind,
        "versions": {**provenance.versions(), **provenance.commit()},
        # As JSON has it, so that a report is the same from memory and file.
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in {**unread, **asdict(settings)}.items()
            if value is not None
        },
    }


def _again(setup: Setup, settings: RunSettings) -> str:
    """Return what repeats a run: a command, or the call where something was given in Python."""
    own_text = any(row["source"].startswith(GIVEN) for row in setup.text)
    own_model = setup.loaded.source == "python"
    if not (own_text or own_model):
        return f"probekit {settings.command} --config run.toml"
    given = {field.name: getattr(settings, field.name) for field in fields(settings)}
    left_out = {"model", *(LOADING if own_model else ())}
    told = [
        f"{field.name}={given[field.name]!r}"
        for field in fields(settings)
        if field.name not in left_out and given[field.name] != field.default
    ]
    if own_text:
        places = [(row["domain"], row["source"]) for row in setup.text]
        shown = (f"{n!r}: {'...' if at.startswith(GIVEN) else repr(at)}" for n, at in places)
        told = [each for each in told if not each.startswith("text=")]
        told.insert(0, f"text={{{', '.join(shown)}}}")
    model = ["model", "tokenizer=tokenizer"] if own_model else [repr(settings.model)]
    function = {"heads": "study_heads"}.get(settings.command, settings.command)
    return f"probekit.{function}({', '.join([*model, *told])})"


def model_row(setup: Setup) -> dict[str, Any]:
    """Return what results.json and heads.json say of a model."""
    loaded, anatomy = setup.loaded, setup.anatomy
    return {
        "name": loaded.name,
        "repository": loaded.repository,
        "revision": loaded.revision,
        "architecture": type(loaded.model).__name__,
        "n_layers": anatomy.n_layers,
        "d_model": anatomy.d_model,
        "vocab_size": anatomy.vocab_size,
        "n_parameters": loaded.n_parameters,
        "quantization": loaded.quantization,
        "adapter": loaded.adapter,
        "fingerprint": setup.fingerprint,
    }


def documents_table(setup: Setup) -> pd.DataFrame:
    """Return where each document is found again, as documents.parquet has it; none of its text.

    Returns:
        One row a document. `document` is its number, as everywhere in the run; `source` is what
        was given as text, and `name` the file, line or row in it, with the piece where it was
        cut. `sha256` is that of the document, or piece, as read. `tokens`, of which the first is
        number `start` of `whole_tokens`, were taken, and stand for `bytes` of it; so many
        characters are `lost`. Of a pair `prompt` tokens are its source in the template.
    """
    sources = {row["domain"]: row["source"] for row in setup.text}
    rows = [
        {
            "document": number,
            "domain": document.domain,
            "split": document.split,
            "source": sources[document.domain],
            "name": document.name,
            "sha256": document.sha256,
            "start": document.start,
            "tokens": len(document.ids),
            "whole_tokens": len(document.ids) + document.n_left_out,
            "prompt": document.prompt,
            "bytes": document.n_bytes,
            "lost": len(document.lost),
        }
        for number, document in enumerate(setup.documents)
    ]
    return pd.DataFrame(rows)


def with_places(positions: pd.DataFrame, setup: Setup) -> pd.DataFrame:
    """Return rows of test positions with `token`, the number of theirs in the whole document.

    Args:
        positions: Columns block, position and document, among others.
        setup: Model and text.
    """
    blocks = setup.blocks["test"].documents
    block, position = (blocks != OUTSIDE).nonzero(as_tuple=True)
    owners = blocks[block, position].numpy()
    places = pd.DataFrame({"block": block.numpy(), "position": position.numpy()})
    of_document = [_predicting(document) for document in setup.documents]
    before = pd.Series(owners).groupby(owners).cumcount()
    places["token"] = [of_document[owner][n] for owner, n in zip(owners, before, strict=True)]
    return positions.merge(places, on=["block", "position"], how="left")


def _predicting(document: TokenizedDocument) -> list[int]:
    """Return the tokens that stand in blocks as a document's own: targets, and what is before."""
    # From the last token before a target on, that is predicted; its end stands behind the last.
    inside = (range(max(span.start - 1, 0), span.stop) for span in document.targets)
    return [document.start + at for at in (*chain.from_iterable(inside), len(document.ids))]
