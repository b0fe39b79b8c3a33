"""Tell whether what a probe reads of a later token is used by the model, or only readable.

A part of the residual stream is taken out at one position, and the rest of the model runs on.

subspaces     the part that a probe reads of t+k and not of t+1; random parts of the same size
rerun         the blocks behind a layer, run again from residual streams that were changed
effects       what it costs the next token, and the later ones when their turn comes
used          from these costs to a verdict: used, not used, cannot tell
"""
