"""Readouts become sums by document, sums rates with intervals, rates specialization.

losses          cross-entropy and its gradient, top-k accuracy, KL, V-information
score           run readouts on a text and sum their losses by document
positions       the same, position by position, with confidence
calibration     whether a readout is as sure as it is right
systematic      draws by size: the large for sure, the rest by chance
intervals       bootstrap over documents, and Wilson's interval of a share
rates           sums by document become rates with intervals
few_documents   the warning that documents are too few for a sure interval
specialization  best layer, forgotten bits, recovered share, saturation, adaptation
accepted_length how many drafted tokens are accepted, foretold and counted
classes         where what is read comes from
contrasts       probe against controls, families against linear, offsets together
"""
