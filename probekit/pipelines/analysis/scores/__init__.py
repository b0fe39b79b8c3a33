"""What readouts lose on the text.

scorer  fits and scores the readouts of one rank
sites   further places in a block beside the run's own
"""
