"""Planted bugs in how a model is understood and taken."""

from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "a factor before the unembedding is left out",
        "probekit.models.output_path",
        "return (*final, Factor(factor))",
        "return final",
        (
            "tests/hostile/test_models.py::test_a_model_that_is_built_as_few_are_is_read_right[minicpm3]",
        ),
    ),
    Mutation(
        "the state of a convolution is taken for keys and values",
        "probekit.marginalization.branch_routes",
        'hasattr(layer, "update_conv_state")',
        'hasattr(layer, "update_keys")',
        (
            "tests/hostile/test_models.py::test_a_model_that_is_built_as_few_are_is_read_right[lfm2]",
        ),
    ),
)
