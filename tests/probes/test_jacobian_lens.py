"""The Jacobian lens: exact on linear models, torch's own Jacobian on others."""

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from probekit.data.blocks import Blocks
from probekit.errors import DataError
from probekit.models.anatomy import Anatomy, find_anatomy
from probekit.probes import jacobian_lens
from probekit.probes.jacobian_lens import jacobians, prompts
from probekit.probes.logit_lens import LogitLens
from probekit.readout import Seen

WIDTH, VOCABULARY = 5, 7
IDS = torch.randint(0, VOCABULARY, (3, 8), generator=torch.Generator().manual_seed(0))
VALID = torch.zeros(3, 8, dtype=torch.bool)
VALID[:, 2:7] = True


class Mixed(nn.Module):
    """A block that maps the stream linearly, and adds that of the position before to each."""

    def __init__(self, seed: int, carried: float) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(seed)
        self.matrix = nn.Parameter(torch.randn(WIDTH, WIDTH, generator=draw))
        self.carried = carried

    def forward(self, resid: Tensor) -> Tensor:
        moved = resid @ self.matrix.T
        return moved + self.carried * nn.functional.pad(moved[:, :-1], (0, 0, 1, 0))


class Linear(nn.Module):
    """Embeddings and two linear blocks."""

    def __init__(self, carried: float) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.first, self.second = Mixed(1, carried), Mixed(2, 0.0)
        self.requires_grad_(False)

    def forward(self, input_ids: Tensor, **_: object) -> Tensor:
        resid: Tensor = self.second(self.first(self.embed(input_ids)))
        return resid


def linear(carried: float = 0.0) -> tuple[Linear, Anatomy]:
    model = Linear(carried)
    unembedding = nn.Linear(WIDTH, VOCABULARY, bias=False)
    return model, Anatomy(model, (model.first, model.second), (), unembedding, WIDTH)


def test_on_a_linear_model_it_is_the_product_of_its_matrices_and_reads_what_the_model_says() -> (
    None
):
    model, anatomy = linear()
    first, second = model.first.matrix, model.second.matrix
    found = jacobians(anatomy, IDS, VALID, [0, 1])
    torch.testing.assert_close(found[0], second @ first)
    torch.testing.assert_close(found[1], second)
    embedded = model.embed(IDS)
    seen = Seen(IDS, {0: embedded, 1: model.first(embedded), 2: model(IDS)})
    lens = jacobian_lens.fit(anatomy, Blocks(IDS, torch.zeros_like(IDS)), [0, 1, 2])
    for cell, logits in lens.predict(seen, {1: VALID}):
        assert (cell.readout, cell.blind) == ("jacobian-lens", True)
        torch.testing.assert_close(logits, anatomy.decode(seen.resid[2][VALID]))


def test_what_reaches_later_positions_is_added_where_it_lies_among_the_positions() -> None:
    model, anatomy = linear(carried=0.5)
    first, second = model.first.matrix, model.second.matrix
    # Of five positions all but the last are followed by one that counts too.
    torch.testing.assert_close(
        jacobians(anatomy, IDS, VALID, [0])[0], (1 + 0.5 * 4 / 5) * second @ first
    )


def test_it_is_the_mean_of_the_jacobians_that_torch_computes(tiny_llama: PreTrainedModel) -> None:
    anatomy, at = find_anatomy(tiny_llama), VALID[0]

    def last(embedded: Tensor) -> Tensor:
        kept: list[Tensor] = []
        handle = anatomy.blocks[-1].register_forward_hook(lambda *args: kept.append(args[2]))
        try:
            tiny_llama(inputs_embeds=embedded)
        finally:
            handle.remove()
        return kept[0][0, at].sum(dim=0)

    embedded = tiny_llama.get_input_embeddings()(IDS).detach()
    each = [torch.autograd.functional.jacobian(last, row[None])[:, 0, at] for row in embedded]
    expected = torch.stack(each).mean(dim=(0, 2))
    found = jacobians(anatomy, IDS, VALID, [0], prompts_a_row=len(IDS))[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_rows_dealt_out_to_prompts_are_those_of_each(tiny_llama: PreTrainedModel) -> None:
    anatomy = find_anatomy(tiny_llama)
    same = IDS[:1].expand(10, -1), VALID[:1].expand(10, -1)
    dealt = jacobians(anatomy, *same, [0, 2], prompts_a_row=1)
    whole = jacobians(anatomy, IDS[:1], VALID[:1], [0, 2])
    for layer, expected in whole.items():
        torch.testing.assert_close(dealt[layer], expected, atol=1e-5, rtol=1e-4)


def test_at_the_last_layer_it_is_the_logit_lens(tiny_llama: PreTrainedModel) -> None:
    anatomy = find_anatomy(tiny_llama)
    lens = jacobian_lens.fit(anatomy, Blocks(IDS, torch.zeros_like(IDS)), [3])
    assert lens == LogitLens([3], anatomy, "jacobian-lens")


def test_prompts_leave_out_sinks_the_last_position_and_what_lies_behind_the_text() -> None:
    token_ids = torch.arange(3 * 200).reshape(3, 200)
    documents = torch.zeros(3, 200, dtype=torch.long)
    documents[1, 100:] = -1  # the text ends here
    documents[2, :150] = -1  # a prompt, and what follows it
    ids, valid = prompts(Blocks(token_ids, documents), seed=0)
    of_block = {int(row[0]) // 200: mask for row, mask in zip(ids, valid, strict=True)}
    assert ids.shape == (3, 128)
    ends = {block: (int(at.nonzero()[0]), int(at.nonzero()[-1])) for block, at in of_block.items()}
    assert ends == {0: (16, 126), 1: (16, 99), 2: (16, 126)}
    assert len(prompts(Blocks(token_ids.repeat(99, 1), documents.repeat(99, 1)), seed=0)[0]) == 100


def test_without_a_position_it_says_so() -> None:
    blocks = Blocks(IDS, torch.full_like(IDS, -1))
    with pytest.raises(DataError, match="needs a training block with a position"):
        prompts(blocks, seed=0)
