"""Bugs in what is made of numbers: floors, ceilings, text, controls; joined to the table."""

from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "later tokens of a branch do not see where it was changed",
        "probekit.causal.rerun",
        "own = (branch >= 0) & (branch == branch[:, None])",
        "own = torch.eye(len(place), dtype=torch.bool)",
        (
            "tests/causal/test_rerun.py"
            "::test_a_change_reaches_what_running_the_whole_model_says_it_reaches",
        ),
    ),
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
    Mutation(
        "a long document gives its head, and no window",
        "probekit.data.tokenization",
        "start = int(document.sha256, 16) % (free + 1)",
        "start = 0",
        (
            "tests/data/test_tokenization.py"
            "::test_windows_lie_anywhere_in_long_documents_and_have_the_bytes_of_their_tokens",
        ),
    ),
    Mutation(
        "copies are looked for in the test text itself",
        "probekit.data.overlap",
        'if document.split == "train")',
        'if document.split != "validation")',
        (
            "tests/data/test_overlap.py"
            "::test_n_grams_of_the_test_text_that_stand_in_training_are_counted_by_domain",
        ),
    ),
    Mutation(
        "a tenth of the text tests, however few documents that is",
        "probekit.data.documents",
        "max(TEST_DOCUMENTS / n_documents, LEAST_TEST)",
        "max(0, LEAST_TEST)",
        (
            "tests/data/test_documents.py"
            "::test_in_order_of_their_hash_documents_train_and_enough_of_them_test[10-6-1-3]",
        ),
    ),
    Mutation(
        "a sampled path keeps its own weight, whatever its chance was",
        "probekit.marginalization.importance",
        "log_probs[row, token].double().exp() / chance",
        "log_probs[row, token].double().exp()",
        (
            "tests/marginalization/test_importance.py"
            "::test_the_probability_is_unbiased_whatever_the_guess[right]",
        ),
    ),
    Mutation(
        "the cross-entropy of a ceiling is that of the truncated paths",
        "probekit.runs.ceiling",
        'columns = ["nats", "top1", "top5", "joint", "joint_nats"]',
        'columns = ["nats", "top1", "top5", "joint", "joint_nats"]\n'
        '    positions = positions.assign(nats=positions["truncated_nats"])',
        ("tests/runs/test_ceiling.py::test_the_ceiling_of_a_run_is_exact_where_its_paths_are_few",),
    ),
    Mutation(
        "the joint hits of a ceiling are those of its marginals' modes",
        "probekit.marginalization.joint_paths",
        "mass, mode = total.clamp_max(1), _mode(sequences, joint)",
        "mass, mode = total.clamp_max(1), _mode(sequences.flip(0), joint)",
        (
            "tests/marginalization/test_sampled_nats.py"
            "::test_the_mode_is_that_of_the_joint_distribution",
        ),
    ),
    Mutation(
        "what the model expects is taken from the positions of one process alone",
        "probekit.marginalization.sampled_nats",
        "expected = _expected(self.engine, stream, drawn)",
        "expected = _expected(self.engine, stream, drawn if own is None else own)",
        (
            "tests/runs/test_ceiling.py"
            "::test_a_position_is_the_same_bits_whichever_blocks_are_marginalized",
        ),
    ),
    Mutation(
        "the rows of several processes stay in the order of the processes",
        "probekit.runs.stages",
        'return whole.sort_values(list(order), kind="stable", ignore_index=True)',
        "return whole",
        (
            "tests/runs/test_ranks.py"
            "::test_a_stage_is_merged_in_one_order_and_is_there_for_any_number_of_ranks",
        ),
    ),
    Mutation(
        "the control's targets change places among all positions",
        "probekit.probes.controls",
        "        first = _firsts(tokens[order])",
        "        order = np.argsort(draw.random(len(tokens)))\n        first = np.array([0])",
        (
            "tests/probes/test_controls.py"
            "::test_targets_change_places_among_positions_with_the_same_current_token",
        ),
    ),
    Mutation(
        "the untrained model has untrained embeddings and unembedding too",
        "probekit.probes.controls",
        "    made.load_state_dict(_outside_of_blocks(model, anatomy), strict=False)\n",
        "",
        (
            "tests/probes/test_controls.py"
            "::test_the_blocks_of_an_untrained_model_and_they_alone_are_drawn_anew[llama]",
        ),
    ),
    Mutation(
        "a strategy behind its linear probe takes part in an order",
        "probekit.pipelines.head_study.standing",
        "if behind > ROUNDING_NATS:",
        "if behind > 10:",
        (
            "tests/pipelines/head_study/test_verdict.py"
            "::test_a_strategy_behind_its_linear_probe_takes_part_in_no_order",
        ),
    ),
    Mutation(
        "each part of the text that is said to be fitted to is all of it",
        "probekit.pipelines.analysis.learning",
        "torch.arange(n_blocks) % one_in == 0",
        "torch.arange(n_blocks) % one_in >= 0",
        (
            "tests/pipelines/analysis/test_learning.py"
            "::test_parts_are_nested_and_hold_their_share_of_blocks",
        ),
    ),
    Mutation(
        "a gain counts as clear whatever its interval",
        "probekit.pipelines.analysis.more_text",
        "low is not None and low > 0 and",
        "low is not None and",
        (
            "tests/pipelines/analysis/test_learning.py"
            "::test_what_still_rises_is_said_to_be_at_least_that",
        ),
    ),
    Mutation(
        "the interval of a strategy leaves out its training seeds",
        "probekit.scoring.intervals",
        "seeds = np.vstack([np.ones(n_seeds), seed_weights(n_seeds, resamples, seed)])",
        "seeds = np.ones((1 + resamples, n_seeds))",
        ("tests/scoring/test_training_seeds.py::test_seeds_that_differ_widen_the_interval",),
    ),
    Mutation(
        "the last layer is its own rival",
        "probekit.scoring.specialization",
        "before = self.validation.layers(LINEAR, offset)[:-1]",
        "before = self.validation.layers(LINEAR, offset)",
        (
            "tests/scoring/test_specialization.py"
            "::test_the_last_layer_is_set_against_the_best_of_the_others",
        ),
    ),
    Mutation(
        "the verdict on late loss has no margin",
        "probekit.pipelines.analysis.sentences",
        "    if high < margin:\n",
        "    if high < 0:\n",
        (
            "tests/pipelines/analysis/test_late_loss.py"
            "::test_an_interval_says_lost_or_not_worth_mentioning_or_neither",
        ),
    ),
    Mutation(
        "bits per byte count what the tokenizer loses",
        "probekit.data.lost_text",
        "    n_bytes = len(text[first:last].encode()) - len(lost.encode())\n",
        "    n_bytes = len(text[first:last].encode())\n",
        ("tests/data/test_lost_text.py::test_what_a_tokenizer_of_each_kind_loses[unknown]",),
    ),
    Mutation(
        "a drawn token stands for itself alone",
        "probekit.probes.convex.shortlist",
        "bias[self.tokens] + self.weights.log()",
        "bias[self.tokens]",
        (
            "tests/probes/test_shortlist.py"
            "::test_the_partition_sum_over_a_shortlist_is_right_on_average_over_all_draws",
        ),
    ),
    Mutation(
        "what a shortlist misses is not in the certificate",
        "probekit.probes.convex.cell_fit",
        "max(self.descent.excess, missed)",
        "self.descent.excess",
        (
            "tests/probes/test_shortlist.py"
            "::test_a_shortlist_that_misses_mass_is_found_out_and_made_longer",
        ),
    ),
    Mutation(
        "a draft is made from the last token that was run, accepted or not",
        "probekit.drafting.chain",
        "row = length - 2 - (run - self.watch.rows)",
        "row = self.watch.rows - 1",
        (
            "tests/drafting/test_generate.py"
            "::test_drafting_loses_nothing_and_says_what_the_readout_says[llama]",
        ),
    ),
    Mutation(
        "the cache keeps the first candidates of a tree, whichever was accepted",
        "probekit.drafting.tree",
        "torch.cat([torch.arange(before, device=kept.device), before + kept])",
        "torch.arange(before + len(kept), device=kept.device)",
        (
            "tests/drafting/test_generate.py"
            "::test_drafting_loses_nothing_and_says_what_the_readout_says[llama]",
        ),
    ),
    Mutation(
        "a sampled draft is weighed by other chances than it was drawn with",
        "probekit.drafting.chain",
        "row[:] = process",
        "row = process",
        ("tests/drafting/test_sampling.py::test_a_sampled_chain_has_the_models_distribution",),
    ),
    Mutation(
        "copies are chosen as if they were different documents",
        "probekit.data.tokenization",
        "first.setdefault(document.sha256, i)",
        "first.setdefault(str(i), i)",
        (
            "tests/data/test_tokenization.py"
            "::test_copies_are_left_out_first_and_where_there_is_room_stand_on_one_side",
        ),
    ),
    Mutation(
        "all of a large text is held, however little of it is asked for",
        "probekit.data.formats.plain",
        "if not raw or len(text) > longest:",
        "if not raw:",
        ("tests/hostile/test_text.py::test_of_a_large_text_no_more_is_held_than_is_asked_for",),
    ),
    Mutation(
        "a folder of rows is read as text, brackets and all",
        "probekit.data.rows",
        'return kinds.kind(path) != "plain"',
        'return kinds.kind(path) != "plain" and path.parent.name != "d"',
        (
            "tests/hostile/test_cases.py"
            "::test_the_answer_is_one_sentence_and_listed[texts: a folder of rows]",
        ),
    ),
    Mutation(
        "the accepted length counts an offset whatever became of those before it",
        "probekit.scoring.accepted_length",
        'rates.rate("joint", readout',
        'rates.rate("top1", readout',
        (
            "tests/scoring/test_accepted_length.py"
            "::test_it_is_the_sum_of_products_of_conditional_acceptances",
        ),
    ),
)
