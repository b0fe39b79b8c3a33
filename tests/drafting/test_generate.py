"""Drafted text: token for token that of greedy decoding, from what a readout says at each step."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.data.blocks import Blocks
from probekit.data.builtin_text import documents
from probekit.data.targets import text_targets
from probekit.drafting.drafters import Drafter, HeadDrafter, LinearDrafter, ReadoutDrafter
from probekit.drafting.generate import Drafted, generate
from probekit.errors import DataError, ModelError
from probekit.heads.heads import build as build_heads
from probekit.marginalization.branch_routes import objection
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.models.loading import load
from probekit.probes import ngram
from probekit.probes.logit_lens import LogitLens
from support.architectures import build, each
from support.drafters import OFFSETS, Pair, pairs, proposals, random_probes, said

NEW = 16
FAMILIES = each(
    ("llama", "gpt2", "gpt_neox", "qwen3", "gemma3", "mistral", "opt", "falcon", "bloom"),
    quick=("llama", "gpt2", "gpt_neox", "qwen3", "gemma3"),
)
SHAPES = (None, (3, 2, 1))


def prompt(seed: int, length: int = 14) -> Tensor:
    return torch.randint(2, 97, (1, length), generator=torch.Generator().manual_seed(seed))


def greedy(model: PreTrainedModel, ids: Tensor, **more: int) -> Tensor:
    generating: Any = model
    text: Tensor = generating.generate(ids, do_sample=False, max_new_tokens=NEW, **more)
    return text


def require_said(pair: Pair, anatomy: Anatomy, drafted: Drafted) -> None:
    """Compare what was drafted with what the readout says of the text, position by position."""
    words = said(pair.readout, anatomy, drafted.token_ids)
    for t, offset, candidates in proposals(drafted.steps):
        expected = words[offset][t].topk(len(candidates)).indices.tolist()
        assert candidates == expected, (pair.name, t, offset)


@pytest.mark.parametrize("name", FAMILIES)
def test_drafting_loses_nothing_and_says_what_the_readout_says(name: str) -> None:
    model = build(name)
    anatomy, ids = find_anatomy(model), prompt(0)  # the text grows beyond any window
    expected = greedy(model, ids)
    accepted = 0
    for pair in pairs(model):
        for widths in SHAPES if objection(model, "packed") is None else (None,):
            drafted = generate(
                model, anatomy, pair.drafter, ids, widths=widths, max_new_tokens=NEW,
                do_sample=False,
            )  # fmt: skip
            assert torch.equal(drafted.token_ids, expected), (pair.name, widths)
            require_said(pair, anatomy, drafted)
            accepted += sum(step.accepted for step in drafted.steps)
    assert accepted > NEW  # or nothing would have been tested


def test_the_steps_say_what_was_accepted(tiny_llama: PreTrainedModel) -> None:
    anatomy = find_anatomy(tiny_llama)
    drafter = ReadoutDrafter(LogitLens((2,), anatomy), OFFSETS)
    for widths in (None, (2, 2, 2)):
        drafted = generate(
            tiny_llama, anatomy, drafter, prompt(1), widths=widths, max_new_tokens=NEW,
            do_sample=False,
        )  # fmt: skip
        text, steps = drafted.token_ids[0].tolist(), drafted.steps
        assert drafted.passes == len(steps)
        # A pass gives one token more than it accepts, and begins where the one before ended.
        assert sum(step.accepted + 1 for step in steps) == NEW
        places = [step.position + step.accepted + 1 for step in steps]
        assert places == [*(step.position for step in steps[1:]), len(text) - 1]
        for step in steps:
            hits = [
                text[step.position + k] in candidates
                for k, candidates in enumerate(step.drafted, start=1)
            ]
            assert hits[: step.accepted] == [True] * step.accepted
            assert not any(hits[step.accepted : step.accepted + 1])


def test_the_end_token_ends_the_text_though_it_is_never_drafted(
    tiny_llama: PreTrainedModel,
) -> None:
    anatomy, ids = find_anatomy(tiny_llama), prompt(3)
    text = greedy(tiny_llama, ids)[0, ids.shape[1] :].tolist()
    end = text[-1]
    expected = greedy(tiny_llama, ids, eos_token_id=end)
    assert expected.shape[1] == ids.shape[1] + text.index(end) + 1 > ids.shape[1] + 4
    drafter = ReadoutDrafter(LogitLens((3,), anatomy), OFFSETS)
    for widths in (None, (3, 2, 1)):
        drafted = generate(
            tiny_llama, anatomy, drafter, ids, widths=widths, max_new_tokens=NEW,
            do_sample=False, eos_token_id=end,
        )  # fmt: skip
        assert torch.equal(drafted.token_ids, expected)
        assert all(end not in found for _, _, found in proposals(drafted.steps))


def test_a_readout_of_tokens_can_be_told_the_newest(tiny_llama: PreTrainedModel) -> None:
    text = torch.arange(80).view(4, 20) % 9
    blocks = Blocks(text, torch.zeros_like(text))
    targets = text_targets(blocks, 3)
    _, bigram = ngram.fit((text, targets), (text, targets), 97)
    anatomy = find_anatomy(tiny_llama)
    drafted = generate(
        tiny_llama, anatomy, ReadoutDrafter(bigram, OFFSETS, ahead=1), prompt(0) % 9,
        max_new_tokens=NEW, do_sample=False,
    )  # fmt: skip
    ids = drafted.token_ids[0].tolist()
    found = list(proposals(drafted.steps))
    # These texts count up: of a token among 0 … 8 the one k - 1 later is k - 1 more.
    known = [(t, k, c) for t, k, c in found if ids[t + 1] < 9 and (ids[t + 1] + k - 1) % 9]
    assert known
    assert all(c == [(ids[t + 1] + k - 1) % 9] for t, k, c in known)


def test_transformers_own_candidates_are_noted_alike(tiny_llama: PreTrainedModel) -> None:
    anatomy, ids = find_anatomy(tiny_llama), prompt(0)
    drafted = generate(
        tiny_llama, anatomy, None, ids, max_new_tokens=NEW, do_sample=False,
        prompt_lookup_num_tokens=3,
    )  # fmt: skip
    assert torch.equal(drafted.token_ids, greedy(tiny_llama, ids))
    assert sum(step.accepted + 1 for step in drafted.steps) == NEW


def refused(model: PreTrainedModel, drafter: Drafter, widths: Sequence[int] | None = None) -> str:
    with pytest.raises(ModelError) as error:
        generate(model, find_anatomy(model), drafter, prompt(0), widths=widths, max_new_tokens=4)
    return str(error.value)


def test_a_model_that_takes_no_mask_of_ours_is_refused_trees() -> None:
    model = build("bloom")
    anatomy = find_anatomy(model)
    message = refused(model, ReadoutDrafter(LogitLens((2,), anatomy), OFFSETS), (2,))
    assert message.startswith("BloomForCausalLM can verify one candidate a position only")


def test_a_model_without_keys_and_values_is_refused() -> None:
    model = build("mamba")
    anatomy = find_anatomy(model)
    message = refused(model, ReadoutDrafter(LogitLens((2,), anatomy), OFFSETS))
    assert message.startswith("MambaForCausalLM cannot take back a rejected draft")


def test_bad_drafts_are_refused(tiny_llama: PreTrainedModel) -> None:
    anatomy = find_anatomy(tiny_llama)
    probes = random_probes(anatomy, {2: 1, 4: 2})
    with pytest.raises(DataError, match=r"without a gap, got \[2, 4\]"):
        LinearDrafter.of(probes, {2: 1, 4: 2})
    with pytest.raises(DataError, match=r"without a gap, got \[3\]"):
        HeadDrafter(build_heads("medusa", anatomy, (1, 3)))
    drafter = ReadoutDrafter(LogitLens((2,), anatomy), OFFSETS)
    for widths in ([], [2, 0], [1] * 4):
        with pytest.raises(DataError, match="a tree has 1 to 3 numbers of candidates"):
            generate(tiny_llama, anatomy, drafter, prompt(0), widths=widths, max_new_tokens=2)
    with pytest.raises(DataError, match="one prompt at a time"):
        generate(tiny_llama, anatomy, drafter, prompt(0).expand(2, -1), max_new_tokens=2)


@pytest.mark.parametrize(("count", "every"), [(1, 1), pytest.param(100, 8, marks=pytest.mark.slow)])
def test_prompts_of_the_built_in_text_lose_nothing(count: int, every: int) -> None:
    # Of many prompts each drafter gets one of `every`, in all shapes in turn.
    loaded = load("tiny-s", device="cpu")
    texts = [*documents("prose", "held-out").values(), *documents("code", "held-out").values()]
    drafters = list(pairs(loaded.model))
    anatomy = find_anatomy(loaded.model)
    for number in range(count):
        found = texts[number % len(texts)]
        start = 40 * (number // len(texts))
        ids = torch.tensor([loaded.tokenizer(found)["input_ids"][start : start + 48]])
        expected = greedy(loaded.model, ids)
        for turn, pair in enumerate(drafters):
            if (number + turn) % every:
                continue
            drafted = generate(
                loaded.model, anatomy, pair.drafter, ids, max_new_tokens=NEW, do_sample=False,
                widths=SHAPES[(number // every + turn) % len(SHAPES)],
            )  # fmt: skip
            assert torch.equal(drafted.token_ids, expected), (number, pair.name)
            require_said(pair, anatomy, drafted)
