"""Which separator does the model know? Measured on documents of the run's own text.

A model that was trained on documents parted by BOS alone is disturbed by an end token that it
never saw, and cannot foresee it. So the same pieces of documents are laid out with each separator
that the tokenizer has, and the model says what their tokens, and the separator, cost it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from probekit.checks import Check
from probekit.data.blocks import OUTSIDE, Blocks, TokenizedDocument
from probekit.data.separator import Kind, Separator, asked_for, candidates
from probekit.errors import NumericalError
from probekit.models.loading import Loaded
from probekit.settings import RunSettings

# Pieces of a block, of whose tokens so many in all are read with each separator.
PIECES, TOKENS = 4, 1024
# Ends of whole documents at which a separator is predicted, and tokens before it.
ENDS, CONTEXT = 32, 64
# Nats a token that no number of a report shows, and standard errors that are noise.
MARGIN, NOISE = 0.01, 2.0
# Logits, as float32, of one forward pass.
LOGITS = 2**26


@dataclass(frozen=True)
class Choice:
    """The separator of a run, and why.

    Attributes:
        separator: What was chosen.
        asked: What the settings ask for: a kind, or `auto`.
        nats: By kind, nats a token of the pieces when so parted; empty if all have a prompt.
        alone: Nats a token of the same pieces, each by itself.
        n_tokens: Tokens of the pieces.
        allowed: Nats a token that the chosen one may cost above the best.
        end_nats: Mean nats of the separator behind a document, NaN if no document ends whole.
        guess: Nats of a guess: the logarithm of the size of the vocabulary.
    """

    separator: Separator
    asked: str
    nats: dict[Kind, float]
    alone: float
    n_tokens: int
    allowed: float
    end_nats: float
    guess: float

    @property
    def check(self) -> Check:
        """The choice as a check: nats a token that the separator costs above the best one."""
        kind = self.separator.kind
        above = self.nats[kind] - min(self.nats.values()) if self.nats else 0.0
        passed = above <= self.allowed
        advice = "" if passed else f" Ask for --separator auto instead of {kind}."
        return Check("separator", passed, above, self.allowed, self._words() + advice)

    def _words(self) -> str:
        kind = self.separator.kind
        words = [f"Documents are parted by {_NAMES[kind]} (--separator {self.asked})."]
        if self.nats:
            costs = ", ".join(f"{_NAMES[k]} {nats:.3f}" for k, nats in self.nats.items())
            packing = self.nats[kind] - self.alone
            words.append(
                f"{self.n_tokens:,} tokens of documents cost the model, in nats a token: {costs}; "
                f"each document by itself {self.alone:.3f}, so sharing a block costs {packing:.3f}."
            )
        if kind != "none" and not math.isnan(self.end_nats):
            is_target = "a target" if self.separator.scored else "no target"
            words.append(
                f"Behind a document it costs {self.end_nats:.1f} nats, a guess "
                f"{self.guess:.1f}: it is {is_target}."
            )
        return " ".join(words)


_NAMES = {"eos": "the end token (eos)", "bos": "BOS", "none": "nothing"}


def choose(
    loaded: Loaded, documents: Sequence[TokenizedDocument], settings: RunSettings, block: int
) -> Choice:
    """Choose what stands between documents, by what it costs the model on training text.

    The separator with which the tokens of documents cost least is taken, or the first of eos, BOS
    and none that is not above it by more than two standard errors, paired over documents, or 0.01
    nats. It is a target only if the model foresees it better than a guess.

    Args:
        loaded: Model and tokenizer.
        documents: Documents of all splits; those of the training part are read.
        settings: What is asked for.
        block: Tokens in a block.

    Raises:
        SettingsError: If the tokenizer has no such token as is asked for.
    """
    model, asked, tokenizer = loaded.model, settings.separator, loaded.tokenizer
    found = candidates(tokenizer)
    chosen = found[0] if asked == "auto" else asked_for(asked, tokenizer)
    train = _in_turn([document for document in documents if document.split == "train"])
    pieces, a_row = _pieces(train, block)
    n = torch.tensor([len(piece) - 1.0 for piece in pieces], dtype=torch.float64)
    sums = {s.kind: _nats(model, _rows(pieces, a_row, s), len(pieces)) for s in found if pieces}
    nats = {kind: float(each.sum() / n.sum()) for kind, each in sums.items()}
    allowed = {
        kind: _allowed(sums[kind] - sums[min(nats, key=nats.__getitem__)], n) for kind in nats
    }
    if asked == "auto" and nats:
        chosen = next(s for s in found if nats[s.kind] - min(nats.values()) <= allowed[s.kind])
    alone = _nats(model, _rows(pieces, 1, chosen), len(pieces)) if pieces else n
    cost = _end_nats(model, train, chosen, block)
    guess = math.log(model.config.get_text_config().vocab_size)
    return Choice(
        separator=replace(chosen, scored=cost <= guess),
        asked=asked,
        nats=nats,
        alone=float(alone.sum() / n.sum()),
        n_tokens=int(n.sum()),
        allowed=allowed.get(chosen.kind, MARGIN),
        end_nats=cost,
        guess=guess,
    )


def _in_turn(documents: Sequence[TokenizedDocument]) -> list[TokenizedDocument]:
    """Return documents by their hash, those of one text in turn with those of others."""
    texts: dict[str, list[TokenizedDocument]] = {}
    for document in sorted(documents, key=lambda document: document.sha256):
        texts.setdefault(document.domain, []).append(document)
    turns = zip_longest(*texts.values())
    return [document for turn in turns for document in turn if document is not None]


def _pieces(documents: Sequence[TokenizedDocument], block: int) -> tuple[list[list[int]], int]:
    """Return the beginnings of documents that share blocks, and how many go into a block."""
    a_row = max(1, min(PIECES, (block - 1) // PIECES))
    length = max(2, (block - 1) // a_row - 2)
    ids = [d.ids[:length] for d in documents if not d.prompt and len(d.ids) > 1]
    return ids[: -(-TOKENS // length)], a_row


def _rows(pieces: Sequence[list[int]], a_row: int, separator: Separator) -> Blocks:
    """Return blocks of so many pieces each, the separator between them."""
    rows, owners = [], []
    for start in range(0, len(pieces), a_row):
        row = [] if separator.bos is None else [separator.bos]
        owner = [OUTSIDE] * len(row)
        for number, piece in enumerate(pieces[start : start + a_row], start):
            between = separator.between if number > start else []
            row += between + piece
            owner += [OUTSIDE] * len(between) + [number] * len(piece)
        rows.append(torch.tensor(row))
        owners.append(torch.tensor(owner))
    # Attention is causal: what a row is filled up with changes nothing before it.
    return Blocks(pad_sequence(rows, True), pad_sequence(owners, True, OUTSIDE))


def _end_nats(
    model: PreTrainedModel, documents: Sequence[TokenizedDocument], separator: Separator, block: int
) -> float:
    """Return the mean nats of the separator where whole documents end; NaN if none does."""
    whole = [document for document in documents if document.whole and document.ids][:ENDS]
    if separator.end is None or not whole:
        return math.nan
    length = min(CONTEXT, block - 2)
    ids = [document.ids if document.prompt else document.ids[-length:] for document in whole]
    blocks = _rows([[*each, separator.end] for each in ids], 1, separator)
    behind = blocks.documents.clone()
    # Its last token and the separator alone keep the document's number.
    behind[:, :-2][blocks.documents[:, 2:] != OUTSIDE] = OUTSIDE
    return float(_nats(model, Blocks(blocks.token_ids, behind), len(ids)).mean())


@torch.no_grad()
def _nats(model: PreTrainedModel, blocks: Blocks, count: int) -> Float[Tensor, " document"]:
    """Return what the model's targets at offset 1 cost it, summed by document."""
    sums = torch.zeros(count, dtype=torch.float64)
    rows, length = blocks.token_ids.shape
    valid, targets = blocks.valid(1), blocks.targets(1)
    step = max(1, LOGITS // (length * model.config.get_text_config().vocab_size))
    for part in (slice(start, start + step) for start in range(0, rows, step)):
        token_ids, here = blocks.token_ids[part].to(model.device), valid[part]
        logits = model(token_ids, use_cache=False).logits[here.to(model.device)].float()
        nats = cross_entropy(logits.cpu(), targets[part][here], reduction="none")
        sums.index_add_(0, blocks.documents[part][here], nats.double())
    if not bool(torch.isfinite(sums).all()):
        dtype = str(model.dtype).removeprefix("torch.")
        raise NumericalError(
            f"{type(model).__name__} in {dtype} gives this text logits that are not finite, or its "
            "tokens no chance at all; load it with --dtype float32. If that is no better, its "
            "weights or its configuration are broken"
        )
    return sums


def _allowed(above: Float[Tensor, " document"], n: Float[Tensor, " document"]) -> float:
    """Return up to which difference in nats a token two separators are not told apart."""
    residual = above - n * above.sum() / n.sum()
    spread = residual.square().sum().sqrt() / n.sum() * math.sqrt(len(n) / max(len(n) - 1, 1))
    return max(MARGIN, NOISE * float(spread))
