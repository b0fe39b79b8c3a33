"""Bugs in what is made of numbers: floors, ceilings, text, controls; joined to the table."""

from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "a token that training never saw gets next to nothing",
        "probekit.probes.ngram",
        "return probs(min(STRENGTHS, key=",
        "return probs(max(STRENGTHS[:1], key=",
        (
            "tests/probes/test_ngram.py"
            "::test_a_token_that_training_never_saw_costs_what_such_tokens_are_worth",
        ),
    ),
    Mutation(
        "what is recovered counts from the skip-bigram, however weak",
        "probekit.scoring.specialization",
        "        return self.validation.token_floor(offset)",
        '        return "skip-bigram", None',
        (
            "tests/scoring/test_specialization.py"
            "::test_the_floor_is_the_better_readout_of_the_token_by_validation",
        ),
    ),
    Mutation(
        "documents are parted by the end token, whether the model knows it or not",
        "probekit.runs.separator",
        "chosen = next(s for s in found if",
        "chosen = next(s for s in found if s.kind or",
        ("tests/runs/test_separator.py::test_bos_parts_documents_where_the_end_token_disturbs",),
    ),
    Mutation(
        "a separator is a target although the model never saw it",
        "probekit.runs.separator",
        "scored=cost <= guess",
        "scored=cost >= 0",
        ("tests/runs/test_separator.py::test_an_end_token_that_the_model_never_saw_is_no_target",),
    ),
)
