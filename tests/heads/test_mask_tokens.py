"""Mask tokens against the model run on each prefix and its mask tokens, one by one."""

import torch
from transformers import PreTrainedModel

from probekit.heads.mask_tokens import MaskTokens
from probekit.heads.queries import mean_queries
from probekit.models.anatomy import find_anatomy
from probekit.readout import Cell, Readout, Seen

IDS = torch.randint(0, 97, (5, 6), generator=torch.Generator().manual_seed(0))
VALID = {k: torch.rand(5, 6, generator=torch.Generator().manual_seed(k)) < 0.6 for k in (1, 2, 3)}
LAYERS = (0, 2, 3)


@torch.no_grad()
def test_they_say_what_the_model_says_behind_a_prefix_and_mean_embeddings(
    tiny_llama: PreTrainedModel,
) -> None:
    anatomy = find_anatomy(tiny_llama)
    readout = MaskTokens(mean_queries(tiny_llama, anatomy, horizon=3), LAYERS)
    embed = tiny_llama.get_input_embeddings()
    mean = embed(torch.arange(97)).mean(dim=0)
    found = dict(readout.predict(Seen(IDS, {}), VALID))
    assert list(found) == [Cell("mask-token", k, layer) for layer in LAYERS for k in (2, 3)]
    for cell, logits in found.items():
        expected = []
        for block, place in VALID[cell.offset].nonzero().tolist():
            tokens = [embed(IDS[block, : place + 1]), mean.expand(cell.offset - 1, -1)]
            states = tiny_llama.model(
                inputs_embeds=torch.cat(tokens)[None], output_hidden_states=True
            ).hidden_states
            last = states[cell.layer][0, -1]
            # The last of the hidden states is normed already.
            normed = last if cell.layer == 3 else tiny_llama.model.norm(last)
            expected.append(tiny_llama.lm_head(normed))
        torch.testing.assert_close(logits, torch.stack(expected), atol=1e-4, rtol=1e-4)
    assert list(readout.predict(Seen(IDS, {}), {1: VALID[1]})) == []
    assert isinstance(readout, Readout)


@torch.no_grad()
def test_no_token_sees_them(tiny_llama: PreTrainedModel) -> None:
    queries = mean_queries(tiny_llama, find_anatomy(tiny_llama), horizon=3)
    own = tiny_llama(IDS, output_hidden_states=True).hidden_states
    for layer, levels in queries.streams(IDS, (0, 2)).items():
        torch.testing.assert_close(levels[1], own[layer], atol=1e-5, rtol=1e-5)
