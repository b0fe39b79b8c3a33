"""What pages share: figures, tables, numbers, templates.

rows          rows of results: schema, domains, the probe and the ceiling
numbers       metrics, digits, intervals, missing numbers
visible_text  text of a run made visible and harmless
tables        cells and tables
facts         how a run was made
colours       colours of offsets, runs and maps; line styles
svg           matplotlib figures as inline SVG
axes          size, labels, ticks and grid of a figure
end_labels    names at the ends of lines
line_figures  curves over layers, by depth and by position
waterfall     from floor to ceiling, step by step
figure        a figure of a page with its message
templates     templates, styles and scripts
"""
