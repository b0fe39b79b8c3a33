"""What is rendered once for all tests, and may be rendered again in another process."""

import hashlib
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

from probekit import reports
from probekit.reports.drafting.page import render_draft
from probekit.reports.heads.page import render_heads
from probekit.reports.reproduction.page import render_reproduction
from support.pages import synthetic_draft, synthetic_heads, synthetic_reproduction
from support.pages.synthetic_comparison import Ladder, document, page
from support.pages.synthetic_passages import Held, passages
from support.pages.synthetic_run import HOSTILE, Size, results

_DROPPED = ("top5", "bits", "bits_given_token", "nats")
SMALL = Size(layers=3, offsets=3)
_FEW = ("best_probe_top1", "ceiling_top1", "next_token_nats")


def of_one_metric(found: dict[str, Any]) -> dict[str, Any]:
    """Return results or a comparison whose scores have top-1 alone: few figures."""
    for row in found["scores"]:
        row.update(dict.fromkeys(_DROPPED))
    return found


def small_run() -> dict[str, Any]:
    """Return a hostile run of one metric and no ceiling: few figures, so that it is quick."""
    size = Size(
        layers=2,
        offsets=2,
        marginal=False,
        domains=(HOSTILE, "a $x^{ b \\ c"),
        families=("linear",),
    )
    return of_one_metric(results(size))


def small_comparison() -> dict[str, Any]:
    """Return a hostile comparison with a figure of each kind."""
    size = Size(layers=2, offsets=2, domains=("prose",), seeds=0, families=("linear",))
    found = of_one_metric(document(Ladder(runs=2, size=size, hostile=True)))
    found["headlines"] = [row for row in found["headlines"] if row["quantity"] in _FEW]
    return found


@cache
def figures() -> Mapping[str, bytes]:
    """Return the figures of `small_run`."""
    return reports.figure_files(small_run())


@cache
def comparison_figures() -> Mapping[str, bytes]:
    """Return the figures of `small_comparison`."""
    return reports.figure_files(small_comparison())


@cache
def heads_figures() -> Mapping[str, bytes]:
    """Return the figures of a study of heads without differences and a sweep: few of them."""
    few: dict[str, Any] = {"differences": [], "sweep": []}
    return reports.figure_files(synthetic_heads.document() | few)


@cache
def small_page() -> str:
    """Return the page of `SMALL`, three layers and offsets of three domains, without passages."""
    return reports.render(results(SMALL))


@cache
def hostile_page() -> str:
    """Return the page of a hostile run with hostile passages."""
    size = Size(layers=2, offsets=2, domains=("prose",), marginal=False, hostile=True)
    return reports.render(of_one_metric(results(size)), passages(size, Held(tokens=160, others=90)))


def digests() -> dict[str, str]:
    """Return digests of a page of each kind and of all files of figures."""
    pages = {"page": hostile_page(), "comparison": page("hostile")}
    pages["heads"] = render_heads(synthetic_heads.hostile())
    pages["draft"] = render_draft(synthetic_draft.hostile())
    pages["reproduction"] = render_reproduction(synthetic_reproduction.figure_1())
    every = {name: text.encode() for name, text in pages.items()}
    every |= {**figures(), **comparison_figures(), **heads_figures()}
    return {name: hashlib.sha256(content).hexdigest() for name, content in every.items()}


def tell() -> None:
    """Print the digests, one a line."""
    sys.stdout.writelines(f"{name} {digest}\n" for name, digest in digests().items())
