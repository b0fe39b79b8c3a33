"""Training heads, alone or jointly with the model.

recipes        strategies of training, and learning rates
trainable      what can be trained: heads, queries, or the model itself
lora           low-rank adapters on queries, keys and values
balanced_loss  the loss of several heads and its gradient, head by head
history        the learning curve, and which weights were kept
loop           steps, evaluations, checkpoints
train          one call that trains by a recipe
search         rate and length, by validation
"""
