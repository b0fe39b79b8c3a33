"""Bugs in further readouts and offsets; joined to the table of planted bugs."""

from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "the Jacobian lens carries a layer by the transpose of the Jacobian",
        "probekit.probes.logit_lens",
        "@ self.transport[layer].T)",
        "@ self.transport[layer])",
        (
            "tests/probes/test_jacobian_lens.py"
            "::test_on_a_linear_model_it_is_the_product_of_its_matrices"
            "_and_reads_what_the_model_says",
        ),
    ),
    Mutation(
        "the Jacobian to later positions reaches those that do not count",
        "probekit.probes.jacobian_lens",
        "last.shape[-1])[:, None] * at[..., None]",
        "last.shape[-1])[:, None] * torch.ones_like(at)[..., None]",
        (
            "tests/probes/test_jacobian_lens.py"
            "::test_what_reaches_later_positions_is_added_where_it_lies_among_the_positions",
        ),
    ),
    Mutation(
        "the horizon passes over an offset at which nothing is read",
        "probekit.scoring.specialization",
        "                return offset - 1",
        "                continue",
        (
            "tests/scoring/test_horizon.py"
            "::test_the_horizon_of_a_chain_of_lag_nine_is_where_its_closed_form_ends",
        ),
    ),
    Mutation(
        "a mask token is read one place too early",
        "probekit.heads.mask_tokens",
        "streams[layer][offset]",
        "streams[layer][offset - 1]",
        (
            "tests/heads/test_mask_tokens.py"
            "::test_they_say_what_the_model_says_behind_a_prefix_and_mean_embeddings",
        ),
    ),
    Mutation(
        "a transplant is fed the token that it predicts",
        "probekit.heads.transplants",
        "last[mask[wanted], offset - 1]",
        "last[mask[wanted], min(offset, last.shape[1] - 1)]",
        (
            "tests/heads/test_transplants.py"
            "::test_in_a_chain_it_knows_what_tokens_fed_and_residual_tell",
        ),
    ),
    Mutation(
        "what is fed the tokens between is counted as a draft",
        "probekit.scoring.contrasts",
        "offset > 1 and blind and readout",
        "offset > 1 and readout",
        ("tests/scoring/test_transplants.py::test_no_finding_takes_what_is_token_fed",),
    ),
    Mutation(
        "a path that is kept may be drawn as well",
        "probekit.marginalization.importance",
        "sizes[kept, token] = 0",
        "pass",
        (
            "tests/marginalization/test_importance.py"
            "::test_where_all_paths_are_looked_at_the_sum_is_exact[1-343]",
        ),
    ),
    Mutation(
        "two groups of paths are drawn, too few to say their own error",
        "probekit.marginalization.importance",
        "GROUPS = 4",
        "GROUPS = 2",
        (
            "tests/marginalization/test_importance.py"
            "::test_the_probability_is_unbiased_whatever_the_guess[wrong]",
        ),
    ),
    Mutation(
        "what is read is taken where the model was marginalized",
        "probekit.scoring.specialization",
        "        return self._bits_of_layer(self.best_layer(offset), offset)",
        "        return v_information_bits(\n"
        "            self.marginal.nats(*self.floor(offset), offset),\n"
        "            self.marginal.nats(LINEAR, self.best_layer(offset), offset),\n"
        "        )",
        (
            "tests/pipelines/analysis/test_sentences.py"
            "::test_what_is_read_is_judged_on_all_test_positions",
        ),
    ),
    Mutation(
        "texts of different size weigh alike where positions are drawn",
        "probekit.scoring.rates",
        "by_seed *= (scale := self._scale(domain, split, positions))",
        "scale = self._scale(domain, split, positions)",
        (
            "tests/scoring/test_rates.py"
            "::test_in_a_draw_from_several_texts_each_weighs_as_it_does_in_all",
        ),
    ),
    Mutation(
        "two sets of positions are resampled apart",
        "probekit.scoring.rates",
        'documents = np.unique(self._inside(domain, split)["document"])',
        'documents = np.unique(parts[0]["document"])',
        (
            "tests/scoring/test_rates.py"
            "::test_sets_of_positions_that_lack_documents_have_the_same_resamples",
        ),
    ),
    Mutation(
        "a further site is read at the run's own",
        "probekit.pipelines.analysis.scores.sites",
        "Inputs(Streams(setup, own, site), inputs.targets)",
        "Inputs(Streams(setup, own, settings.sites[0]), inputs.targets)",
        (
            "tests/pipelines/analysis/test_sites.py"
            "::test_each_site_reads_what_was_planted_there_and_nothing_else",
        ),
    ),
    Mutation(
        "the layer of a site is chosen on test",
        "probekit.scoring.contrasts",
        "                layer = validation.best_layer(readout, offset)",
        "                layer = test.best_layer(readout, offset)",
        (
            "tests/scoring/test_contrasts.py"
            "::test_the_layer_of_a_site_is_chosen_on_validation_and_set_beside_the_first_site",
        ),
    ),
)
