"""Held-out loss of the built-in models, and whether the ladder is in order.

    python benchmarks/ladder.py [MODEL ...] [--max-tokens 100000]

Scores the next token on the part of the built-in text that no model was trained on, the
same documents for all, and prints nats per token by domain with 95 % intervals, then the
paired difference of each model to the next one. Models are names or folders, with the
tokenizer of the built-in ones.
"""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated

import torch
import typer

from probekit.activations import residual_stream
from probekit.data import builtin_text, separator, tokenization
from probekit.data.blocks import pack
from probekit.data.documents import BUILT_IN, Source
from probekit.data.targets import text_targets
from probekit.data.texts import open_text
from probekit.models import loading
from probekit.models.anatomy import find_anatomy
from probekit.probes import logit_lens
from probekit.scoring.rates import DocumentSums, Rate, Rates
from probekit.scoring.score import score

LADDER = ("tiny-s", "tiny-m", "tiny-l")
BLOCK = 256


def rates(name: str, max_tokens: int) -> tuple[loading.Loaded, dict[str, Rates]]:
    """Return the model's rates by domain on held-out documents."""
    loaded = loading.load(name)
    anatomy = find_anatomy(loaded.model)
    tokenizer = loaded.tokenizer
    tokenized = []
    for argument in BUILT_IN:
        documents = open_text(Source.parse(argument)).take()
        tokenized += tokenization.tokenize(documents, tokenizer, max_tokens)
    ids = [document.ids for document in tokenized]
    known = replace(separator.candidates(tokenizer)[0], scored=True)
    blocks = pack(ids, range(len(ids)), BLOCK, known)
    stream = residual_stream.stream(
        loaded.model, anatomy, blocks.token_ids, [anatomy.n_layers], batch_size=16
    )
    next_tokens = text_targets(blocks, 1)
    with torch.no_grad():
        table = score(
            [logit_lens.Model(anatomy)],
            stream,
            next_tokens,
            {"all": next_tokens.valid[1]},
            blocks.documents,
        )
    domains = [document.domain for document in tokenized]
    sums = DocumentSums(table.assign(split="held-out", seed=0), domains, [1.0] * len(domains))
    return loaded, {
        domain: sums.rates(domain, "held-out", "all") for domain in builtin_text.DOMAINS
    }


def main(
    models: Annotated[
        list[str] | None, typer.Argument(help="The smallest first; by default the ladder.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Tokens a domain.")] = 100_000,
) -> None:
    """Print the table."""
    print("| model | parameters |" + "".join(f" {d}, nats |" for d in builtin_text.DOMAINS))
    print("|---|---|" + "---|" * len(builtin_text.DOMAINS))
    nats = {}
    for name in models or (*LADDER, "tiny-mtp"):
        loaded, by_domain = rates(name, max_tokens)
        nats[name] = {domain: r.nats("model", None, 1) for domain, r in by_domain.items()}
        cells = [_shown(by_domain[domain], rate) for domain, rate in nats[name].items()]
        print(f"| {name} | {loaded.n_parameters:,} | " + " | ".join(cells) + " |")
    print("\nEach minus the next, paired over documents (above zero: the ladder is in order):\n")
    for small, large in pairwise(models or LADDER):
        gaps = [
            # The documents are the same for all models.
            f"{domain} {_shown(by_domain[domain], nats[small][domain] - nats[large][domain])}"
            for domain in builtin_text.DOMAINS
        ]
        print(f"- {small} - {large}: {', '.join(gaps)}")


def _shown(rates: Rates, rate: Rate) -> str:
    value, low, high = rates.summary(rate)
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    typer.run(main)
