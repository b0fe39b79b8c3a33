"""Held-out passages token by token: a part of the page of a run.

inspector  the part, as the page's template shows it
passages   the passages of a run, within a number of bytes
packing    numbers of many positions in few bytes
"""
