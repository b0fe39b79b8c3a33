"""`probekit compare` and `sweep`: several runs on one page.

paired_differences  two runs: differences with intervals, paired where positions are the same
configuration       settings and facts that differ between compared runs
warnings            what a reader must know before comparing
learning            differences that more training text would move by as much
verdict             the comparison in sentences: whether a larger model sees further
sentences           differences of two runs in words
compare             finished runs side by side: scores, differences, verdict, one page
sweep               analyze several models, each in a process of its own, then compare them
"""
