"""What a tokenizer loses: characters that no token stands for, and tokens that stand for none.

A tokenizer without an unknown token drops what it does not know, another one makes it `<unk>`.
Either way no readout predicts those characters, and bits per byte do not count their bytes (an
unknown token is a target like any other: what it costs is counted).

A character is lost if no token but the unknown one stands for it. One that a normalizer changes,
by lower-casing or NFKC, is not lost: a token stands for what it became. Nor is one of which a
token holds some bytes. White space is lost only where it makes no difference to the tokens: one
that parts words is told by where they end.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerBase

from probekit.checks import Check
from probekit.data.blocks import TokenizedDocument
from probekit.errors import DataError

# Above this share of bytes or tokens a reader is warned: a page of text has a few such characters.
LITTLE = 0.001
# Lost characters that a warning names.
NAMED = 5

Span = tuple[int, int]


@dataclass(frozen=True)
class Kept:
    """What the tokens of a stretch of text stand for.

    Attributes:
        n_bytes: UTF-8 bytes of the characters that tokens stand for, white space between included.
        lost: The characters that are lost, in order.
        n_unknown: Tokens that are the unknown one.
    """

    n_bytes: int
    lost: str
    n_unknown: int

    def share(self, share: float) -> "Kept":
        """Return as much of all of it."""
        lost = self.lost[: round(share * len(self.lost))]
        return Kept(round(share * self.n_bytes), lost, round(share * self.n_unknown))


class Losses:
    """What a tokenizer loses of documents; it remembers which characters are unknown."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Remember nothing yet."""
        self.tokenizer = tokenizer
        self._strange: dict[str, str] = {}
        # BPE without an unknown token drops characters and counts spans on as if they were none.
        model = tokenizer.backend_tokenizer.model if tokenizer.is_fast else None
        self._spans_hold = model is not None and not (
            isinstance(model, BPE) and model.unk_token is None
        )

    def kept(
        self, text: str, ids: Sequence[int], spans: Sequence[Span] | None, tokens: range
    ) -> Kept:
        """Return what some tokens in a row of a document stand for.

        Args:
            text: The document.
            ids: All of its tokens.
            spans: First character of each token, and the one behind its last; None of a slow
                tokenizer. Where that is, or drops characters, so is not known, it is the tokens'
                share of what all of them stand for.
            tokens: Which tokens.
        """
        strange = set() if spans and self._spans_hold else self._unknown_in(text, ids)
        if spans is None or strange:
            return self._of_all(text, ids, strange).share(len(tokens) / max(len(ids), 1))
        first = spans[tokens.start][0] if tokens.start else 0
        last = spans[tokens.stop][0] if tokens.stop < len(ids) else len(text)
        inside = slice(tokens.start, tokens.stop)
        return kept(self.tokenizer, text, ids[inside], spans[inside], (first, last))

    def _of_all(self, text: str, ids: Sequence[int], strange: set[str]) -> Kept:
        """Return what all tokens stand for: without unknown characters that do not come back."""
        known = [index for index in ids if index != self.tokenizer.unk_token_id]
        back, lost = Counter(self.tokenizer.decode(known)), ""
        for character in (each for each in text if each in strange):
            back[character] -= not character.isspace()
            lost += character * (character.isspace() or back[character] < 0)
        n_bytes = len(text.encode()) - len(lost.encode())
        return Kept(n_bytes, lost, len(ids) - len(known))

    def _unknown_in(self, text: str, ids: Sequence[int]) -> set[str]:
        """Return the characters of a text that the tokenizer does not know by themselves."""
        for each in set(text) - self._strange.keys():
            once, twice = _encoded(self.tokenizer, each), _encoded(self.tokenizer, each * 2)
            # A mark of where words begin may stand before it, whether it is dropped or not.
            unknown = self.tokenizer.unk_token_id in once
            self._strange[each] = "unknown" if unknown else "dropped" if once == twice else ""
        strange = {each for each in set(text) if self._strange[each]}
        white = {each for each in strange if each.isspace() and self._strange[each] == "dropped"}
        if not white:
            return strange
        gaps = {at for at, each in enumerate(text) if each in white}
        tells = _tells(self.tokenizer, text, ids, (0, len(text)), gaps)
        return strange - white if tells else strange


def kept(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    ids: Sequence[int],
    spans: Sequence[Span],
    reach: Span,
) -> Kept:
    """Return what tokens in a row stand for, by the characters that each of them has.

    Args:
        tokenizer: A fast tokenizer.
        text: The text.
        ids: The tokens.
        spans: First character of each token, and the one behind its last.
        reach: First character of the text that they stand for, and the one behind the last.
    """
    unknown = _unknown(tokenizer, text, ids, spans)
    known = [span for span, no in zip(spans, unknown, strict=True) if not no]
    first, last = reach
    gaps = _outside(known, reach)
    white = {at for at in gaps & _outside(spans, reach) if text[at].isspace()}
    if white and _tells(tokenizer, text, ids, reach, white):
        gaps -= white
    lost = "".join(text[at] for at in sorted(gaps))
    n_bytes = len(text[first:last].encode()) - len(lost.encode())
    return Kept(n_bytes, lost, sum(unknown))


def _outside(spans: Sequence[Span], reach: Span) -> set[int]:
    """Return the characters within reach that no span has."""
    ends = np.array([*spans, (reach[1], reach[1])])
    changes = np.zeros(ends.max() + 1, dtype=np.int64)
    np.add.at(changes, ends[:, 0], 1)
    np.add.at(changes, ends[:, 1], -1)
    return set((reach[0] + np.flatnonzero(changes.cumsum()[slice(*reach)] == 0)).tolist())


def _unknown(
    tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int], spans: Sequence[Span]
) -> list[bool]:
    """Return which tokens are the unknown one, and not written so in the text."""
    backend = tokenizer.backend_tokenizer
    name = tokenizer.unk_token or getattr(backend.model, "unk_token", None)
    index = None if name is None else backend.token_to_id(name)
    return [
        each == index and text[start:stop].strip() != name
        for each, (start, stop) in zip(ids, spans, strict=True)
    ]


def _tells(
    tokenizer: PreTrainedTokenizerBase, text: str, ids: Sequence[int], reach: Span, white: set[int]
) -> bool:
    """Return whether the tokens would be others without white space that none of them has."""
    without = "".join(text[at] for at in range(*reach) if at not in white)
    return _encoded(tokenizer, without) != list(ids)


def _encoded(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    return ids


@dataclass(frozen=True)
class Shares:
    """What a tokenizer loses of one text.

    Attributes:
        domain: Name of the text.
        lost: Share of the text's bytes that no token stands for.
        unknown: Share of its tokens that are the unknown one.
        most: The characters that are lost most often.
    """

    domain: str
    lost: float
    unknown: float
    most: Sequence[str]

    @classmethod
    def of(cls, documents: Sequence[TokenizedDocument]) -> "Shares":
        """Return what is lost of the documents of one text; of pairs, of their targets.

        Raises:
            DataError: If all of it is lost.
        """
        domain, lost = documents[0].domain, "".join(document.lost for document in documents)
        n_kept = sum(document.n_bytes for document in documents)
        if n_kept == 0:
            raise DataError(
                f"the tokenizer knows no character of the text of {domain!r}: are text and "
                "tokenizer of one language?"
            )
        n_lost, n_tokens = len(lost.encode()), sum(document.n_targets for document in documents)
        n_unknown = sum(document.n_unknown for document in documents)
        most = [character for character, _ in Counter(lost).most_common(NAMED)]
        return cls(domain, n_lost / (n_kept + n_lost), n_unknown / max(n_tokens, 1), most)

    @property
    def check(self) -> Check:
        """That it is little, as a check: the larger of the two shares."""
        measured = max(self.lost, self.unknown)
        message = (
            f"{self.domain}: the tokenizer loses {self.lost:.2%} of the bytes of this text, and "
            f"{self.unknown:.2%} of its tokens are unknown ones."
        )
        if measured > LITTLE:
            message += (
                f" Lost most often: {', '.join(map(repr, self.most))}. Nothing that is lost is "
                "predicted, and bits per byte count the bytes that tokens stand for alone. Give "
                "text that the tokenizer knows, and compare models that lose the same of it."
            )
        return Check("lost text", measured <= LITTLE, measured, LITTLE, message)


def checks(documents: Sequence[TokenizedDocument]) -> list[Check]:
    """Return the check of each text that documents come from."""
    by_domain: dict[str, list[TokenizedDocument]] = {}
    for document in documents:
        by_domain.setdefault(document.domain, []).append(document)
    return [Shares.of(of_domain).check for of_domain in by_domain.values()]
