"""The residual stream: hooks that capture it, batch by batch, in memory, on disk or live.

hooks               one forward pass, run no further than the last layer captured
transformer_bridge  sites inside a block, through transformer_lens
residual_stream     a re-iterable of batches of a text, live or stored
backbone            what heads read: layers, and the call of the last block
"""
