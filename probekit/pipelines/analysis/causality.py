"""Is what the best probes read of later tokens used by the model? The causal check of a run."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch

from probekit.causal import effects, used
from probekit.causal.rerun import Rerun
from probekit.causal.subspaces import Decoding, Layer
from probekit.checks import Check
from probekit.data.targets import draw_positions
from probekit.errors import SettingsError
from probekit.pipelines.analysis.fits import Inputs
from probekit.probes.ngram import Unigram
from probekit.probes.probe import Probes
from probekit.runs.setup import Setup, branches_are_slow
from probekit.runs.stages import Stages
from probekit.runs.streams import SITE_OF_MODEL
from probekit.scoring.rates import DocumentSums
from probekit.scoring.specialization import DomainRates
from probekit.settings import Settings
from probekit.shapes import Mask

# Positions of each text at which something is taken out, and where each takes a CPU long.
POSITIONS, POSITIONS_ON_CPU = 1_000, 300

Cell = tuple[int, int]  # layer and offset


def checks(setup: Setup, settings: Settings) -> list[Check]:
    """Return the check of the blocks that are run by themselves, before anything is measured.

    Raises:
        SettingsError: If the check cannot be made of what is measured.
        ModelError: If branches cannot be kept apart in this model.
    """
    if settings.causal == "none":
        return []
    if settings.offsets < 2 or settings.target != "text" or settings.sites[0] != SITE_OF_MODEL:
        raise SettingsError(
            "--causal takes out what is read of t+2 … at resid_post and scores tokens of the text: "
            f"--offsets 2 or more, --target text, --site resid_post; got --offsets "
            f"{settings.offsets}, --target {settings.target}, --site {settings.sites[0]}"
        )
    middle = setup.anatomy.n_layers // 2
    token_ids = setup.blocks["test"].token_ids[0].to(setup.loaded.model.device)
    return [Rerun(setup.loaded.model, setup.anatomy, middle).check(token_ids)]


def measured(
    inputs: Inputs,
    settings: Settings,
    sums: DocumentSums,
    linear: Probes,
    unigram: Unigram,
    stages: Stages,
) -> list[dict[str, Any]]:
    """Return `causal` of results.json, for the layers before the last and each offset from 2 on.

    Behind the last layer nothing is run, so that nothing that is taken out there can be used later.

    Args:
        inputs: Streams and targets.
        settings: What was asked.
        sums: What was scored.
        linear: The linear probes.
        unigram: How frequent tokens are.
        stages: What is finished already.
    """
    if settings.causal == "none":
        return []
    setup = inputs.streams.setup
    domain = DomainRates.of(sums, sums.groups[0], setup.anatomy.n_layers)
    best = {offset: domain.late_rival(offset) for offset in range(2, settings.offsets + 1)}
    cells = [(layer, offset) for offset in best for layer in setup.layers[:-1]]
    if settings.causal == "best":
        cells = [(layer, offset) for layer, offset in cells if layer == best[offset]]
    own = stages.ranks.share(cells)
    scored = partial(_scored, inputs, settings.seed, linear, unigram, own)
    table = stages.shared_table("causal", scored, ["layer", "read_offset", "readout", "document"])
    found: list[dict[str, Any]] = []
    for layer, offset in cells if len(table) else ():
        of_cell = table[(table["layer"] == layer) & (table["read_offset"] == offset)]
        if of_cell.empty:
            continue
        of_cell = of_cell.reset_index(drop=True).assign(split="test", seed=settings.seed)
        of_part = DocumentSums(of_cell, setup.domains, setup.bytes_per_token, settings.seed)
        found += (row | {"best": layer == best[offset]} for row in used.rows(of_part))
    return found


def _scored(
    inputs: Inputs, seed: int, linear: Probes, unigram: Unigram, cells: Sequence[Cell]
) -> pd.DataFrame:
    if not cells:
        return pd.DataFrame()
    setup, targets = inputs.streams.setup, inputs.targets
    inputs = inputs.holding([layer for layer, _ in cells])
    documents, valid = setup.blocks["test"].documents, targets["train"].valid[1]
    where = drawn_positions(setup, max(targets["test"].valid), seed)
    decoding = Decoding.of(setup.anatomy, torch.from_numpy(unigram.probs[1]))
    tables = []
    for at in sorted({layer for layer, _ in cells}):
        layer = Layer.of(inputs.streams.read("train"), decoding, at, valid)
        next_token = layer.read_by(linear.probes[at, 1])
        rerun = Rerun(setup.loaded.model, setup.anatomy, at)
        for offset in (offset for of, offset in cells if of == at):
            held_out = inputs.part("validation")
            chosen = effects.choose(layer, next_token, offset, linear, held_out, seed)
            if chosen.rank:  # a probe that reads nothing leaves nothing to take out
                part = inputs.part("test")
                tables.append(effects.effects(chosen, rerun, *part, where, documents))
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def drawn_positions(setup: Setup, horizon: int, seed: int) -> Mask:
    """Return the test positions at which something is taken out, shape (block, pos)."""
    count = POSITIONS_ON_CPU if branches_are_slow(setup.loaded) else POSITIONS
    return draw_positions(setup.blocks["test"], setup.domains, horizon, count, seed)


def sentences(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of the first domain whether what the best layer reads of each offset is used.

    Args:
        rows: `causal` of results.json.
    """
    first = [row for row in rows if row["domain"] == rows[0]["domain"]]
    own = [row for row in first if row["scored_offset"] == row["offset"]]
    now = {(row["layer"], row["offset"]): row for row in first if row["scored_offset"] == 1}
    said = [_sentence(row, now[row["layer"], row["offset"]]) for row in own if row["best"]]
    others = [row for row in own if not row["best"]]
    return [*said, _of_others(others)] if others else said


def _of_others(rows: Sequence[Mapping[str, Any]]) -> str:
    of = f"{len(rows)} other layers and offsets"
    untold = sum(row["verdict"] == used.UNKNOWN for row in rows)
    if untold == len(rows):
        return f"Whether what is read is used cannot be told at any of {of}."
    places = [
        f"layer {row['layer']} at t+{row['offset']}" for row in rows if row["verdict"] == used.USED
    ]
    where = f"at {len(places)} ({', '.join(places)})" if places else "at none"
    where += f", and at {untold} it cannot be told" if untold else ""
    return f"Of {of}, what is read is used {where}; each verdict is right 95 times in 100."


def _sentence(row: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    layer, offset, verdict = row["layer"], f"t+{row['offset']}", row["verdict"]
    if verdict == used.NOTHING:
        return f"Layer {layer} reads nothing of {offset} that it does not read of t+1."
    what = (
        f"without what layer {layer} reads of {offset} and not of t+1 ({row['rank']} directions, "
        f"{row['probe_nats'] / math.log(2):.2f} bits)"
    )
    costs = (
        f"the model loses {_fixed(row['nats'])} nats on that token when its turn comes, "
        f"{_beyond(row)} beyond what random directions cost; on the next token, {_beyond(now)}"
    )
    heads = {
        used.USED: f"Readable and used at {offset}",
        used.UNUSED: f"Readable, not used at {offset}",
        used.UNKNOWN: f"Readable at {offset}, and whether it is used cannot be told",
    }
    return f"{heads[verdict]}: {what} {costs}."


def _beyond(row: Mapping[str, Any]) -> str:
    ends = row["beyond_nats_low"], row["beyond_nats_high"]
    span = "" if None in ends else f" [{_fixed(ends[0])}, {_fixed(ends[1])}]"
    return f"{_fixed(row['beyond_nats'])}{span}"


def _fixed(nats: float) -> str:
    return f"{round(nats, 3) + 0.0:.3f}"  # no minus before zeros
