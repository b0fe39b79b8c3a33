"""Gains, worked by hand; times that take turns; costs of passes."""

import torch
from transformers import PreTrainedModel

from probekit.drafting import cost
from probekit.drafting.chain import Step
from probekit.drafting.generate import Drafted
from probekit.drafting.measure import Continue, Prompt, gain, measure
from probekit.scoring.accepted_length import Share
from probekit.shapes import TokenIds

# A prompt of two tokens and eight more; of three passes, two could draft two tokens each.
TEXT = torch.tensor([[1, 2, 10, 11, 12, 13, 14, 15, 16, 17]])
STEPS = [
    Step(1, (), 0),  # the prompt's own pass gives 10
    Step(2, ((11,), (12,)), 2),  # and 13
    Step(5, ((0,), (15,)), 0),  # 14 instead; 15 would have been right behind it
    Step(6, ((15,), (0,)), 1),  # and 16
    Step(8, (), 0),  # 17, the last
]
DRAFTED, PROMPT = Drafted(TEXT, STEPS, 5), Prompt(TEXT[:, :2], 0)


def exactly(value: float) -> Share:
    return Share(value, None, None)


def test_a_gain_by_hand() -> None:
    found = gain([DRAFTED], [PROMPT], horizon=3, limit=8, seed=0)
    assert (found.n_tokens, found.n_passes) == (7, 4)
    assert found.tokens_per_forward == exactly(7 / 4)
    assert found.accepted == exactly(1.0)
    second, third = found.offsets
    assert (second.conditional, second.unconditional) == (exactly(2 / 3), exactly(2 / 3))
    assert (third.conditional, third.unconditional) == (exactly(1 / 2), exactly(2 / 3))


def test_methods_take_turns_and_every_prompt_is_kept_once() -> None:
    called: list[str] = []

    def method(name: str) -> Continue:
        def run(token_ids: TokenIds) -> Drafted:
            called.append(name)
            return Drafted(token_ids, [], 1)

        return run

    found = measure({"a": method("a"), "b": method("b")}, [PROMPT, PROMPT], repeats=2)
    assert called == ["a", "b", *"abba", *"baab"]
    assert [len(each.drafted) for each in found.values()] == [2, 2]
    assert [len(each.seconds) for each in found.values()] == [2, 2]


def test_costs_are_ratios_to_one_token(tiny_llama: PreTrainedModel) -> None:
    costs = cost.curve(tiny_llama, 8, lambda: None, tokens=(1, 4), repeats=3)
    assert [each.tokens for each in costs] == [1, 4]
    assert costs[0].ratio == 1
    assert costs[1].ratio == costs[1].seconds / costs[0].seconds
