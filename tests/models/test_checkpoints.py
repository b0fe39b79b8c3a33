"""Checkpoints as they come: files of gguf, adapters of peft, quantized weights."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model

from probekit.errors import ModelError, SettingsError
from probekit.models import quantization
from probekit.models.anatomy import find_anatomy
from probekit.models.loading import Loaded, load, wrap
from probekit.probes.controls import random_model
from probekit.runs import plan
from probekit.runs.doctor import check_model
from support import gguf_files
from support.architectures import build
from support.tokenizers import words

IDS = torch.arange(2 * 40).reshape(2, 40) % 97
TEXT = "def read(path):\n    return open(path).read()  # the whole of it, naïve"


def logits(loaded: Loaded) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = loaded.model(IDS).logits
    return found


def test_a_file_of_gguf_is_the_model_that_it_was_written_from(tmp_path: Path) -> None:
    tiny: Any = load("tiny-s", device="cpu")
    path = gguf_files.write(tiny.model, tiny.tokenizer, tmp_path / "tiny.gguf")
    loaded = load(str(path), device="cpu")
    torch.testing.assert_close(logits(loaded), logits(tiny), atol=1e-5, rtol=0)
    assert loaded.tokenizer(TEXT)["input_ids"] == tiny.tokenizer(TEXT)["input_ids"]
    assert loaded.tokenizer.eos_token_id == tiny.tokenizer.eos_token_id
    assert (loaded.name, loaded.dtype) == (str(path), "float32")
    assert loaded.quantization == "gguf, unpacked"
    random_model(loaded.model, find_anatomy(loaded.model), seed=0)  # it has that control too
    with pytest.raises(SettingsError, match=r"is quantized already \(gguf\)"):
        load(str(path), device="cpu", quantization="bnb-4bit")
    with pytest.raises(ModelError, match=r"no config\.json.* name the file, .*tiny\.gguf"):
        load(str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif("PROBEKIT_GGUF" not in os.environ, reason="PROBEKIT_GGUF names no file of gguf")
def test_a_real_file_of_gguf_passes_every_check() -> None:
    loaded = load(os.environ["PROBEKIT_GGUF"], device="cpu")
    ids = loaded.tokenizer(TEXT * 20, return_tensors="pt")["input_ids"][:, :256].view(4, -1)
    checks = check_model(loaded, find_anatomy(loaded.model), ids)
    assert [check.name for check in checks if not check.passed] == []


def saved(tmp_path: Path, how: Any) -> tuple[Path, Any]:
    """Save a model and an adapter on it; return the adapter's folder, and the two as one."""
    model = build("llama")
    model.save_pretrained(tmp_path / "base")
    words().save_pretrained(tmp_path / "base")
    with torch.random.fork_rng(devices=[]):
        adapted = get_peft_model(model, how)
    adapted.save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    named = {"base_model_name_or_path": str(tmp_path / "base")}
    path.write_text(json.dumps(json.loads(path.read_text()) | named))
    return tmp_path / "adapter", adapted.eval()


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_is_loaded_on_its_model_and_merged_into_it(tmp_path: Path) -> None:
    how = LoraConfig(r=2, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    folder, adapted = saved(tmp_path, how)
    loaded, base = load(str(folder), device="cpu"), load(str(tmp_path / "base"), device="cpu")
    with torch.no_grad():
        torch.testing.assert_close(logits(loaded), adapted(IDS).logits, atol=1e-5, rtol=0)
    assert not torch.allclose(logits(base), logits(loaded), atol=1e-2)
    assert (loaded.name, loaded.adapter) == (str(folder), f"merged into {tmp_path / 'base'}")
    assert loaded.n_parameters == base.n_parameters
    assert not any(weight.requires_grad for weight in loaded.model.parameters())


@pytest.mark.filterwarnings("ignore")
def test_an_adapter_of_tokens_before_the_text_is_refused(tmp_path: Path) -> None:
    how = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(ModelError, match="of the kind PROMPT_TUNING, which stands before the text"):
        load(str(saved(tmp_path, how)[0]), device="cpu")


def test_a_quantized_model_may_round_by_other_tokens_and_has_no_untrained_control() -> None:
    model = build("llama")
    assert quantization.noise(model) == 1e-5
    assert plan.room_for_another(model)
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    loaded = wrap(model, words())
    assert loaded.quantization == "gptq"
    assert not plan.room_for_another(model)
    allowed = {c.name: c.allowed for c in check_model(loaded, find_anatomy(model), IDS)}
    assert (allowed["batching"], allowed["causality"], allowed["layers"]) == (0.05, 0.05, 1e-5)


@pytest.mark.parametrize(
    ("asked", "kept"), [("bnb-4bit", "load_in_4bit"), ("bnb-8bit", "load_in_8bit")]
)
def test_what_is_asked_for_is_what_transformers_is_told(asked: str, kept: str) -> None:
    config = build("llama").config
    told = quantization.options(asked, config, "bfloat16")["quantization_config"]
    assert getattr(told, kept)
    assert asked == "bnb-8bit" or told.bnb_4bit_compute_dtype == torch.bfloat16
    config.quantization_config = told
    assert quantization.method(config) == asked
    with pytest.raises(SettingsError, match="quantization must be auto, bnb-4bit or bnb-8bit"):
        quantization.options("4bit", config, "auto")


def test_four_bits_of_bitsandbytes_are_read_right() -> None:
    pytest.importorskip("bitsandbytes")
    loaded, plain = (
        load("tiny-m", device="cpu", quantization=each) for each in ("bnb-4bit", "auto")
    )
    assert loaded.quantization == "bnb-4bit"
    assert loaded.n_parameters == plain.n_parameters
    apart = (logits(loaded) - logits(plain)).abs().mean()
    assert 0 < apart < 1
    checks = check_model(loaded, find_anatomy(loaded.model), IDS)
    assert {check.name for check in checks if not check.passed} <= {"training"}
