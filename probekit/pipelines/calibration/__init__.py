"""`probekit doctor --calibrate`: measure where the right answer is known.

llama_weights   Llamas whose weights are written, so that their predictions are known
markov          Markov chains, with the closed form of every offset
planted_signal  a model that holds the token at t + 2 at some layers alone
hidden_markov   hidden Markov processes, with the belief state and the best prediction
known_text      a known text taken in memory through the steps of an analysis
result          one measured number beside its exact value
calibrate       every kind of number that a report shows, beside its exact value
"""
