"""From settings to what an analysis works on."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from probekit.checks import Check
from probekit.errors import ModelError
from probekit.models.loading import wrap
from probekit.runs.setup import (
    Setup,
    load_model,
    prepare,
    require_analysable,
    spread_layers,
    with_machine_defaults,
)
from probekit.settings import Settings
from support import tiny_run
from support.architectures import build


@pytest.fixture(scope="module")
def prepared(asked: dict[str, Any]) -> Any:
    loaded = load_model(Settings.from_mapping(asked))

    def prepared(**more: Any) -> Setup:
        settings = Settings.from_mapping({**asked, **more})
        settings = with_machine_defaults(settings, loaded)
        return prepare(loaded, settings, settings.layers, settings.sites)

    return prepared


def test_all_layers_are_read_unless_told_and_the_last_one_always(prepared: Any) -> None:
    assert prepared().layers == (0, 1, 2)
    assert prepared(site="attn_out").layers == (1, 2)
    assert prepared(site=("resid_post", "attn_out")).layers == (0, 1, 2)
    assert prepared(layers="all").layers == (0, 1, 2)
    assert prepared(layers=(0,)).layers == (0, 2)


@pytest.mark.parametrize(
    ("n_layers", "site", "read"),
    [
        (30, "resid_post", (0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30)),
        (12, "resid_post", (0, 1, 2, 4, 5, 6, 7, 8, 10, 11, 12)),
        (12, "mlp_out", (1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12)),
        (10, "resid_post", ()),
    ],
)
def test_of_a_large_model_a_cpu_reads_eleven_layers_from_the_first_to_the_last(
    n_layers: int, site: Any, read: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = LlamaConfig(
        vocab_size=64, hidden_size=8, intermediate_size=8, num_hidden_layers=n_layers,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=64,
    )  # fmt: skip
    loaded = load_model(Settings())
    deep = replace(loaded, model=LlamaForCausalLM(shape).eval().requires_grad_(False))
    assert spread_layers(deep, site) == ()  # its unembedding is small
    monkeypatch.setattr("probekit.runs.setup.LARGE_UNEMBEDDING", 511)
    assert spread_layers(deep, site) == read


def test_a_block_is_never_longer_than_the_model_takes(prepared: Any) -> None:
    blocks = prepared(block=128).blocks
    assert {part.token_ids.shape[1] for part in blocks.values()} == {64}


def test_a_text_s_row_counts_what_was_kept(prepared: Any) -> None:
    setup = prepared(max_tokens=1000)
    (row,) = setup.text
    assert sum(row["tokens"].values()) == sum(len(d.ids) for d in setup.documents) <= 1000
    assert sum(row["documents"].values()) == len(setup.documents)
    assert [warning["code"] for warning in setup.warnings] == ["overlap"]


def test_one_file_is_cut_with_a_warning(prepared: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(tiny_run.documents(200)))
    setup = prepared(text=(str(tmp_path / "a.txt"),))
    warning, _ = setup.warnings
    assert warning["code"] == "cut-into-pieces"
    assert warning["message"].startswith("a: 1 documents were cut into ")


def test_a_failed_check_forbids_an_analysis_unless_it_is_advice() -> None:
    advice = Check("training", False, 2.0, 1.0, "Hardly trained.")
    assert require_analysable([advice]) == [
        {"code": "check-training", "message": "Hardly trained."}
    ]
    fatal = Check("decoding", False, 2.0, 1.0, "Not its logits.")
    with pytest.raises(ModelError, match=r"cannot be analysed: Not its logits\."):
        require_analysable([advice, fatal])


def test_a_further_site_that_a_model_does_not_have_is_refused_before_anything_is_measured(
    asked: dict[str, Any],
) -> None:
    settings = Settings.from_mapping({**asked, "site": ["resid_post", "resid_mid"]})
    parallel = wrap(build("gpt_neox"), tiny_run.tokenizer())
    with pytest.raises(ModelError, match=r"does not name resid_mid in .* parallel"):
        prepare(parallel, with_machine_defaults(settings, parallel), (), settings.sites)
