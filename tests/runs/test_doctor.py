"""Every check passes on a sound model and fails on the fault that it is there for."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from probekit.checks import Check
from probekit.errors import DataError
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.models.loading import Loaded, load
from probekit.runs import doctor
from probekit.runs.doctor import check_model, lines
from support.architectures import CONFIGS, VOCABULARY, build

IDS = torch.randint(0, VOCABULARY, (5, 70), generator=torch.Generator().manual_seed(0))
TEXT = """Return the number of items in a container. The argument may be a sequence, such as a
string, tuple or list, or a collection, such as a dictionary or set. If the object is not found,
an error is raised. The default value is used when no argument is given. """


def loaded(model: PreTrainedModel) -> Loaded:
    words = {f"t{index}": index for index in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="t0"))
    )
    return Loaded(model, tokenizer, "test", "python")


def outcome(model: PreTrainedModel, anatomy: Anatomy | None = None) -> dict[str, Check]:
    checks = check_model(loaded(model), anatomy or find_anatomy(model), IDS)
    return {check.name: check for check in checks}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_random_model_passes_everything_but_training(name: str) -> None:
    found = outcome(build(name))
    assert [check.name for check in found.values() if not check.passed] == ["training"]
    assert "untrained" in found["training"].message
    assert len(found) == 7


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_trained_model_passes_everything(dtype: str) -> None:
    model = load("tiny", dtype=dtype)
    token_ids = torch.tensor([model.tokenizer(TEXT * 2, add_special_tokens=False)["input_ids"]])
    checks = check_model(model, find_anatomy(model.model), token_ids)
    assert all(check.passed for check in checks), lines(checks)


def test_taking_the_normed_hidden_state_for_the_last_layer_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def normed(model: PreTrainedModel, _: Any, token_ids: Tensor, __: int) -> dict[int, Tensor]:
        with torch.no_grad():
            states = model(token_ids, output_hidden_states=True).hidden_states
        return dict(enumerate(states))

    monkeypatch.setattr(doctor, "_capture", normed)
    decoding = outcome(build("llama"))["decoding"]
    assert not decoding.passed
    assert decoding.measured > 100 * decoding.allowed


@pytest.mark.parametrize(
    ("name", "forgotten"), [("gemma2", {"softcap": None}), ("granite", {"scale": 1.0})]
)
def test_a_forgotten_step_after_the_unembedding_is_seen(
    name: str, forgotten: dict[str, Any]
) -> None:
    model = build(name)
    failed = outcome(model, replace(find_anatomy(model), **forgotten))
    assert not failed["decoding"].passed
    assert failed["layers"].passed


def test_layers_in_the_wrong_order_are_seen() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    first, second, third = anatomy.blocks
    wrong = replace(anatomy, blocks=(second, first, third))
    assert not outcome(model, wrong)["layers"].passed


def test_activations_that_depend_on_the_batch_size_are_seen() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    anatomy.blocks[1].register_forward_hook(lambda _, __, output: output + 0.1 * len(output))
    batching = outcome(model, anatomy)["batching"]
    assert not batching.passed
    assert "--dtype float32" in batching.message


def test_later_tokens_that_change_earlier_states_far_away_are_seen() -> None:
    """The eight tokens by which a model is understood do not reach so far."""
    model = build("llama")

    def leak(_: Any, __: Any, output: Tensor) -> Tensor:
        ahead = torch.zeros_like(output)
        ahead[:, :-12] = output[:, 12:]
        return output + 1e-3 * ahead

    find_anatomy(model).blocks[1].register_forward_hook(leak)
    failed = {name for name, check in outcome(model).items() if not check.passed}
    assert failed == {"causality", "training"}
    assert "as in an encoder" in outcome(model)["causality"].message


def test_states_that_are_all_zero_differ_from_none_by_nothing() -> None:
    model = build("llama")
    with torch.no_grad():
        model.model.embed_tokens.weight.zero_()  # the unembedding's too
    assert {name for name, check in outcome(model).items() if not check.passed} == {"training"}


def test_a_model_without_hidden_states_of_its_own_is_checked_by_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = doctor._reference
    monkeypatch.setattr(
        doctor, "_reference", lambda *given: replace(made(*given), hidden_states=None)
    )
    layers = outcome(build("llama"))["layers"]
    assert layers.passed
    assert "gives no hidden states" in layers.message


def test_a_hook_left_behind_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(capture: Callable[..., Any]) -> Callable[..., Any]:
        def run(model: PreTrainedModel, *args: Any) -> Any:
            model.register_forward_hook(lambda *_: None)
            return capture(model, *args)

        return run

    monkeypatch.setattr(doctor, "_capture", careless(doctor._capture))
    assert outcome(build("llama"))["hooks"].measured == 3


def test_activations_that_are_not_finite_are_the_one_thing_said() -> None:
    model = build("llama")
    anatomy = find_anatomy(model)
    anatomy.blocks[1].register_forward_hook(lambda _, __, output: output * float("inf"))
    (check,) = check_model(loaded(model), anatomy, IDS)
    assert not check.passed
    assert "layer 2" in check.message


def test_one_token_is_too_few() -> None:
    model = build("llama")
    with pytest.raises(DataError, match="takes 2 tokens or more"):
        check_model(loaded(model), find_anatomy(model), IDS[:, :1])


def test_the_table_shows_what_failed() -> None:
    table = lines([Check("decoding", False, 21.5, 1e-4, "Soft-cap forgotten.")])
    assert table[1].split() == ["FAILED", "decoding", "21.5", "0.0001", "Soft-cap", "forgotten."]


def test_only_positions_that_are_text_tell_whether_a_model_is_trained() -> None:
    model = build("llama")
    valid = torch.zeros_like(IDS, dtype=torch.bool)
    valid[0, 3] = True
    with torch.no_grad():
        logits = model(IDS[:, :64]).logits
    expected = -float(logits[0, 3].log_softmax(dim=-1)[IDS[0, 4]])
    checks = {
        check.name: check for check in check_model(loaded(model), find_anatomy(model), IDS, valid)
    }
    assert checks["training"].measured == pytest.approx(expected, rel=1e-5)


def test_on_text_that_was_not_given_no_model_fails_for_the_text() -> None:
    of_text = Check("training", False, 6.1, 5.6, "Hardly.")
    own = Check("hooks", False, 1.0, 0.0, "One was left behind.")
    assert [line.split()[0] for line in lines([of_text, own], False)[1:]] == ["text?", "FAILED"]
    assert "give it text of its own with --text" in lines([of_text], False)[1]
    assert lines([of_text])[1].startswith("FAILED")
    assert [doctor.unsettled(each, False) for each in (of_text, own)] == [True, False]
