"""A model's name becomes a loaded model, and the loaded model its anatomy.

catalogue     short names and families, from models.toml
locations     where a named model is: built in, a folder or the Hub
devices       device and dtype settings against what the machine has
loading_errors  what libraries raise about a checkpoint, in one sentence
quantization  weights quantized as asked, or as the checkpoint has them
adapters      an adapter of peft, on the model that it stands on
loading       a model and its tokenizer, loaded
objects       a model and a tokenizer given as objects, taken out of their wrappers
as_found      what a caller set in torch and in his model, put aside for a call
module_calls  which modules fire in one run, in what order, on what
rounding      how far two computations of one number may differ
output_path   from the last block to the logits: final path, scale, soft-cap
myopic_attention  a Llama's attention, trained without gradients of later tokens
anatomy       blocks, final norm, unembedding; `Anatomy.hidden` applies the final norm
"""
