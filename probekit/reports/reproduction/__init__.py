"""The page of a repeated figure or table.

figures       accuracy by size and divergence by depth, drawn
paper_tables  the paper's own numbers
tables        what was measured beside the paper's numbers
sentences     the answer in words, how to read it, what it is too little for
page          all of it in one template, as Markdown and for a terminal
"""
