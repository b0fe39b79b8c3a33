"""What readouts lose on the text.

scorer  fits and scores the readouts of one rank
"""
