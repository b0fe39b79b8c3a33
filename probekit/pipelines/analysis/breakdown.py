"""Where what is read comes from, by class of the target, and how sure the readouts are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from probekit.data.token_classes import CONTINUATION, target_classes
from probekit.data.token_text import spell
from probekit.pipelines.analysis.fits import Inputs
from probekit.probes.logit_lens import Model
from probekit.probes.probe import Probes
from probekit.readout import LINEAR, MODEL, Readout
from probekit.runs.ceiling import Ceiling
from probekit.scoring.calibration import calibration_rows
from probekit.scoring.classes import CEILING, FLOOR, PROBE, Classes
from probekit.scoring.positions import score_positions
from probekit.scoring.rates import DocumentSums

PLACE = ["block", "position"]
DECILES = 10
# Above this share of all that is read, a class is said to be where it is read.
MOST = 0.5
# From this probability on of the likeliest token the model is near certain of the next one.
NEAR_CERTAIN = 0.9
CERTAIN, OPEN = "next token near certain", "next token open"

Rows = dict[str, list[dict[str, Any]]]


def break_down(
    inputs: Inputs,
    readouts: tuple[Probes, Readout],
    sums: DocumentSums,
    ceilings: Sequence[Ceiling],
    entropies: pd.DataFrame,
) -> Rows:
    """Return the rows of `calibration` and `classes` of results.json.

    Args:
        inputs: Streams and targets.
        readouts: The linear probes, and the skip-bigram.
        sums: The scores, by which layers and floors are chosen on validation.
        ceilings: The model marginalized, by itself first.
        entropies: Rows of block, position and nats: the entropy of the next token.
    """
    scored = _scored(inputs, readouts, sums)
    tables = [scored[name] for name in (MODEL, PROBE) if name in scored]
    tables += [ceiling.positions for ceiling in ceilings[:1]]
    calibration = [row for table in tables for row in calibration_rows(table)]
    if inputs.targets["test"].name != "text" or PROBE not in scored:
        return {"calibration": calibration, "classes": []}
    parts = [scored[FLOOR].assign(readout=FLOOR), scored[PROBE].assign(readout=PROBE)]
    parts += [ceiling.positions.assign(readout=CEILING) for ceiling in ceilings[:1]]
    columns = ["readout", "offset", "document", *PLACE, "nats", "top1"]
    table = pd.concat([part[columns] for part in parts], ignore_index=True)
    drawn = table.loc[table["readout"] == CEILING, PLACE].drop_duplicates().assign(marginal=True)
    table = table.merge(drawn, on=PLACE, how="left")
    table["marginal"] = table["marginal"].eq(True)
    kinds = _kinds(inputs, table, entropies).assign(next=certainty(table, scored[MODEL]))
    setup = inputs.streams.setup
    classes = Classes(
        pd.concat([table, kinds], axis=1), kinds.columns.tolist(), setup.domains, sums.seed
    )
    return {"calibration": calibration, "classes": list(classes.rows())}


def _scored(
    inputs: Inputs, readouts: tuple[Probes, Readout], sums: DocumentSums
) -> Mapping[str, pd.DataFrame]:
    """Return the scores by position of the model, and from offset 2 on of floor and probe."""
    linear, skip_bigram = readouts
    test, streams = inputs.targets["test"], inputs.streams
    documents = streams.setup.blocks["test"].documents
    where, model = streams.setup.blocks["test"].valid(1), Model(streams.setup.anatomy)
    next_token = score_positions([model], streams.finals("test"), test.only([1]), where, documents)
    ahead = [offset for offset in test.ids if offset > 1]
    if not ahead:
        return {MODEL: next_token}
    validation = sums.rates(sums.groups[0], "validation", "all")
    best = {k: (validation.best_layer(LINEAR, k), k) for k in ahead}
    floors = {k: validation.token_floor(k) for k in ahead}
    of_layer = {k: (layer, k) for k, (_, layer) in floors.items() if layer is not None}
    probes, low = (
        replace(linear, probes={cell: linear.probes[cell] for cell in cells.values()})
        for cells in (best, of_layer)
    )
    read = streams.holding(probes.layers | low.layers).read("test")
    at = test.only(ahead), where, documents
    floor = score_positions([low, skip_bigram], read, *at, tempered=False)
    layer = floor["layer"].astype(object).where(floor["layer"].notna(), None)
    cells = zip(floor["readout"], layer, floor["offset"], strict=True)
    return {
        MODEL: next_token,
        PROBE: score_positions([probes], read, *at),
        FLOOR: floor[[floors[k] == (name, read_at) for name, read_at, k in cells]],
    }


def _kinds(inputs: Inputs, places: pd.DataFrame, entropies: pd.DataFrame) -> pd.DataFrame:
    """Return one column a kind of class for rows of block, position and offset."""
    setup, train = inputs.streams.setup, inputs.targets["train"]
    vocab = setup.anatomy.vocab_size
    targets = train.ids[1][train.valid[1]].numpy()
    counts = np.bincount(targets, minlength=vocab).astype(np.float64)
    spelt = spell(setup.loaded.tokenizer, range(vocab))
    kinds = target_classes(places, setup.blocks["test"], spelt, counts)
    edges = np.quantile(entropies["nats"], np.arange(1, DECILES) / DECILES)
    nats = places[PLACE].merge(entropies[[*PLACE, "nats"]], on=PLACE, how="left")["nats"]
    decile = np.searchsorted(edges, nats.to_numpy()) + 1
    return kinds.assign(entropy=[f"decile {number:02d}" for number in decile])


def certainty(places: pd.DataFrame, model: pd.DataFrame) -> list[str]:
    """Return for rows of block and position whether the model is near certain of the next token.

    Args:
        places: Rows with columns block and position.
        model: The model's scores at these positions: block, position and confidence.
    """
    confidence = places[PLACE].merge(model[[*PLACE, "confidence"]], on=PLACE, how="left")
    sure = confidence["confidence"] >= NEAR_CERTAIN
    return [CERTAIN if each else OPEN for each in sure]


def by_class(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say in which class of positions t+2 is read, from rows of `classes`."""
    return [*within_words(classes), *disguised(classes)]


def disguised(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how much of what is read of t+2 is read where the next token is near certain.

    There t+2 is the next token of a text that is a token longer. Nothing is said where nothing is
    clearly read, or where the share is uncertain by as much as all of it.

    Args:
        classes: Rows of `classes`, those of all domains first.
    """
    rows: dict[str, Mapping[str, Any]] = {}
    for row in classes:
        if (row["kind"], row["offset"]) == ("next", 2):
            rows.setdefault(row["class"], row)
    read = any((row["read_bits_low"] or 0) > 0 for row in rows.values())
    if not read or CERTAIN not in rows:
        return []
    share, low, high = (rows[CERTAIN][f"share{end}"] for end in ("", "_low", "_high"))
    if low is None or high - low >= 1:
        return []
    span = f"{100 * share:.0f} % [{100 * low:.0f} %, {100 * high:.0f} %]"
    return [
        f"{span} of what is read of t+2 beyond the current token is read where the model is near "
        "certain of the next token "
        f"({NEAR_CERTAIN:g} or more), {100 * rows[CERTAIN]['share_of_positions']:.0f} % of the "
        "positions: there t+2 is the next token in disguise."
    ]


def within_words(classes: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say that t+2 is won inside words, where most of what is read there is and no chance.

    Args:
        classes: Rows of `classes`, those of all domains first.
    """
    for row in classes:
        if (row["class"], row["offset"]) == (CONTINUATION, 2):
            share, low, of_positions = row["share"], row["share_low"], row["share_of_positions"]
            if share is None or low is None or share <= MOST or low <= of_positions:
                return []
            return [
                f"t+2 is won inside words: {100 * share:.0f} % [{100 * low:.0f} %, "
                f"{100 * row['share_high']:.0f} %] of what is read of it beyond the current token "
                f"is read where it continues a word, {100 * of_positions:.0f} % of the positions."
            ]
    return []
