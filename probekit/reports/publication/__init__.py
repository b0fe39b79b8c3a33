"""Figures for print, each with the numbers it was drawn from."""
