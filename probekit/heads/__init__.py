"""Multi-token-prediction heads: their kinds, how they start, how they are read and stored.

kinds       configurations of heads; Medusa heads, linear heads, probes that decode a head
block_init  new blocks of a model's own class: as its last one, random, or the identity
heads       heads that read a backbone, each for its own offset, and their readout
files       heads as safetensors
export      Medusa heads as a serving engine reads them
queries     learned embeddings that ask the frozen model for later tokens
mask_tokens queries that learned nothing, read at every depth
transplants residual streams put behind a fixed prompt, token-fed
native      multi-token layers that a model brings along
training    heads trained, alone or jointly with the model
"""
