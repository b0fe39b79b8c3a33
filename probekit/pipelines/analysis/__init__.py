"""`probekit analyze`: measure one model on one text.

Read `analyze.run` first, then `measure.measure`.

finished          the finished run, read again
analyze           the job, from settings to the run folder; load_probes
estimate          how long it will take, part by part
measure           its stages in order: probes, scores, ceiling, codelength, passages
fits              which probes are fitted, to what; the fitting itself is in probekit.probes
scores            what readouts lose on the text
ceilings          the model marginalized, and with its output adapted to the text
learning          floor and best probe fitted to nested parts of the training text
causality         whether what is read of later tokens is used by the model
more_text         the same in words: whether more of it would move what is read
breakdown         classes of targets, calibration
inspection        what readouts say, token by token, on a few passages
verdict           what the scores say: rows, and the warnings; put together here
sentences         the verdict in words
by_offset         what was found at each offset, in cells
document          the content of results.json
"""
