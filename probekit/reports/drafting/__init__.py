"""The page of a measured draft.

rows     what was tried, in words: drafters, shapes, the rows of one text
figures  predicted against measured, speed, the cost of a pass
tables   every number of draft.json that a reader compares
page     the page
"""
