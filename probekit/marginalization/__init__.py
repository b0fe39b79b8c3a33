"""The model's own distribution of a later token, the tokens between summed out.

branch_routes     three ways to run branch tokens through a model
branch_memory     the branches that were run, so that none is run twice
branch_tree       next-token log-probabilities after token paths
branch_engine     the fastest route that is right for a model, checked
joint_paths       the sum itself: over paths kept by their joint probability
continuations     what the model expects after one token alone
importance        the probability of a target, unbiased, by paths that matter for it
marginal_readout  the sum as a readout of many positions, and what it cost
sampled_nats      the unbiased cross-entropy of the targets of many positions
marginalize       the sum at one position, in one call
greedy_targets    the model's own greedy continuation as targets
nucleus_size      how many tokens the next one might be
"""
