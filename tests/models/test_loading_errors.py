"""Checkpoints that hold code, and names that are none: one sentence each, and nothing is run."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import constants

from probekit.errors import ModelError, UnreachableError
from probekit.models.anatomy import find_anatomy
from probekit.models.loading import load
from support.architectures import build
from support.damage import Damage, changed
from support.tokenizers import words


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    build("llama").save_pretrained(folder)
    words().save_pretrained(folder)
    return folder


class Runs:
    """Unpickled, it would write a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("touch code-ran",)


def pickled(zipped: bool) -> Damage:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        path = folder / "pytorch_model.bin"
        if zipped:
            torch.save({"weight": Runs()}, path)
        else:
            path.write_bytes(pickle.dumps({"weight": Runs()}, protocol=2))

    return change


WEIGHTS = "the weights of .* could not be loaded"
OWN_CODE = {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}
CASES = {
    "code of its own": (
        changed("config.json", model_type="mine", auto_map=OWN_CODE),
        "not run unasked.*--trust-remote-code",
    ),
    "a pickle": (pickled(zipped=False), f"{WEIGHTS}.*could run any code.*safetensors"),
    "a zipped pickle": (pickled(zipped=True), f"{WEIGHTS}.*could run any code.*safetensors"),
}


@pytest.mark.parametrize(("damage", "message"), CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:Detected pickle")
def test_of_a_checkpoint_that_holds_code_none_is_run(
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Damage,
    message: str,
) -> None:
    folder = Path(shutil.copytree(saved, tmp_path / "model"))
    monkeypatch.chdir(tmp_path)
    damage(folder)
    with pytest.raises(ModelError, match=message) as caught:
        find_anatomy(load(str(folder), device="cpu").model)
    assert "\n" not in str(caught.value)
    assert not Path("code-ran").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./outpts", "There is no folder outpts here, but there is outputs"),
        ("outputs/checkpoint-500", "There is no folder .*-500 here, but there is .*checkpoint-50"),
        ("out/llama--sft", "There is no folder out/llama--sft here, but there is outputs"),
        ("a/..", "There is no folder"),
        ("out/name.", "There is no folder"),
        (f"a/{'x' * 97}", "There is no folder"),
        ("~nobody-at-all/x", "no model called"),
        ("y" * 5000, "no model called"),
        ("a\0b", "no model called"),
        ("outputs", "has no config.json"),
    ],
)
def test_a_path_is_answered_as_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "outputs" / "checkpoint-50").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ModelError, UnreachableError), match=message):
        load(name)


def test_the_commit_that_was_loaded_is_recorded(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "0123456789" * 4
    kept = tmp_path / "models--somebody--small"
    shutil.copytree(saved, kept / "snapshots" / commit)
    (kept / "refs").mkdir()
    (kept / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    loaded = load("somebody/small", device="cpu")
    assert (loaded.repository, loaded.revision) == ("somebody/small", commit)
    assert load("somebody/small", revision=commit, device="cpu").revision == commit
