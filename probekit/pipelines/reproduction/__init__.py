"""`probekit reproduce`: the paper's figures and table 1, measured again.

reproduce    the job: a figure or table, its models and text
figures      figures 1 and 2 of one model on one text
figure_runs  the same of several models and texts, kept as they are finished
table_1      strategies of training heads, scored where the paper scores them
document     what is written: reproduction.json, tables, the page
"""
