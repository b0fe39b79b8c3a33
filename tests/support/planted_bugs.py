"""The table of planted bugs, each with the tests of which one at least must catch it."""

from support import (
    planted_bugs_of_folders,
    planted_bugs_of_input,
    planted_bugs_of_method,
    planted_bugs_of_models,
    planted_bugs_of_readouts,
)
from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "targets lie behind, not ahead: the sign of the offset",
        "probekit.data.blocks",
        "targets[:, :-offset] = self.token_ids[:, offset:]",
        "targets[:, offset:] = self.token_ids[:, :-offset]",
        (
            "tests/data/test_targets.py"
            "::test_a_target_is_the_token_so_many_places_on_in_the_same_document",
        ),
    ),
    Mutation(
        "the last layer is read after the final norm",
        "probekit.activations.hooks",
        "    return PartialPass({layer: hooks.resid[layer][0] for layer in sorted(hooks.resid)},",
        "    for layer in hooks.layers & {anatomy.n_layers}:\n"
        "        hooks.resid[layer] = anatomy.hidden(hooks.resid[layer][0]), 0\n"
        "    return PartialPass({layer: hooks.resid[layer][0] for layer in sorted(hooks.resid)},",
        (
            "tests/activations/test_residual_stream.py"
            "::test_layers_are_the_hidden_states_except_for_the_last_which_is_not_normed",
        ),
    ),
    Mutation(
        "layers are off by one",
        "probekit.activations.hooks",
        "blocks[layer - 1].register_forward_hook",
        "blocks[max(layer - 2, 0)].register_forward_hook",
        (
            "tests/activations/test_residual_stream.py"
            "::test_layers_are_the_hidden_states_except_for_the_last_which_is_not_normed",
        ),
    ),
    Mutation(
        "documents are split by their place: the same text is in train and test",
        "probekit.data.documents",
        "    return [part[document.sha256] for document in documents]",
        "    return [part[digests[i * len(digests) // len(sizes)]] for i in range(len(sizes))]",
        ("tests/data/test_documents.py::test_identical_documents_are_on_one_side",),
    ),
    Mutation(
        "test documents leak into the training blocks",
        "probekit.data.blocks",
        "if document.split == part]",
        'if document.split in {part, "test"}]',
        ("tests/runs/test_held_out.py::test_the_blocks_of_a_split_hold_its_documents_alone",),
    ),
    Mutation(
        "targets cross the ends of documents: the mask is dropped",
        "probekit.data.blocks",
        "(here != OUTSIDE) & together",
        "here != OUTSIDE",
        ("tests/data/test_blocks.py::test_a_target_lies_in_the_position_s_own_document",),
    ),
    Mutation(
        "a BOS of id 0 is taken for none",
        "probekit.data.blocks",
        "    if bos is not None:\n        rows",
        "    if bos:\n        rows",
        ("tests/data/test_blocks.py::test_id_0_is_a_bos_like_any_other",),
    ),
    Mutation(
        "the soft-cap is forgotten",
        "probekit.models.output_path",
        "if softcap is None else softcap * torch.tanh(logits / softcap)",
        "if softcap is None else logits",
        (
            "tests/models/test_anatomy.py::test_decoding_the_last_block_gives_the_model_s_logits[gemma2]",
        ),
    ),
    Mutation(
        "the lens decodes without the final norm",
        "probekit.models.anatomy",
        "        for module in self.final:",
        "        for module in self.final[1:]:",
        ("tests/probes/test_logit_lens.py::test_earlier_layers_go_through_the_final_norm",),
    ),
    Mutation(
        "the output's scale is dropped from what probes are fitted to",
        "probekit.probes.convex.affine_objective",
        "    return anatomy.unembedding.detach() * anatomy.scale",
        "    return anatomy.unembedding.detach()",
        (
            "tests/probes/test_affine_objective.py::test_the_outputs_scale_is_in_unembedding_and_bias",
        ),
    ),
    Mutation(
        "marginals are renormalised twice",
        "probekit.marginalization.joint_paths",
        "mean = mean / total.float()[:, None]",
        "mean = mean / total.float()[:, None] ** 2",
        (
            "tests/marginalization/test_marginal_readout.py"
            "::test_one_branch_gives_the_distribution_after_the_likeliest_token_whole",
        ),
    ),
    Mutation(
        "the mask of branches is boolean, which eager attention adds to its scores",
        "probekit.marginalization.branch_routes",
        "    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[None, None]",
        "    return mask.masked_fill_(~visible, torch.finfo(dtype).min)[None, None] == 0",
        (
            "tests/marginalization/test_branch_engine.py"
            "::test_branches_equal_one_by_one_on_every_architecture[llama-eager]",
        ),
    ),
    Mutation(
        "a branch sees its ancestor's sisters",
        "probekit.marginalization.branch_routes",
        "places == ancestors[:, None]",
        "places <= ancestors[:, None]",
        (
            "tests/marginalization/test_branch_engine.py"
            "::test_branches_equal_one_by_one_on_every_architecture[llama-sdpa]",
        ),
    ),
    Mutation(
        "the sliding window is not drawn into the mask of branches",
        "probekit.marginalization.branch_routes",
        "(prefix <= ends) & (ends + depth - prefix < reach)",
        "prefix <= ends",
        (
            "tests/marginalization/test_branch_engine.py"
            "::test_branches_equal_one_by_one_on_every_architecture[mistral-sdpa]",
        ),
    ),
    Mutation(
        "a tie counts as a hit",
        "probekit.scoring.losses",
        "(((k - above) / tied).clamp(0, 1) for k in TOP)",
        "((k - above).clamp(0, 1).float() for k in TOP)",
        (
            "tests/scoring/test_losses.py::test_top_k_gives_a_constant_readout_its_share_and_no_more",
        ),
    ),
    Mutation(
        "bfloat16 logits are ranked and summed as they are",
        "probekit.scoring.losses",
        "wide = chunk.float()",
        "wide = chunk",
        ("tests/scoring/test_losses.py::test_bfloat16_logits_are_cast_up",),
    ),
    Mutation(
        "V-information has the wrong sign",
        "probekit.scoring.losses",
        "    return (floor_nats - nats) / math.log(2)",
        "    return (nats - floor_nats) / math.log(2)",
        ("tests/scoring/test_losses.py::test_bits_are_positive_for_a_readout_below_the_floor",),
    ),
    Mutation(
        "the unigram is counted on test",
        "probekit.pipelines.analysis.measure",
        'train = setup.blocks["train"].token_ids, targets["train"]',
        'train = setup.blocks["test"].token_ids, targets["test"]',
        (
            "tests/runs/test_held_out.py"
            "::test_other_test_documents_change_nothing_that_was_fitted_or_chosen",
        ),
    ),
    Mutation(
        "resamples differ by readout: differences are not paired",
        "probekit.scoring.rates",
        "        return np.asarray(self.values[metric][list(self.cells).index(key)])",
        "        rate = self.values[metric][list(self.cells).index(key)]\n"
        '        order = np.random.default_rng(len(f"{key}")).permutation(len(rate) - 1)\n'
        "        return np.concatenate([rate[:1], rate[1:][order]])",
        ("tests/scoring/test_rates.py::test_differences_are_paired",),
    ),
    Mutation(
        "intervals are plain percentiles, too narrow where documents are few",
        "probekit.scoring.intervals",
        "    if documents > 1:",
        "    tail = (1 - level) / 2\n    if documents < 1:",
        ("tests/scoring/test_intervals.py::test_intervals_cover_the_truth_as_often_as_they_say",),
    ),
    Mutation(
        "the best layer is chosen on test",
        "probekit.scoring.specialization",
        "return self.validation.best_layer(LINEAR, offset)",
        "return self.test.best_layer(LINEAR, offset)",
        (
            "tests/scoring/test_specialization.py"
            "::test_the_best_layer_is_chosen_by_validation_and_read_on_test",
        ),
    ),
    Mutation(
        "the balance of heads is upside down: the ratio of root mean squares inverted",
        "probekit.heads.training.balanced_loss",
        "return self.rms / own / len(nats)",
        "return own / self.rms / len(nats)",
        (
            "tests/heads/training/test_balanced_loss.py::test_the_factor_of_a_head_is_the_ratio_of_root_mean_squares",
        ),
    ),
    Mutation(
        "heads read the layer below the one that they name",
        "probekit.activations.backbone",
        "BackboneOutput(captured.resid,",
        "BackboneOutput({k: captured.resid[max(k - 1, 0)] for k in captured.resid},",
        (
            "tests/activations/test_backbone.py"
            "::test_the_layers_are_those_of_the_stream_and_the_call_gives_the_last_block[llama]",
        ),
    ),
    Mutation(
        "the query behind a token sees the token that it is to predict",
        "probekit.heads.queries",
        "tokens = (level == 0) & (start <= start[:, None])",
        "tokens = (level == 0) & (start <= (start + level)[:, None])",
        ("tests/heads/test_queries.py::test_a_query_is_blind",),
    ),
    Mutation(
        "the tokens of a pair's prompt are targets too",
        "probekit.data.blocks",
        "documents[row, start + span.start - 1 : start + span.stop]",
        "documents[row, start : start + span.stop]",
        (
            "tests/data/test_blocks.py::test_targets_of_a_pair_are_predicted_from_its_last_prompt_token_on",
        ),
    ),
    Mutation(
        "a head that starts as a probe keeps the model's own bias",
        "probekit.heads.training.balanced_loss",
        "self.biases = {offset: scaled_bias(decoder) for offset, decoder in decoders.items()}",
        "self.biases = {offset: scaled_bias(anatomy) for offset, decoder in decoders.items()}",
        (
            "tests/heads/test_heads_from_probes.py::test_the_loss_is_that_of_the_probes_logits[llama]",
        ),
    ),
    Mutation(
        "a strategy of table 1 is scored on the model without its adapter",
        "probekit.pipelines.head_study.train_strategies",
        """    if recipe.joint:
        lora.load(""",
        """    if recipe.finetuned:
        lora.load(""",
        (
            "tests/pipelines/reproduction/test_table_1.py::"
            "test_heads_are_scored_on_the_model_that_was_trained_with_them",
        ),
    ),
    *planted_bugs_of_method.MUTATIONS,
    *planted_bugs_of_models.MUTATIONS,
    *planted_bugs_of_folders.MUTATIONS,
    *planted_bugs_of_input.MUTATIONS,
    *planted_bugs_of_readouts.MUTATIONS,
)
