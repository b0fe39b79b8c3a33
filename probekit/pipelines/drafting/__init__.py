"""Measured drafts: what each way of drafting is accepted, costs and gains on one model and text.

settings    settings of a measured draft
candidates  what drafts: probes, floors, heads, queries, look-ups
predict     the accepted length that scores foretell; the prompts
trial       every candidate and shape on the same prompts, measured
document    the content of draft.json
sentences   what follows from it, in words
draft       `probekit draft`
"""
