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
    Mutation(
        "the caller's autocast rounds the scores",
        "probekit.models.as_found",
        'torch.autocast(str(device).partition(":")[0], enabled=False)',
        "torch.enable_grad()",
        (
            "tests/models/test_as_found.py"
            "::test_a_wrapped_model_in_any_state_of_torch_gives_the_plain_one_s_scores",
        ),
    ),
    Mutation(
        "a model stays in eval mode when a call ends in an error",
        "probekit.models.as_found",
        "            module.training = training",
        "            module.training = module.training and training",
        ("tests/models/test_as_found.py::test_the_mode_is_given_back_whatever_happens",),
    ),
    Mutation(
        "no earlier state is compared when later tokens change",
        "probekit.runs.doctor",
        "_relative(other[:, :earlier], resid[layer][:1, :earlier])",
        "_relative(other[:, :0].sum(), resid[layer][:1, :0].sum())",
        (
            "tests/runs/test_doctor.py"
            "::test_later_tokens_that_change_earlier_states_far_away_are_seen",
        ),
    ),
    Mutation(
        "an adapter is taken off its model instead of merged into it",
        "probekit.models.adapters",
        "adapted.merge_and_unload() if merge",
        "adapted.unload() if merge",
        (
            "tests/models/test_checkpoints.py"
            "::test_an_adapter_is_loaded_on_its_model_and_merged_into_it",
        ),
    ),
    Mutation(
        "the first token beyond the model is taken for one of its own",
        "probekit.models.loading",
        "if largest >= n_rows:",
        "if largest > n_rows:",
        (
            "tests/models/test_loading.py"
            "::test_a_token_that_the_model_has_no_row_for_is_refused_where_the_text_holds_it",
        ),
    ),
    Mutation(
        "myopic training leaves the values of past positions live",
        "probekit.models.myopic_attention",
        "self._by_head(self.v_proj(past))",
        "self._by_head(self.v_proj(hidden_states))",
        (
            "tests/models/test_myopic_attention.py"
            "::test_a_loss_reaches_its_own_position_as_ever_and_no_earlier_one",
        ),
    ),
)
