"""Texts of which a part is context and no target: pairs, and chats.

pairs        pairs of source and target, and their template
pair_tokens  pairs as tokens, the source a prompt
chats        chats, and the fields that hold them
chat_tokens  chats as tokens in the tokenizer's template, what the assistant says a target
"""
