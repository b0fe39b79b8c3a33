"""Models as few are built, and as they are handed over: read right, or one true sentence."""

from pathlib import Path

import pytest
import torch

from probekit.activations.residual_stream import stream
from probekit.marginalization.branch_engine import BranchEngine
from probekit.models.anatomy import find_anatomy
from probekit.models.loading import load, wrap
from probekit.pipelines.analysis.analyze import dry_run
from probekit.runs.doctor import check_model
from probekit.settings import Settings
from support.architectures import VOCABULARY
from support.odd_models import CAP, ODD, SEEING, build
from support.tiny_run import tokenizer
from support.tokenizers import words

IDS = torch.arange(4 * 20).reshape(4, 20) * 7 % VOCABULARY
# Its soft-cap; none, but for these.
SOFTCAPS = {"recurrent-gemma": CAP, "xlstm": CAP}
# Its factor before the unembedding: 8 / 32, the model's base width over its width.
FACTORS = {"minicpm3": 0.25}
PACKED = {"minicpm3", "qwen2-vl", "llava"}


@pytest.mark.parametrize("name", SEEING)
def test_a_model_that_takes_images_is_loaded_and_given_text_alone(
    name: str, tmp_path: Path, text_file: Path
) -> None:
    model = build(name)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    loaded = load(str(tmp_path), device="cpu")
    assert type(loaded.model) is type(model)
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(IDS).logits, model(IDS).logits)
    settings = Settings(model=str(tmp_path), text=(str(text_file),), block=32)
    assert any("tokens in documents: train" in line for line in dry_run(loaded, settings))


@pytest.mark.parametrize("name", ODD)
def test_a_model_that_is_built_as_few_are_is_read_right(name: str) -> None:
    loaded = wrap(build(name), words())
    anatomy = find_anatomy(loaded.model)
    layers = range(anatomy.n_layers + 1)
    seen = next(iter(stream(loaded.model, anatomy, IDS, layers, batch_size=len(IDS))))
    with torch.no_grad():
        logits = loaded.model(IDS, use_cache=False).logits
    torch.testing.assert_close(anatomy.decode(seen.resid[3]), logits, atol=1e-5, rtol=0)
    assert anatomy.softcap == SOFTCAPS.get(name)
    factors = [module.factor for module in anatomy.final if hasattr(module, "factor")]
    assert factors == [pytest.approx(FACTORS[name])] if name in FACTORS else not factors
    failed = {each.name for each in check_model(loaded, anatomy, IDS) if not each.passed}
    assert failed <= {"training"}
    engine = BranchEngine(loaded.model, anatomy=anatomy)
    assert engine.route == ("packed" if name in PACKED else "one-by-one")
    assert engine.check_first(IDS[0]).passed
