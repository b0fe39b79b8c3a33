"""What the commands do: the only place where the packages are put together.

analysis      `probekit analyze`: measure one model on one text
comparison    `probekit compare` and `sweep`: several runs on one page
head_study    `probekit heads`: train heads by several strategies and score them
drafting      `probekit draft`: readouts draft, the model verifies, timed
reproduction  `probekit reproduce`: the paper's figures and table 1, measured again
publishing    `probekit push` and `report`: a finished job, whichever it is, read and put on the Hub
arguments     arguments of Python calls: texts, lists, errors in words of Python
fitted        the probes of a run, applied to any text
further       the readouts that `--readout` asks for, beside probes and logit lens
calibration   `probekit doctor --calibrate`: texts with known answers
"""
