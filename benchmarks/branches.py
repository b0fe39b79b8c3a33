"""What marginalizing costs the built-in models, by size and domain, and what it gives.

    python benchmarks/branches.py [--max-tokens 20000] [--marginal-positions 500]

Reads the held-out part of the built-in text, the same documents and positions for all models.
Counts the tokens in the nucleus of the next token at every position; marginalizes offset 2 at
the drawn ones. Prints the table, and writes it into docs/marginalization.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import numpy as np
import pandas as pd
import torch
import typer
from pages import DOCS, line, put

from probekit.activations.residual_stream import stream
from probekit.data import builtin_text
from probekit.data.blocks import Blocks, pack
from probekit.data.targets import draw_positions, text_targets
from probekit.marginalization import nucleus_size
from probekit.marginalization.branch_engine import BranchEngine
from probekit.marginalization.joint_paths import Truncation
from probekit.marginalization.marginal_readout import Marginalization
from probekit.marginalization.nucleus_size import Spread
from probekit.readout import MARGINAL
from probekit.runs.setup import Setup, load_model, prepare
from probekit.scoring.rates import DocumentSums, Rates
from probekit.scoring.score import score
from probekit.settings import Settings

LADDER = ("tiny-s", "tiny-m", "tiny-l")
OFFSET = 2
HEAD = (
    "model", "domain", "tokens in the 0.99 nucleus", "entropy, nats", "mass kept by 64 branches",
    "branches kept", "top-1 at *t+2*", "top-5 at *t+2*",
)  # fmt: skip
Summary = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class Cost:
    """What the next token of one model takes on one domain, and what marginalizing it gives."""

    model: str
    spread: Spread
    mass: float
    branches: float
    rates: Rates

    @property
    def row(self) -> str:
        """One line of the table."""
        spread, rates = self.spread, self.rates
        top1, top5 = (rates.rate(name, MARGINAL, None, OFFSET) for name in ("top1", "top5"))
        return line(
            f"`{self.model}`",
            spread.domain,
            shown(spread.summary(spread.tokens), 1),
            shown(spread.summary(spread.nats), 3),
            f"{self.mass:.3f}",
            f"{self.branches:.1f}",
            shown(rates.summary(top1), 3),
            shown(rates.summary(top5), 3),
        )


def shown(summary: Summary, digits: int) -> str:
    """Return an estimate with its interval."""
    value, low, high = summary
    ends = "" if low is None else f" [{low:.{digits}f}, {high:.{digits}f}]"
    return f"{value:.{digits}f}{ends}"


@torch.no_grad()
def costs(settings: Settings) -> Iterator[Cost]:
    """Yield what each domain takes of one model: nothing is fitted, so all documents count."""
    setup = prepare(load_model(settings), settings)
    blocks = _packed(setup, settings.block)
    last = [setup.anatomy.n_layers]
    read = stream(setup.loaded.model, setup.anatomy, blocks.token_ids, last, batch_size=16)
    table = nucleus_size.count(read, setup.anatomy, blocks, settings.nucleus)
    whole: dict[str, Spread] = {}
    for spread in nucleus_size.spreads(table, setup.domains, settings.block, settings.seed):
        whole.setdefault(spread.domain, spread)  # the whole block comes before its parts
    readout, sums = _marginal(setup, blocks, settings)
    owners = np.array([*setup.domains, ""])[blocks.documents]  # -1 is nobody's
    for domain in builtin_text.DOMAINS:
        kept = pd.DataFrame(
            vars(r) for r in readout.records if owners[r.block, r.position] == domain
        )
        rates = sums.rates(domain, "held-out", "marginal")
        mass, branches = kept["retained_mass"].mean(), kept["branches"].mean()
        yield Cost(settings.model, whole[domain], mass, branches, rates)


def _packed(setup: Setup, block: int) -> Blocks:
    documents = setup.documents
    return pack(
        [document.ids for document in documents],
        range(len(documents)),
        block,
        setup.parting.separator,
        [document.whole for document in documents],
    )


def _marginal(
    setup: Setup, blocks: Blocks, settings: Settings
) -> tuple[Marginalization, DocumentSums]:
    engine = BranchEngine(setup.loaded.model)
    truncation = Truncation("nucleus", settings.nucleus, settings.max_branches)
    readout = Marginalization(engine, truncation)
    count, seed = settings.marginal_positions, settings.seed
    drawn = draw_positions(blocks, setup.domains, OFFSET, count, seed)
    read = stream(setup.loaded.model, setup.anatomy, blocks.token_ids, (), batch_size=1)
    targets = text_targets(blocks, OFFSET)
    table = score([readout], read, targets, {"marginal": drawn}, blocks.documents)
    table = table.assign(split="held-out", seed=seed)
    return readout, DocumentSums(table, setup.domains, setup.bytes_per_token, seed)


def steps(measured: dict[tuple[str, str], Cost]) -> Iterator[str]:
    """Yield the differences of neighbouring sizes, paired over documents, and what follows."""
    needs: set[str] = set()
    for domain in builtin_text.DOMAINS:
        for small, large in pairwise(LADDER):
            # The documents and positions are the same for all models.
            one, other = (measured[name, domain].spread for name in (small, large))
            tokens_added = one.summary(other.tokens - one.tokens)
            nats_added = one.summary(other.nats - one.nats)
            needs.add(judged(tokens_added, "fewer"))
            yield (
                f"- {domain}, `{large}` less `{small}`: {shown(tokens_added, 1)} tokens "
                f"({judged(tokens_added, 'fewer')}), {shown(nats_added, 3)} nats of entropy "
                f"({judged(nats_added, 'less')})"
            )
    answer = {"fewer": "Yes, at each step", "more": "No, more at each step"}
    common = needs.pop() if len(needs) == 1 else ""
    yield f"- Do larger models need fewer tokens? {answer.get(common, 'Not at each step')}."


def judged(added: Summary, below: str) -> str:
    """Say what an interval says of a difference."""
    _, low, high = added
    if low is None or high is None or low <= 0 <= high:
        return "cannot tell"
    return below if high < 0 else "more"


def main(
    max_tokens: Annotated[int, typer.Option(help="Tokens a domain.")] = 20_000,
    marginal_positions: Annotated[int, typer.Option(help="Positions a domain.")] = 500,
) -> None:
    """Print the table, and write it between the page's comments."""
    table = [line(*HEAD), line(*["---"] * len(HEAD))]
    measured: dict[tuple[str, str], Cost] = {}
    for model in (*LADDER, "tiny-mtp"):
        settings = Settings(
            model=model, max_tokens=max_tokens, marginal_positions=marginal_positions
        )
        for cost in costs(settings):
            measured[model, cost.spread.domain] = cost
            table.append(cost.row)
    counted = ", ".join(
        f"{domain} {measured[LADDER[0], domain].spread.n_positions:,} positions of "
        f"{measured[LADDER[0], domain].spread.n_documents} documents"
        for domain in builtin_text.DOMAINS
    )
    made = [*table, "", f"Tokens and entropy: {counted}.", "", "Paired over documents:", "",
            *steps(measured)]  # fmt: skip
    print("\n".join(made))
    put(DOCS / "marginalization.md", "cost", made)


if __name__ == "__main__":
    typer.run(main)
