"""The page over several runs.

quantities      headline quantities: words, units, which way is better
rows            the rows of a comparison by what they are about
axis_positions  where runs stand on an axis of parameters
drawing         quantities by parameters and curves by depth, drawn
figures         quantities by parameters, from rows
curves          curves over relative depth, from rows
tables          headline numbers, differences, models, texts
page            all of it in one template
"""
