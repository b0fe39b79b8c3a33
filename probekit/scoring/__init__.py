"""Readouts become sums by document, sums rates with intervals, rates specialization."""
