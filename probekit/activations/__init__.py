"""The residual stream: hooks that capture it, batch by batch, in memory, on disk or live.

hooks               `resid_post`: layers captured in one forward pass, run no further
transformer_bridge  sites inside a block, through transformer_lens
residual_stream     a re-iterable of batches of a text, live or stored
backbone            what heads read: layers, and the call of the last block
"""
