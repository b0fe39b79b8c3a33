"""The page of a study of heads.

tables   scores, differences, costs, training, the sweep
panels   dots, learning curves and the sweep, drawn
figures  the figures of the page
first_screen  the figure that answers, and the table beside it
page     all of it in one template
"""
