"""Chats as tokens: the tokenizer's template around all, what the assistant says a target."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import jinja2
from transformers import PreTrainedTokenizerBase

from probekit.data.blocks import TokenizedDocument, block_of
from probekit.data.documents import Document, Split, split
from probekit.data.lost_text import kept
from probekit.data.prompted.chats import ASSISTANT, Chat, Message
from probekit.data.prompted.pair_tokens import encoded
from probekit.data.tokenization import within
from probekit.errors import DataError, ModelError

Turns = Literal["assistant", "all"]
# What a template marks the assistant's words with.
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class _Rendered:
    """A chat in its template: text, tokens with their spans of characters, which are targets."""

    text: str
    ids: list[int]
    spans: list[tuple[int, int]]
    target: list[bool]

    def between(self, start: int, stop: int) -> "_Rendered":
        part = slice(start, stop)
        return _Rendered(self.text, self.ids[part], self.spans[part], self.target[part])


def tokenize(
    domain: str,
    chats: Sequence[Chat],
    tokenizer: PreTrainedTokenizerBase,
    block: int,
    max_tokens: int | None,
    turns: Turns,
) -> tuple[list[Document], list[TokenizedDocument]]:
    """Return the tokens of one domain's chats, each in a block of its own, with its split.

    A chat longer than a block is cut at its end. Bytes are those of the targets.

    Args:
        domain: Name of the text.
        chats: Its chats.
        tokenizer: A fast tokenizer with a chat template.
        block: Tokens in a block.
        max_tokens: Chats are taken in order of their hash while they fit into so many tokens.
        turns: `assistant`: what it says is target, and the end of its turn; `all`: every token.

    Returns:
        The chats in their template, without those that have no target within a block; and those
        that were taken, as tokens.

    Raises:
        ModelError: If the tokenizer has no chat template, or does not say which characters a
            token stands for.
        DataError: If the template refuses a chat, or does not tell what the assistant says; if
            no chat has a target, or too few do to split them.
    """
    if not tokenizer.chat_template:
        raise ModelError(
            f"{domain} holds chats, and the tokenizer of this model has no chat template: take "
            "the model that was trained on chats, or write each chat as one text"
        )
    room = block - block_of((), tokenizer)
    whole = [_rendered(chat, tokenizer, turns) for chat in chats]
    cut = [each.between(0, room) for each in whole]
    told = [i for i, each in enumerate(cut) if any(each.target)]
    if not told:
        raise DataError(
            f"{domain}: in none of {len(chats)} chats the assistant says anything within a block "
            f"of {block} tokens: give a --block that is longer, or --chat-turns all"
        )
    documents = [Document(domain, chats[i].name, whole[i].text) for i in told]
    sizes = [len(cut[i].ids) for i in told]
    inside = within(documents, sizes, max_tokens)
    parts = split([documents[at] for at in inside], [sizes[at] for at in inside])
    taken = [
        _document(documents[at], cut[told[at]], part, len(whole[told[at]].ids), tokenizer)
        for at, part in zip(inside, parts, strict=True)
    ]
    return documents, taken


def _rendered(chat: Chat, tokenizer: PreTrainedTokenizerBase, turns: Turns) -> _Rendered:
    text = _text(chat, chat.messages, tokenizer)
    ids, spans = encoded(text, tokenizer)
    if turns == "all":
        target = [True] * len(ids)
    elif GENERATION.search(str(tokenizer.get_chat_template())):
        marked: Any = tokenizer.apply_chat_template(
            _plain(chat.messages), return_dict=True, return_assistant_tokens_mask=True
        )
        target = [bool(each) for each in marked["assistant_masks"]]
    else:
        said = _said(chat, text, tokenizer)
        target = [any(a < stop and b > start for start, stop in said) for a, b in spans]
    found = _Rendered(text, ids, spans, target)
    # A block begins with the tokenizer's BOS; without one nothing foretells the first token.
    has_bos = ids[:1] == [tokenizer.bos_token_id]
    found = found.between(has_bos, len(ids))
    found.target[:1] = [False]
    return found


def _said(chat: Chat, text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    """Return which characters the assistant says in answer, with what ends its turns.

    A template that does not mark them tells them all the same if a chat is the beginning of
    each longer one: they are what a message adds to the prompt for it.
    """
    found = []
    for at, message in enumerate(chat.messages):
        if message["role"] == ASSISTANT and at:
            before = _text(chat, chat.messages[:at], tokenizer, prompt=True)
            after = _text(chat, chat.messages[: at + 1], tokenizer).rstrip()
            if not (text.startswith(after) and after.startswith(before)):
                raise DataError(
                    f"{chat.name}: the chat template of this model does not tell which tokens "
                    "the assistant says: it has no {% generation %}, and what it makes of a chat "
                    "is not the beginning of what it makes of a longer one. Ask for --chat-turns "
                    "all, which scores every token"
                )
            found.append((len(before), len(after)))
    return found


def _text(
    chat: Chat,
    messages: Sequence[Message],
    tokenizer: PreTrainedTokenizerBase,
    prompt: bool = False,
) -> str:
    try:
        text = tokenizer.apply_chat_template(
            _plain(messages), tokenize=False, add_generation_prompt=prompt
        )
    except (jinja2.TemplateError, TypeError, ValueError) as error:
        raise DataError(
            f"{chat.name}: the chat template of this model refuses the chat: {error}. Leave it "
            "out, or write it as one text"
        ) from error
    return str(text)


def _plain(messages: Sequence[Message]) -> list[dict[str, Any]]:
    return [dict(message) for message in messages]


def _document(
    document: Document,
    cut: _Rendered,
    part: Split,
    n_whole: int,
    tokenizer: PreTrainedTokenizerBase,
) -> TokenizedDocument:
    # Where targets begin and end, in turn.
    edges = [at for at, (a, b) in enumerate(pairwise([False, *cut.target, False])) if a != b]
    parts = []
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        said = cut.between(start, stop)
        reach = said.spans[0][0], said.spans[-1][1]
        parts.append(kept(tokenizer, cut.text, said.ids, said.spans, reach))
    return TokenizedDocument(
        document.domain,
        document.name,
        part,
        cut.ids,
        sum(each.n_bytes for each in parts),
        document.sha256,
        whole=False,  # the template has ends of its own
        prompt=edges[0],
        asides=tuple(zip(edges[1::2], [*edges[2::2], len(cut.ids)], strict=True)),
        lost="".join(each.lost for each in parts),
        n_unknown=sum(each.n_unknown for each in parts),
        n_left_out=n_whole - len(cut.ids),
    )
