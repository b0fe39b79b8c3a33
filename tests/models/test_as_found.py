"""What a caller set in torch and in his model changes no number, and is given back."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import probekit
from probekit.errors import ModelError, SettingsError
from probekit.models.as_found import borrowed
from probekit.models.loading import wrap
from probekit.models.objects import require_tokenizer, unwrapped
from probekit.pipelines.analysis.finished import Run
from support.architectures import build
from support.tiny_run import tokenizer
from support.tokenizers import words

PLACE = ["readout", "layer", "offset", "domain", "split", "positions"]


def modes(model: nn.Module) -> list[bool]:
    return [module.training for module in model.modules()]


@pytest.mark.filterwarnings("ignore:.*script_method")  # what torch.compile imports
def test_a_wrapped_model_in_any_state_of_torch_gives_the_plain_one_s_scores(
    asked: dict[str, Any], finished_run: Run, tmp_path: Path
) -> None:
    own = {name: value for name, value in asked.items() if name not in ("model", "device")}
    trained = AutoModelForCausalLM.from_pretrained(asked["model"])
    with torch.inference_mode():
        model = type(trained)(trained.config).train()
        model.load_state_dict(trained.state_dict())
    assert model.lm_head.weight.is_inference()
    model.model.layers[0].train(False)
    before = modes(model)
    model.model.layers[1].compile()
    compiled: Any = torch.compile(model)
    wrapped = nn.DataParallel(compiled)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
            run = probekit.analyze(
                wrapped,
                tokenizer=tokenizer(),
                output=tmp_path,
                **own | {"controls": "none", "marginal": "off"},
            )
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert modes(model) == before
    both = run.scores.merge(finished_run.scores, on=PLACE, suffixes=("", "_plain"))
    assert len(both) == len(run.scores) > 20
    pd.testing.assert_series_equal(
        both["nats"], both["nats_plain"], check_names=False, rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("stop", [SettingsError, KeyboardInterrupt, SystemExit])
def test_the_mode_is_given_back_whatever_happens(stop: type[BaseException]) -> None:
    model = build("llama").train()
    model.model.norm.train(False)
    before = modes(model)

    def stopped() -> None:
        with borrowed(model, words(), {}):
            assert not any(modes(model))
            raise stop

    with pytest.raises(stop):
        stopped()
    assert modes(model) == before


def test_gradients_are_as_they_were_asked_for() -> None:
    with torch.no_grad(), borrowed("tiny", None, {}):
        assert torch.is_grad_enabled()


def test_a_folder_may_be_a_path() -> None:
    with borrowed(Path("a") / "b", None, {}) as (settings, loaded):
        assert (settings, loaded) == ({"model": "a/b"}, None)


@pytest.mark.parametrize("given", [None, nn.Linear(2, 2), words(), "tiny"])
def test_what_is_no_model_is_said(given: object) -> None:
    with pytest.raises(ModelError, match=f"got a {type(given).__name__}"):
        unwrapped(given)


@pytest.mark.parametrize(
    ("given", "way_out"),
    [
        ("gpt2", r"a str; load it: AutoTokenizer.from_pretrained\('gpt2'\)"),
        (words().backend_tokenizer, "a Tokenizer; wrap it: PreTrainedTokenizerFast"),
        (len, "load it with AutoTokenizer"),
    ],
)
def test_what_is_no_tokenizer_of_transformers_is_said(given: object, way_out: str) -> None:
    with pytest.raises(ModelError, match=way_out):
        require_tokenizer(given)


def test_weights_without_values_are_said() -> None:
    with pytest.raises(ModelError, match="have no values"):
        wrap(build("llama").to_empty(device="meta"), words())
