"""What results.json, heads.json and draft.json say of a run and its model."""

import datetime
import uuid
from collections.abc import Mapping
from itertools import chain
from typing import Any

import pandas as pd

from probekit import provenance
from probekit.data.blocks import OUTSIDE, TokenizedDocument
from probekit.progress import Journal
from probekit.runs.setup import Setup


def run_row(setup: Setup, settings: Mapping[str, Any], journal: Journal) -> dict[str, Any]:
    """Return how a run was made, as results.json and heads.json say it.

    Args:
        setup: Model and text.
        settings: What was set, the seed among it; what was not is left out.
        journal: Which stages took how long.
    """
    loaded, seconds = setup.loaded, journal.seconds
    return {
        "id": uuid.uuid4().hex,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": provenance.command(),
        "seconds": sum(seconds.values()),
        "stage_seconds": dict(seconds),
        "seed": settings["seed"],
        "device": provenance.machine(loaded.model.device),
        "dtype": loaded.dtype,
        "separator": setup.parting.separator.kind,
        "versions": dict(provenance.versions()),
        # As JSON has it, so that a report is the same from memory and file.
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in settings.items()
            if value is not None
        },
    }


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
