"""What readouts say, token by token, on a few passages.

passages          which passages, and what readouts say of each of their tokens
inspect_passages  the same, of a run's readouts on a few test passages
"""
