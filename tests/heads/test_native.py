"""Multi-token layers of a model's own, against transformers' own way through them."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel

from probekit.errors import DataError, ModelError
from probekit.heads.native import NativeHeads, native
from probekit.models.anatomy import find_anatomy
from probekit.readout import Cell, Readout, Seen
from support.native_models import CONFIGS, make

IDS = torch.randint(0, 97, (1, 20), generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def drafted(heads: NativeHeads, token_ids: Tensor) -> tuple[Tensor, Tensor]:
    """Return what transformers' own generation drafts behind the last of these tokens."""
    states = heads.model(token_ids[:, :-1], output_hidden_states=True).hidden_states[-1]
    tokens, logits, _ = heads.mtp(
        input_ids=token_ids[:, 1:],
        last_hidden_states=states,
        attention_mask=None,
        position_ids=torch.arange(1, token_ids.shape[1])[None],
        mtp_cache=MtpCache(config=heads.model.config.get_mtp_config()),
    )
    return tokens, logits


def test_each_layer_is_told_the_places_that_transformers_itself_tells_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The numbers do not show it: rotary embeddings know distances alone.
    heads, told = make("deepseek_v3"), list[list[int]]()
    run = MtpModel.forward_layer

    def telling(
        brought: MtpModel, layer: int, hidden: Tensor, places: Tensor, *rest: Any, **named: Any
    ) -> Any:
        told.append(places[0].tolist())
        return run(brought, layer, hidden, places, *rest, **named)

    monkeypatch.setattr(MtpModel, "forward_layer", telling)
    drafted(heads, IDS[:, :12])
    theirs, told[:] = list(told), []
    everywhere = torch.zeros_like(IDS, dtype=torch.bool)
    list(heads.predict(Seen(IDS, {}), dict.fromkeys(heads.offsets, everywhere)))
    assert [places[:11] for places in told] == theirs


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_each_layer_gives_what_transformers_itself_drafts(name: str) -> None:
    heads = make(name)
    for n in (4, 12):
        tokens, expected = drafted(heads, IDS[:, :n])
        # A text that goes on as drafted: what is fed here is then what was fed there.
        text = torch.cat([IDS[:, :n], tokens, tokens], dim=1)
        place = torch.zeros_like(text, dtype=torch.bool)
        place[:, n - 2] = True
        found = list(heads.predict(Seen(text, {}), dict.fromkeys(heads.offsets, place)))
        assert [cell for cell, _ in found] == [
            Cell("head:native", offset, blind=False) for offset in heads.offsets
        ]
        for layer, (_, logits) in enumerate(found):
            torch.testing.assert_close(logits, expected[:, layer], atol=1e-5, rtol=1e-5)


def test_a_layer_is_fed_the_tokens_between_and_none_after() -> None:
    heads, t = make("glm4_moe"), 9
    place = torch.zeros_like(IDS, dtype=torch.bool)
    place[:, t] = True

    def predicted(text: Tensor) -> dict[int, Tensor]:
        valid = dict.fromkeys((1, 2, 3), place)
        return {cell.offset: logits for cell, logits in heads.predict(Seen(text, {}), valid)}

    before = predicted(IDS)
    assert list(before) == [2, 3]
    for ahead, told in ((1, [2, 3]), (2, [3]), (3, [])):
        changed = IDS.clone()
        changed[:, t + ahead] = (changed[:, t + ahead] + 1) % 97
        after = predicted(changed)
        assert [k for k in (2, 3) if not torch.allclose(before[k], after[k])] == told


def test_heads_come_from_the_checkpoint_of_the_model(tmp_path: Path) -> None:
    made = make("mellum")
    made.model.save_pretrained(tmp_path)
    place = tmp_path / "model.safetensors"
    renamed = {
        key.replace("layers.0.mtp_block.", "mtp.layers.0.")
        .replace("layers.0.eh_proj.", "mtp.fc.")
        .replace("layers.0.enorm.", "mtp.pre_fc_norm_embedding.")
        .replace("layers.0.hnorm.", "mtp.pre_fc_norm_hidden.")
        .replace("layers.0.post_norm.", "mtp.norm."): tensor.clone()
        for key, tensor in made.mtp.state_dict().items()
        if key.startswith("layers.")
    }
    bare = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"the 1 multi-token layers of .* could not be loaded"):
        native(bare, find_anatomy(bare))
    save_file(load_file(place) | renamed, place, metadata={"format": "pt"})
    model = hf.AutoModelForCausalLM.from_pretrained(tmp_path)
    loaded = native(model, find_anatomy(model))
    assert isinstance(loaded, Readout)
    everywhere = {2: torch.ones_like(IDS, dtype=torch.bool)}
    everywhere[2][:, -1] = False
    [(cell, logits)] = loaded.predict(Seen(IDS, {}), everywhere)
    [(_, expected)] = made.predict(Seen(IDS, {}), everywhere)
    assert not cell.blind
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def test_a_model_without_such_layers_is_an_error(tiny_llama: PreTrainedModel) -> None:
    with pytest.raises(ModelError, match="has no multi-token layers that transformers knows of"):
        native(tiny_llama, find_anatomy(tiny_llama))


def test_a_model_that_came_from_no_checkpoint_is_an_error() -> None:
    made = make("deepseek_v3")
    with pytest.raises(ModelError, match="it was made without one"):
        native(made.model, made.anatomy)


def test_a_position_that_nothing_can_be_fed_to_is_an_error() -> None:
    heads = make("deepseek_v3")
    last = torch.zeros_like(IDS, dtype=torch.bool)
    last[:, -2:] = True
    with pytest.raises(DataError, match=r"at offset 3 positions 0\.\.17 have the tokens between"):
        list(heads.predict(Seen(IDS, {}), {3: last}))
    assert list(heads.predict(Seen(IDS, {}), {1: last})) == []
