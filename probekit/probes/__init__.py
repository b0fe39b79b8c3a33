"""Linear probes and other families, the logit lens, n-gram floors, controls.

probe                fitted probes of any family, as a readout
files                fitted probes, written and read
grid                 loops over layers and offsets that all fits share; fits nothing itself
waves                which cells are fitted together: as many as memory takes
moments              streaming means, covariances and ridge regression
linear               `fit`: linear, concat and linear-full, convex, by L-BFGS
convex               how: the objective of a cell, its shortlist, descent and certificate
nonconvex            `fit`: mlp and linear-lowrank, by AdamW
nonconvex_families   where these start, and what they compute
sklearn_reference    `fit`: a logistic regression by scikit-learn, to compare with
logit_lens           the logit lens, the model itself, and KL(layer || last layer)
jacobian_lens        the Jacobian lens: a layer carried to the last one, then decoded
ngram                unigram and skip-bigram, which see tokens alone
controls             permuted targets, and models with untrained blocks
codelength           online codelength: the bits that a text takes while a probe is learned
"""
