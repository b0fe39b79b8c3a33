"""Figures for print, each with the numbers it was drawn from.

export             SVG, PDF, PNG and CSV of a figure
layout             small multiples and legends
layer_maps         maps of layers by offsets
sites              several places in a block
analysis           the figures of a run
comparison_panels  panels over several runs
comparison         the figures of a comparison
heads              the figures of a study of heads
drafts             the figures of a measured draft
figure_files       all of them as files, whichever document they are of
"""
