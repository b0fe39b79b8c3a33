"""A name becomes the model that it means, or an error that says why not."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HTTPError,
    RepositoryNotFoundError,
)
from safetensors.torch import load_file, save_file
from transformers import BertConfig, T5Config

from probekit.errors import ModelError, SettingsError, UnreachableError
from probekit.models import locations
from probekit.models.catalogue import entries, family
from probekit.models.loading import fingerprint, load, require_rows, wrap
from support.architectures import VOCABULARY, build
from support.tokenizers import words


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build("llama").bfloat16().save_pretrained(folder)
    words().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    """Return a saved model's folder, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "model"))


def test_a_folder_is_loaded_ready_to_be_read(saved: Path) -> None:
    loaded = load(str(saved), device="cpu")
    ids = torch.arange(10).unsqueeze(0)
    rounded = build("llama")
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16())
        expected = rounded(ids).logits
        torch.testing.assert_close(loaded.model(ids).logits, expected)
    assert not loaded.model.training
    assert not any(parameter.requires_grad for parameter in loaded.model.parameters())
    assert (loaded.source, loaded.name, loaded.family) == ("folder", str(saved), None)
    assert (loaded.dtype, loaded.device, loaded.attention) == ("float32", "cpu", "sdpa")
    assert loaded.tokenizer.convert_tokens_to_ids("w7") == 7


def test_tied_weights_are_counted_once(saved: Path) -> None:
    loaded = load(str(saved), device="cpu")
    assert loaded.model.lm_head.weight is loaded.model.model.embed_tokens.weight
    with_both = sum(each.numel() for each in loaded.model.state_dict().values())
    assert loaded.n_parameters == with_both - VOCABULARY * 32


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float64"])
def test_the_dtype_asked_for_is_the_dtype_loaded(saved: Path, dtype: str) -> None:
    assert load(str(saved), dtype=dtype, device="cpu").dtype == dtype


@pytest.mark.gpu
def test_on_an_accelerator_auto_is_the_checkpoint_s_dtype(saved: Path) -> None:
    loaded = load(str(saved))
    assert (loaded.dtype, loaded.device) == ("bfloat16", "cuda:0")


def test_a_model_may_be_spread_over_devices(saved: Path) -> None:
    assert load(str(saved), device="sequential", dtype="float32").dtype == "float32"


def test_tiny_is_the_built_in_tiny_m() -> None:
    loaded = load("tiny", device="cpu")
    entry = next(model for model in entries() if model.name == "tiny-m")
    assert (loaded.name, loaded.family, loaded.source) == ("tiny-m", "tiny", "bundled")
    assert loaded.n_parameters == entry.parameters


def test_every_short_name_means_one_place() -> None:
    names = [name for model in entries() for name in (model.name, *model.aliases)]
    assert len(names) == len(set(names))
    assert {"tiny", "llama", "gpt2"} <= set(names)
    assert all((model.repository is None) != (model.folder is None) for model in entries())
    repositories = [model.repository for model in entries() if model.repository]
    assert len(repositories) == len(set(repositories))


def test_a_ladder_climbs() -> None:
    for name in {model.family for model in entries()}:
        sizes = [model.parameters for model in family(name)]
        assert sizes == sorted(set(sizes))
    assert [model.name for model in family("tiny")] == ["tiny-s", "tiny-m", "tiny-l"]


def test_an_unknown_family_is_named() -> None:
    with pytest.raises(SettingsError, match=r"family must be one of tiny, .*got 'lama'"):
        family("lama")


@pytest.mark.parametrize(
    ("typed", "hint"),
    [("lama", "did you mean llama"), ("pythia-70mm", "did you mean pythia-70m"), ("ptyhia", "")],
)
def test_a_misspelt_name_gets_the_nearest(typed: str, hint: str) -> None:
    with pytest.raises(ModelError, match=f"no model called '{typed}'.*{hint}"):
        load(typed)


def test_a_path_that_is_not_there_is_no_repository() -> None:
    with pytest.raises(ModelError, match=r"no model called './there/not'"):
        load("./there/not")


def test_a_folder_without_configuration_is_named(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"has no config\.json"):
        load(str(folder))


def test_a_folder_without_weights_is_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"has a config\.json but no weights"):
        load(str(folder))


def test_a_folder_without_tokenizer_is_named(folder: Path) -> None:
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match=r"the tokenizer of .* could not be loaded"):
        load(str(folder), device="cpu")


def test_damaged_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(ModelError, match=r"the weights of .* could not be loaded"):
        load(str(folder), device="cpu")


def test_a_weight_of_no_use_in_a_block_that_the_model_has_is_left_out(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load(str(folder), device="cpu").model.config.num_hidden_layers == 3


def test_a_weight_that_is_not_in_the_checkpoint_is_not_made_up(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 weights, which would stay random: model\.norm"):
        load(str(folder), device="cpu")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (T5Config(), "is an encoder-decoder model"),
        (BertConfig(architectures=["BertForMaskedLM"]), "is an encoder, or no language model"),
    ],
)
def test_a_model_that_is_not_causal_is_refused(folder: Path, config: Any, message: str) -> None:
    config.save_pretrained(folder)
    with pytest.raises(ModelError, match=message):
        load(str(folder))


def test_a_model_type_that_transformers_does_not_know_is_named(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_type": "nonesuch"}))
    with pytest.raises(ModelError, match=r"the configuration of .* could not be loaded"):
        load(str(folder))


def test_a_token_that_the_model_has_no_row_for_is_refused_where_the_text_holds_it() -> None:
    loaded = wrap(build("llama"), words(VOCABULARY + 1))
    require_rows(loaded, range(VOCABULARY))
    with pytest.raises(
        ModelError, match=r"holds 'w97', token 97 of .* LlamaForCausalLM ends at 96"
    ):
        require_rows(loaded, [0, VOCABULARY])


def test_a_model_of_one_s_own_is_wrapped_in_eval_mode() -> None:
    loaded = wrap(build("llama").train(), words(), "mine")
    assert (loaded.name, loaded.source, loaded.repository) == ("mine", "python", None)
    assert not loaded.model.training
    assert wrap(build("llama"), words()).name == "LlamaForCausalLM"


def refuse(error: Exception) -> Any:
    def check(*_: Any, **__: Any) -> None:
        raise error

    return check


def answer(kind: type[RepositoryNotFoundError]) -> RepositoryNotFoundError:
    response: Any = SimpleNamespace(headers={}, request=None)
    return kind("no", response=response)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (answer(GatedRepoError), "is gated: its owner asks for a licence"),
        (answer(RepositoryNotFoundError), "is not on the Hub, or private"),
        (HTTPError("no route"), r"is out of reach from here \(no route\)"),
    ],
)
def test_a_repository_out_of_reach_gives_the_ways_out(
    monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    monkeypatch.setattr(locations, "_ask_whether_we_may", refuse(error))
    monkeypatch.setattr(locations, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(UnreachableError, match=message) as caught:
        load("somebody/some-model")
    for way_out in ("hf auth login", "ungated mirror", "local folder", "`tiny`"):
        assert way_out in str(caught.value)


def test_offline_a_gated_short_name_says_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "try_to_load_from_cache", lambda *_, **__: None)
    with pytest.raises(UnreachableError, match=r"meta-llama/Llama-3\.2-1B .* and gated"):
        load("llama")


def test_offline_a_cached_repository_is_read_without_the_network(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locations, "try_to_load_from_cache", lambda *_, **__: "/cache/config.json")
    location = locations.find_location("somebody/some-model", "v1")
    assert location.local
    assert location.options == {"revision": "v1", "local_files_only": True}


def test_a_network_that_swallows_all_is_waited_for_briefly_where_the_model_is_cached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited = []

    def get(_: str, *, headers: Any, timeout: float) -> None:  # noqa: ARG001
        waited.append(timeout)
        raise HTTPError("timed out")

    monkeypatch.setattr(locations, "get_session", lambda: SimpleNamespace(get=get))
    monkeypatch.setattr(locations, "try_to_load_from_cache", lambda *_, **__: "/cache/config.json")
    assert locations.find_location("somebody/some-model", "v1").local
    assert waited == [3]


def test_a_repository_within_reach_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_ask_whether_we_may", lambda *_, **__: None)
    location = locations.find_location("pythia-70m", None)
    assert (location.path, location.local) == ("EleutherAI/pythia-70m", False)
    assert location.entry is not None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dtype": "fp8"}, "dtype must be one of auto, float32"),
        ({"device": "abacus"}, "device must be auto, balanced, sequential or one that torch has"),
        ({"revision": "v1"}, "is a folder, got 'v1'"),
    ],
)
def test_a_setting_that_is_not_allowed_is_named(
    saved: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        load(str(saved), **settings)


def test_a_fingerprint_is_of_weights_and_shape_and_not_of_the_place(saved: Path) -> None:
    one = fingerprint(load(str(saved), device="cpu"))
    assert one == fingerprint(load(str(saved), device="cpu"))
    assert one != fingerprint(load(str(saved), dtype="bfloat16", device="cpu"))
    changed = load(str(saved), device="cpu")
    changed.model.model.norm.weight[3] += 1e-3
    assert one != fingerprint(changed)


def test_a_fingerprint_is_of_the_configuration_too() -> None:
    model = build("gemma2")
    one = fingerprint(wrap(model, words()))
    model.config.final_logit_softcapping = 6.0
    assert one != fingerprint(wrap(model, words()))
