"""The separator: what stands between documents that share a block."""

from dataclasses import dataclass
from typing import Literal

from transformers import PreTrainedTokenizerBase

from probekit.errors import SettingsError

Kind = Literal["eos", "bos", "none"]


@dataclass(frozen=True)
class Separator:
    """What stands between documents.

    Attributes:
        kind: `eos`: the end token behind a document, and BOS before the next one where the two
            differ; `bos`: BOS alone; `none`: nothing.
        bos: First token of each block, or None.
        end: Token behind each document, or None.
        scored: Whether that token is a target.
    """

    kind: Kind
    bos: int | None
    end: int | None
    scored: bool = False

    @property
    def between(self) -> list[int]:
        """Tokens between one document and the next.

        >>> Separator("eos", bos=0, end=9).between, Separator("bos", bos=0, end=0).between
        ([9, 0], [0])
        """
        begins = self.end is not None and self.bos != self.end
        return [token for token in (self.end, self.bos if begins else None) if token is not None]


def candidates(tokenizer: PreTrainedTokenizerBase) -> list[Separator]:
    """Return the separators that a tokenizer has, in order of preference, none of them scored.

    Where BOS and end are one token, that is `eos`.
    """
    bos, eos = tokenizer.bos_token_id, tokenizer.eos_token_id
    found = [] if eos is None else [Separator("eos", bos, eos)]
    if bos not in (None, eos):
        found.append(Separator("bos", bos, bos))
    return [*found, Separator("none", bos, None)]


def asked_for(kind: Kind, tokenizer: PreTrainedTokenizerBase) -> Separator:
    """Return the separator of a kind.

    Raises:
        SettingsError: If the tokenizer has no such token.
    """
    found = {separator.kind: separator for separator in candidates(tokenizer)}
    if kind == "bos" and tokenizer.bos_token_id is not None:
        return found.get("bos", found["eos"])
    if kind not in found:
        raise SettingsError(
            f"--separator {kind}: this tokenizer has no {kind} token. Ask for "
            f"{' or '.join(['auto', *found])}"
        )
    return found[kind]
