"""Texts of which a part is context and no target: pairs behind their sources.

pairs        pairs of source and target, and their template
pair_tokens  pairs as tokens, the source a prompt
"""
