"""Texts become documents, documents token blocks, blocks targets."""
