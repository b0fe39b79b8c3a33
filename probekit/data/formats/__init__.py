"""Files of text: what each is by its name, and what is read of it, in bounded memory.

kinds   what a file is by its name: rows, plain text, or what is not read, with the way out
plain   a file of plain text, up to a number of characters; why bytes are no text
lines   JSON lines, compressed or not
tables  rows of parquet
given   rows that are given in Python, named by their digest
"""
