"""From settings to what an analysis works on."""

from pathlib import Path
from typing import Any

import pytest

from probekit.checks import Check
from probekit.errors import ModelError
from probekit.runs import setup
from probekit.runs.setup import Material
from probekit.settings import from_mapping
from support import tiny_run


@pytest.fixture(scope="module")
def prepare(asked: dict[str, Any]) -> Any:
    loaded = setup.load(from_mapping(asked))

    def prepared(**more: Any) -> Material:
        settings = from_mapping({**asked, **more})
        return setup.prepare(loaded, setup.resolved(settings, loaded))

    return prepared


def test_all_layers_are_read_unless_told_and_the_last_one_always(prepare: Any) -> None:
    assert prepare().layers == (0, 1, 2)
    assert prepare(site="attn_out").layers == (1, 2)
    assert prepare(layers=(0,)).layers == (0, 2)


def test_a_block_is_never_longer_than_the_model_takes(prepare: Any) -> None:
    blocks = prepare(block=128).blocks
    assert {part.token_ids.shape[1] for part in blocks.values()} == {64}


def test_a_text_s_row_counts_what_was_kept(prepare: Any) -> None:
    material = prepare(max_tokens=1000)
    (row,) = material.text
    assert sum(row["tokens"].values()) == sum(len(d.ids) for d in material.documents) <= 1000
    assert sum(row["documents"].values()) == len(material.documents)
    assert material.warnings == []


def test_one_file_is_cut_with_a_warning(prepare: Any, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n".join(tiny_run.documents(200)))
    material = prepare(text=(str(tmp_path / "a.txt"),))
    (warning,) = material.warnings
    assert warning["code"] == "cut-into-pieces"
    assert warning["message"].startswith("a: 1 documents were cut into ")


def test_a_failed_check_forbids_an_analysis_unless_it_is_advice() -> None:
    advice = Check("training", False, 2.0, 1.0, "Hardly trained.")
    assert setup.unmet([advice]) == [{"code": "check-training", "message": "Hardly trained."}]
    fatal = Check("decoding", False, 2.0, 1.0, "Not its logits.")
    with pytest.raises(ModelError, match=r"cannot be analysed: Not its logits\."):
        setup.unmet([advice, fatal])
