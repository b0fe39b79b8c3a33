"""The tables of readout gap and late loss, and of the next token."""

from probekit.readout import MARGINAL, MARGINAL_ADAPTED
from probekit.reports.analysis.rows import OUTPUT_SITE, RunRows
from probekit.reports.analysis.tables import NO_CEILING
from probekit.reports.components.numbers import DASH, known
from probekit.reports.components.rows import Row
from probekit.reports.components.tables import Cell, Table, mark, plain, valued, word

NOT_HERE = "not computed for this model or site"
NO_ROOM = "the ceiling is not clearly 0.3 bits above the floor"
ONE_LAYER = "no layer before the last was read"
KEPT = "none: the fitted output was no better than the model's own on validation text"
# What was fitted and differs by less is what it started from.
SAME_NATS = 1e-5


def specialization_table(run: RunRows) -> Table:
    """Return best layer, late loss, and how much of the ceiling is recovered."""
    head = (
        "Offset", "Domain", "Best layer", "Depth", "Read alike", "Late loss (bits)", "After layer",
        "Floor", "Read beyond it (bits)", "Known beyond it (bits)",
        "Recovered", "Recovered, adapted ceiling", "In words",
    )  # fmt: skip
    rows = [_special(run, k, domain) for k in run.offsets for domain in run.domains]
    return Table(f"Readout gap and late loss ({run.describe(run.probe or 'no probe')})", head, rows)


def _special(run: RunRows, offset: int, domain: str) -> list[Cell]:
    row = run.special(offset, domain)
    why, adapted = _unrecovered(run, offset, domain)
    return [
        mark(offset),
        word(domain),
        plain(row, "best_layer", "not computed"),
        valued(row, "best_depth", 2, "not computed"),
        _layers(row),
        valued(row, "forgotten_bits", 3, ONE_LAYER),
        plain(row, "late_rival", ONE_LAYER),
        _floor(row),
        valued(row, "read_bits", 2, why),
        valued(row, "room_bits", 2, why),
        valued(row, "recovered", 2, why),
        valued(row, "recovered_adapted", 2, adapted),
        _verdict(row.get("verdict")),
    ]


def _layers(row: Row) -> Cell:
    layers = row.get("like_best")
    if not layers:
        return Cell(DASH, missing="too few documents for intervals", numeric=False)
    return word(", ".join(map(str, layers)))


def _floor(row: Row) -> Cell:
    """Return the name of the floor, the better readout of the current token alone."""
    if "floor" not in row:
        return Cell(DASH, missing="not computed", numeric=False)
    return word(row["floor"] if row["floor_layer"] is None else f"{row['floor']}, layer 0")


def _unrecovered(run: RunRows, offset: int, domain: str) -> tuple[str, str]:
    """Return why a recovered share may be missing, against the ceiling and the adapted one."""
    if offset == 1:
        return ("defined from t+2 on",) * 2
    if not run.has(MARGINAL):
        return (NO_CEILING,) * 2
    if not run.special(offset, domain):
        return ("not computed",) * 2
    return NO_ROOM, _unadapted(run, domain)


def _unadapted(run: RunRows, domain: str) -> str:
    if run.has(MARGINAL_ADAPTED):
        return NO_ROOM
    if run.results["model"].get("softcap") is not None or run.site != OUTPUT_SITE:
        return NOT_HERE
    gain = known(run.special(1, domain).get("adaptation_nats"))
    return "adaptation is not known" if gain is None else "adaptation is small: not needed"


def _verdict(text: object) -> Cell:
    if not text:
        return Cell(DASH, missing="not computed", numeric=False)
    return word(text, "doubt" if "cannot tell" in str(text) else "")


def next_token_table(run: RunRows) -> Table:
    """Return what only offset 1 has: where the lens saturates, and what adaptation gains."""
    head = ("Domain", "Lens reaches 95 % of final top-1 at layer", "Adaptation (nats)")
    rows = []
    for domain in run.domains:
        row = run.special(1, domain)
        saturation = plain(row, "saturation_layer", "not before the last layer, or not computed")
        why = "not computed" if run.site == OUTPUT_SITE else NOT_HERE
        gain = word(KEPT) if _kept(row) else valued(row, "adaptation_nats", 3, why)
        rows.append([word(domain), saturation, gain])
    return Table("At the next token", head, rows)


def _kept(row: Row) -> bool:
    """Whether validation kept the model's own output: what was fitted equals it."""
    ends = [known(row.get(f"adaptation_nats{end}")) for end in ("", "_low", "_high")]
    return all(end is not None and abs(end) < SAME_NATS for end in ends)
