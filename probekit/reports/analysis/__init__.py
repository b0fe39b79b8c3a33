"""The page of one run.

rows          the rows of a run by what they are about
page_budget   which metrics fit on a page
first_screen  the table of offsets, the specialization curve, the waterfall
tables        marginalization, floor to ceiling, all readouts
specialization  readout gap, late loss, the next token
breakdown     classes of targets and calibration
contrasts     controls, probe families, several tokens
curves        curves over layers and the lens' divergence
horizon       bits against offset
sites         bits by layer at each place in a block
learning      loss by training positions, codelength
nucleus_size  how many tokens the next one might be
layer_maps    layers by offsets as HTML tables
not_run       what was not part of the run
page          all of it in one template
"""
