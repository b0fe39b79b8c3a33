"""How convex probes are fitted.

cell_fit          one cell: its shortlists, its descents, what validation chooses from
shortlist         the tokens that a fit looks at, a sample for all that never occur
certificate       how far above the minimum over the vocabulary a shortlist leaves a fit
affine_objective  the objective, and its gradient
curvature         the preconditioner of the descent
lbfgs             minimise from one value and gradient at a time
"""
