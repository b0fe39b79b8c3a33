"""How many drafted tokens would be accepted is said where targets are the model's own tokens."""

import dataclasses
import math

from probekit.pipelines.analysis.verdict import findings
from probekit.scoring.rates import DocumentSums
from support.made_scores import LAYERS, sums

# By layer, the share of positions where t+2 is right, on validation and on test.
ON_VALIDATION, ON_TEST = (0.1, 0.2, 0.4, 0.3), (0.1, 0.5, 0.25, 0.3)


def drafting() -> DocumentSums:
    made = sums()
    table = made.table.copy()
    for split, shares in (("validation", ON_VALIDATION), ("test", ON_TEST)):
        for layer, share in enumerate(shares):
            at = (table["readout"] == "linear") & (table["offset"] == 2)
            at &= (table["layer"] == layer) & (table["split"] == split)
            table.loc[at, "joint_sum"] = share * table.loc[at, "n"]
    return dataclasses.replace(made, table=table)


def test_the_layer_is_chosen_on_validation_and_its_tokens_counted_on_test() -> None:
    lead = findings(drafting(), LAYERS, 2, target="model").verdict[0]
    assert lead.endswith(
        "Of t+2, drafted by the probes of layer 2, the model would accept 0.25 [0.25, 0.25] a "
        f"pass, 1.25 tokens a forward pass; drafted by a skip-bigram, {math.exp(-5):.2f}."
    )


def test_of_the_text_s_own_tokens_nothing_is_said_of_drafts() -> None:
    told = findings(drafting(), LAYERS, 2, target="text")
    assert "accept" not in " ".join(told.verdict)
