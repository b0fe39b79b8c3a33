"""A finished job, read whatever it is, and published on the Hub.

read_job  its document and its page
card      the card of its repository
push      what goes up, and the upload
"""
