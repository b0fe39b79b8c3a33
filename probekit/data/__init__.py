"""Texts become documents, documents token blocks, blocks targets.

documents      `split`: no document, nor one of the same content, is in two splits
builtin_text   the built-in text: documentation and source of the standard library
formats        what a file is by its name, and what is read of it
presets        texts of the Hub by name, each at one commit
rows           rows of files, folders or a Hub data set, and their fields
prompted       pairs, the source a prompt; chats, the assistant's answers the targets
texts          open a text: documents, pairs or chats, as its first row says
tokenization   documents as tokens, windows of long ones, pieces of few ones
lost_text      what a tokenizer loses of a text: dropped characters, unknown tokens
overlap        test text that stands in training text too
dataset        all texts that settings name, read and tokenized
separator      what stands between documents in a block
blocks         token blocks, and the mask of positions that have a target
targets        targets by offset; positions drawn for what is costly
token_text     tokens spelt for a reader
token_classes  pieces of words, repeats, frequent and rare targets
"""
