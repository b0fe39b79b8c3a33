"""Myopic attention: the forward pass of any other, and no gradient of a later token."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from probekit.models.myopic_attention import make_myopic

AT = 9


@pytest.fixture(scope="module")
def pair(tiny_llama: LlamaForCausalLM) -> tuple[LlamaForCausalLM, LlamaForCausalLM]:
    """Return a model and its myopic copy, with gradients."""
    plain, myopic = (deepcopy(tiny_llama).requires_grad_(True) for _ in range(2))
    for model in (plain, myopic):
        model.set_attn_implementation("eager")
    make_myopic(myopic.model.layers)
    return plain, myopic


def derivatives(model: LlamaForCausalLM) -> tuple[Tensor, Tensor]:
    """Return those of the loss at position AT: by the states into each block, by its keys' weights.

    Shapes (blocks, positions, width) and (weights of the last block).
    """
    ids = torch.arange(2, 18)[None]
    states: list[Tensor] = []
    handles = [
        block.register_forward_pre_hook(lambda _, args: states.append(args[0]))
        for block in model.model.layers
    ]
    logits = model(ids, use_cache=False).logits
    for handle in handles:
        handle.remove()
    loss = -logits[0, AT].log_softmax(-1)[ids[0, AT + 1]]
    *by_state, by_weight = torch.autograd.grad(
        loss, [*states, model.model.layers[-1].self_attn.k_proj.weight]
    )
    return torch.cat(by_state), by_weight


def test_it_predicts_what_the_model_predicts(
    pair: tuple[LlamaForCausalLM, LlamaForCausalLM],
) -> None:
    ids = torch.arange(2, 34).view(2, 16)
    plain, myopic = (model(ids, use_cache=False).logits for model in pair)
    torch.testing.assert_close(myopic, plain, rtol=0, atol=1e-6)


def test_a_loss_reaches_its_own_position_as_ever_and_no_earlier_one(
    pair: tuple[LlamaForCausalLM, LlamaForCausalLM],
) -> None:
    (plain, _), (myopic, _) = map(derivatives, pair)
    assert (plain[:, :AT].abs().amax(dim=(1, 2)) > 0).all()
    assert (myopic[:, :AT] == 0).all()
    torch.testing.assert_close(myopic[:, AT], plain[:, AT])


def test_the_weights_of_past_keys_learn(pair: tuple[LlamaForCausalLM, LlamaForCausalLM]) -> None:
    # No other way than through its own keys leads to the last block's weights.
    (_, plain), (_, myopic) = map(derivatives, pair)
    torch.testing.assert_close(myopic, plain)
