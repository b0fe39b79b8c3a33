"""Transplants where what they say is known: onto themselves, at the last layer, in chains."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from probekit.activations.hooks import resid_post
from probekit.heads import transplants
from probekit.heads.transplants import Transplants, prompt_ids
from probekit.models.anatomy import find_anatomy
from probekit.probes.logit_lens import LogitLens
from probekit.readout import Cell, Readout, Seen
from support.architectures import VOCABULARY, build, each
from support.tiny_run import tokenizer
from support.worlds import World, chain

PROMPT = (3, 1, 4, 1, 5)
IDS = torch.randint(0, VOCABULARY, (4, 9), generator=torch.Generator().manual_seed(0))
VALID = {k: torch.rand(4, 9, generator=torch.Generator().manual_seed(k)) < 0.6 for k in (1, 2, 3)}
for offset, mask in VALID.items():
    mask[:, -offset:] = False
BETWEEN = {k: IDS.roll(-k, dims=1) for k in (1, 2)}
LAYERS = (0, 1, 2, 3)


@torch.no_grad()
def found(model: PreTrainedModel, seen: Seen, valid: dict[int, Tensor]) -> dict[Cell, Tensor]:
    readout = Transplants(find_anatomy(model), PROMPT, BETWEEN, LAYERS)
    assert isinstance(readout, Readout)
    return dict(readout.predict(seen, valid))


def seen(model: PreTrainedModel, ids: Tensor = IDS) -> Seen:
    return Seen(ids, resid_post(find_anatomy(model), LAYERS, ids))


@pytest.mark.parametrize("name", each(quick=("gpt2", "gemma2", "mamba")))
def test_onto_itself_it_is_the_model_on_the_prompt_and_the_tokens(name: str) -> None:
    model = build(name)
    # The text begins with the prompt, whose last position is so transplanted onto itself; what is
    # fed is not how the text goes on.
    ids, fed = (
        torch.cat([torch.tensor(PROMPT).expand(4, -1), rest], dim=1)
        for rest in (IDS[:, :4], IDS[:, 4:8])
    )
    at = torch.zeros(4, 9, dtype=torch.bool)
    at[:, len(PROMPT) - 1] = True
    between = {k: fed.roll(-k, dims=1) for k in (1, 2)}
    readout = Transplants(find_anatomy(model), PROMPT, between, LAYERS)
    cells = dict(readout.predict(seen(model, ids), dict.fromkeys((1, 2, 3), at)))
    with torch.no_grad():
        expected = model(fed).logits.log_softmax(-1)
    assert list(cells) == [
        Cell(name, offset, layer, blind=offset == 1)
        for name, layer in (
            ("transplant-none", None),
            ("transplant-token", None),
            *(("transplant", layer) for layer in LAYERS),
        )
        for offset in (1, 2, 3)
    ]
    for cell, logits in cells.items():
        own = expected[:, len(PROMPT) + cell.offset - 2]
        torch.testing.assert_close(logits.log_softmax(-1), own, atol=1e-5, rtol=1e-5)


def test_at_layer_0_it_is_the_token_and_behind_the_last_the_logit_lens_then_the_prompt_alone(
    tiny_llama: PreTrainedModel,
) -> None:
    at = seen(tiny_llama)
    cells = found(tiny_llama, at, VALID)
    (_, lens), *_ = LogitLens([3], find_anatomy(tiny_llama)).predict(at, {1: VALID[1]})
    assert torch.equal(cells[Cell("transplant", 1, 3)], lens)
    for k in (2, 3):
        alone = cells[Cell("transplant-none", k, None, blind=False)]
        assert torch.equal(cells[Cell("transplant", k, 3, blind=False)], alone)
        token = cells[Cell("transplant-token", k, None, blind=False)]
        torch.testing.assert_close(cells[Cell("transplant", k, 0, blind=False)], token)
        before = cells[Cell("transplant", k, 2, blind=False)]
        assert not torch.allclose(before, alone, atol=1e-2)


def test_batches_and_other_positions_change_nothing(
    tiny_llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = seen(tiny_llama)
    whole = found(tiny_llama, at, VALID)
    assert len(whole) == 18
    monkeypatch.setattr(transplants, "TOKENS_AT_ONCE", 35)
    for cell, logits in found(tiny_llama, at, VALID).items():
        torch.testing.assert_close(logits, whole[cell], atol=1e-5, rtol=1e-5)
    few = Seen(IDS[2:], {layer: x[2:] for layer, x in at.resid.items()}, first_block=2)
    for cell, logits in found(tiny_llama, few, {2: VALID[2][2:]}).items():
        rows = whole[cell][int(VALID[2][:2].sum()) :]
        torch.testing.assert_close(logits, rows, atol=1e-5, rtol=1e-5)
    assert found(tiny_llama, few, {1: torch.zeros(2, 9, dtype=torch.bool)}) == {}


@pytest.mark.parametrize(
    ("order", "unknown"),
    [
        (1, {("transplant-none", 1)}),
        # At layer 0 lies x_t, and not yet what came before it. Behind the only block lies all that
        # t+1 hangs on, and no later token sees it.
        (
            2,
            {("transplant-none", 1), ("transplant-none", 2), ("transplant-token", 1)}
            | {(0, 1), (1, 2)},
        ),
    ],
)
def test_in_a_chain_it_knows_what_tokens_fed_and_residual_tell(
    order: int, unknown: set[tuple[int | str, int]]
) -> None:
    world = World(chain(5, order), 3, {"test": 12})
    targets, inside = world.targets["test"], world.positions("test", 3)
    (at,) = world.batches("test")
    readout = Transplants(world.anatomy, (2, 4), targets.ids, world.layers)
    own = world.anatomy.decode(at.resid[1]).log_softmax(-1)
    block, place = inside.nonzero(as_tuple=True)
    missed = set()
    for cell, logits in readout.predict(at, dict.fromkeys((1, 2, 3), inside)):
        target = targets.ids[cell.offset][inside]
        nats = -logits.log_softmax(-1).gather(1, target[:, None])[:, 0]
        # What the model loses when the tokens between are there.
        expected = -own[block, place + cell.offset - 1, target]
        if not torch.allclose(nats, expected, atol=1e-5):
            missed.add((cell.readout if cell.layer is None else cell.layer, cell.offset))
    assert missed == unknown


def test_the_prompt_begins_as_a_block_does() -> None:
    words = tokenizer()
    assert prompt_ids(words)[0] == words.bos_token_id
    assert len(prompt_ids(words)) == 10
    words.bos_token = None
    assert len(prompt_ids(words)) == 9
