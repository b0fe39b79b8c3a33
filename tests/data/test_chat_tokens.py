"""Chats as tokens: the template's words are context, what the assistant says a target."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from probekit.data.documents import Source
from probekit.data.prompted import chat_tokens
from probekit.data.prompted.chats import Chat
from probekit.data.texts import Chats, open_text
from probekit.errors import DataError, ModelError
from probekit.runs.metadata import with_places
from probekit.runs.setup import load_model, prepare
from probekit.settings import Settings
from support import tiny_run
from support.json_lines import jsonl

# Each says its role, what it says, and END, which the assistant alone says too.
PLAIN = (
    "{% for m in messages %}{{ 'w50 ' if m.role == 'user' else 'w51 ' }}{{ m.content }} w52 "
    "{% endfor %}{% if add_generation_prompt %}w51 {% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ 'w50 ' if m.role == 'user' else 'w51 ' }}{% if m.role == 'user' %}"
    "{{ m.content + ' w52 ' }}{% else %}{% generation %}{{ m.content + ' w52' }}{% endgeneration %}"
    "{{ ' ' }}{% endif %}{% endfor %}"
)
# What is behind the last message alone, so that no chat is the beginning of a longer one.
AT_THE_END = PLAIN + "w53"


def tokenizer(template: str | None = PLAIN) -> Any:
    words = tiny_run.tokenizer()
    words.chat_template = template
    return words


def chat(number: int, *said: str) -> Chat:
    roles = ("user", "assistant") * len(said)
    messages = tuple({"role": r, "content": text} for r, text in zip(roles, said, strict=False))
    return Chat(f"line {number}", messages)


def tokenized(words: Any, turns: Any = "assistant", block: int = 64) -> Any:
    chats = [chat(n, f"w{n} w1", "w2 w3", "w4", f"w5 w{n + 6}") for n in range(9)]
    return chat_tokens.tokenize("d", chats, words, block, None, turns)[1]


@pytest.mark.parametrize("template", [PLAIN, MARKED], ids=["plain", "marked"])
def test_what_the_assistant_says_is_target_and_all_else_context(template: str) -> None:
    words = tokenizer(template)
    for number, each in enumerate(tokenized(words)):
        said = [words.decode(each.ids[span.start : span.stop]) for span in each.targets]
        assert said == ["w2 w3 w52", f"w5 w{number + 6} w52"]
        assert words.decode(each.ids[: each.prompt]) == f"w50 w{number} w1 w52 w51"
        assert each.n_bytes == sum(map(len, said))
        assert (each.n_targets, each.whole) == (6, False)


def test_all_turns_are_targets_where_that_is_asked_for() -> None:
    for template in (PLAIN, AT_THE_END):
        for each in tokenized(tokenizer(template), "all"):
            assert each.targets == [range(1, len(each.ids))]


def test_a_template_that_does_not_tell_who_speaks_is_refused_with_the_way_out() -> None:
    with pytest.raises(DataError, match=r"line 0: .* no {% generation %}.* --chat-turns all"):
        tokenized(tokenizer(AT_THE_END))
    with pytest.raises(DataError, match=r"line 0: .* refuses the chat: no talk"):
        tokenized(tokenizer("{{ raise_exception('no talk') }}"))
    with pytest.raises(ModelError, match=r"d holds chats, and the tokenizer .* no chat template"):
        tokenized(tokenizer(None))


def test_a_chat_is_cut_at_the_end_of_its_block_and_left_out_where_nothing_is_said_before() -> None:
    words = tokenizer()
    assert {len(each.ids) for each in tokenized(words)} == {15}
    cut = tokenized(words, block=14)  # BOS and end
    assert {(len(each.ids), each.n_left_out, each.n_targets) for each in cut} == {(12, 3, 3)}
    with pytest.raises(DataError, match=r"none of 9 chats .* block of 7 tokens: .*--block"):
        tokenized(words, block=7)


def test_a_bos_of_the_template_is_not_doubled() -> None:
    words = tokenizer("<s> " + PLAIN)
    assert {each.ids[0] == tiny_run.BOS for each in tokenized(words)} == {False}
    assert {each.prompt for each in tokenized(words)} == {5}


def test_rows_of_messages_are_chats_whatever_they_call_who_speaks(tmp_path: Path) -> None:
    said = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]
    rows: tuple[dict[str, Any], ...] = (
        {"conversations": said},
        {"conversations": []},
        {"conversations": None},
    )
    opened = open_text(Source("d", str(jsonl(tmp_path / "a.jsonl", *rows))))
    assert isinstance(opened, Chats)
    assert opened.take() == [chat(1, "Hi", "Ho")]


def test_what_is_predicted_of_chats_is_what_the_assistant_says_turn_by_turn(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    said = [(f"w{n}", "w2 w3 w4", "w5", f"w6 w{n}") for n in range(30)]
    rows = [{"messages": list(chat(0, *each).messages)} for each in said]
    settings = Settings.from_mapping({**asked, "text": (str(jsonl(tmp_path / "a.jsonl", *rows)),)})
    setup = prepare(replace(load_model(settings), tokenizer=tokenizer()), settings)
    (warning,), numbers = setup.warnings, [d.ids[1] for d in setup.documents]
    assert (
        "450 tokens of 30 chats in the tokenizer's template 210, what the assistant says"
        in (warning["message"])
    )
    for part, blocks in setup.blocks.items():
        own = [n for n, d in zip(numbers, setup.documents, strict=True) if d.split == part]
        for offset in (1, 2):
            turns = [([5, 6, 7, 55][offset - 1 :], [9, n, 55][offset - 1 :]) for n in own]
            found = blocks.targets(offset)[blocks.valid(offset)].tolist()
            assert found == [token for both in turns for turn in both for token in turn]
    block, position = setup.blocks["test"].valid(2).nonzero(as_tuple=True)
    places = with_places(pd.DataFrame({"block": block, "position": position}), setup)
    assert places["token"].tolist()[:5] == [3, 4, 5, 11, 12]
