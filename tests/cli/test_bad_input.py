"""What a user can get wrong, each with one message of its own."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaForCausalLM, T5Config

import probekit
from probekit.cli import main
from probekit.errors import DataError, ModelError, ProbekitError, RunError, SettingsError
from probekit.pipelines.analysis.finished import Run
from support import tiny_run


@pytest.fixture
def damaged(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "model"))


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"model": "lama"}, ModelError, "no model called 'lama': did you mean llama"),
        ({"model": "./nowhere"}, ModelError, "no model called './nowhere'"),
        ({"ofsets": 2}, SettingsError, "unknown setting 'ofsets'. Did you mean 'offsets'"),
        ({"offsets": 0}, SettingsError, "^offsets must be at least 1, got 0"),
        ({"marginal_offsets": 3}, SettingsError, "at most offsets=2, got 3: ask for more"),
        ({"offsets": 31}, SettingsError, r"^offsets must be in 1\.\.30 for blocks of 32 tokens"),
        ({"layers": (0, 3)}, SettingsError, r"^layers must be in 0\.\.2 for this model .* got 3"),
        (
            {"layers": (0,), "site": "mlp_out"},
            SettingsError,
            r"^layers must be in 1\.\.2 .*mlp_out",
        ),
        ({"device": "abacus"}, SettingsError, "device must be auto"),
        ({"text": ("nowhere.txt",)}, DataError, r"no text at nowhere\.txt: give a file"),
        ({"text_field": "body"}, DataError, r"no text field 'body'; .* with text_field"),
        ({"source_field": "de"}, DataError, r"no text field 'de'; .* with source_field and ta"),
        ({"target_field": "en"}, DataError, r"no text field 'source'; .* with source_field and"),
        ({"limit": 2}, DataError, "need at least 3 different documents, 'words' has 2"),
        ({"text": ("all=a.txt",)}, SettingsError, "texts need different names, none of them 'all'"),
        ({"text": ("a.txt", "b/a.txt")}, SettingsError, "texts need different names.*NAME: PATH"),
    ],
)
def test_what_is_asked_wrongly_is_named(
    asked: dict[str, Any], tmp_path: Path, change: dict[str, Any], kind: type[ProbekitError],
    message: str,
) -> None:  # fmt: skip
    with pytest.raises(kind, match=message):
        probekit.analyze(**{**asked, **change}, output=tmp_path / "run")


def test_a_block_longer_than_the_model_takes_leaves_fewer_offsets(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(SettingsError, match=r"1\.\.62 for blocks of 64 tokens, which is all that"):
        probekit.analyze(**{**asked, "block": 128, "offsets": 100}, output=tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no text"),
        (b"caf\xe9", "is not UTF-8 text: byte 3"),
        (b"w1 w2 w3", "need at least 3 different documents, 'a' has 1"),
    ],
)
def test_a_file_without_enough_text_is_named(
    asked: dict[str, Any], tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=message):
        probekit.analyze(**{**asked, "text": (str(tmp_path / "a.txt"),)}, output=tmp_path / "run")


def test_a_folder_without_text_is_named(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"the folder .*empty holds no files"):
        probekit.analyze(**{**asked, "text": (str(tmp_path / "empty"),)}, output=tmp_path / "run")


def test_documents_shorter_than_the_offsets_say_what_is_there_and_needed(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    texts = tiny_run.jsonl(tmp_path / "short.jsonl", [f"w{n} w1 w2" for n in range(30)])
    message = r"short: the train split has no .* has 3 tokens and more than 5 are needed"
    with pytest.raises(DataError, match=message):
        probekit.analyze(**{**asked, "text": (str(texts),), "offsets": 5}, output=tmp_path / "run")


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("config.json", r"has no config\.json"),
        ("model.safetensors", "but no weights"),
        ("*token*", "the tokenizer of .* could not be loaded"),
    ],
)
def test_an_incomplete_model_folder_says_what_is_missing(
    asked: dict[str, Any], damaged: Path, missing: str, message: str
) -> None:
    for path in damaged.glob(missing):
        path.unlink()
    with pytest.raises(ModelError, match=message):
        probekit.analyze(**{**asked, "model": str(damaged)})


def test_an_encoder_decoder_is_refused(asked: dict[str, Any], damaged: Path) -> None:
    T5Config().save_pretrained(damaged)
    with pytest.raises(ModelError, match="is an encoder-decoder model"):
        probekit.analyze(**{**asked, "model": str(damaged)})


def test_weights_that_are_not_finite_name_the_dtype(
    asked: dict[str, Any], damaged: Path, tmp_path: Path
) -> None:
    broken = LlamaForCausalLM.from_pretrained(damaged)
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[0, 0] = float("inf")
    broken.save_pretrained(damaged)
    with pytest.raises(ProbekitError, match=r"in torch.float32 gives logits that are not finite"):
        probekit.analyze(**{**asked, "model": str(damaged)}, output=tmp_path / "run")


def test_an_output_that_cannot_be_written_is_named(asked: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"the output folder .*file/run cannot be written"):
        probekit.analyze(**asked, output=tmp_path / "file" / "run")


def test_an_output_that_holds_another_run_names_what_differs(
    asked: dict[str, Any], finished_run: Run
) -> None:
    with pytest.raises(RunError, match=r"other settings: offsets\. Name another output"):
        probekit.analyze(**{**asked, "offsets": 3}, output=finished_run.folder)


def test_a_file_of_settings_with_an_unknown_key_stops_the_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.toml").write_text("ofsets = 3\n")
    command = ["probekit", "analyze", "--config", str(tmp_path / "a.toml")]
    monkeypatch.setattr(sys, "argv", command)
    with pytest.raises(SystemExit) as stopped:
        main.main()
    assert stopped.value.code == 2
    assert "unknown setting 'ofsets'. Did you mean 'offsets'?" in capsys.readouterr().err
