"""`probekit analyze`: measure one model on one text.

analyze           the job, from settings to the run folder; load_probes
measure           its stages in order: probes, scores, ceiling, codelength, passages
fits              what is fitted, and to what
ceilings          the model marginalized, and with its output adapted to the text
passages          what readouts say, token by token
inspect_passages  the same, of a run's readouts on a few test passages
verdict           the sentences, headline numbers and warnings
document          the content of results.json
"""
