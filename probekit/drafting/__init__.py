"""Drafting: what a readout says of later tokens, verified by the model in its next forward pass.

reading   what a verification pass showed of the position before the newest token
drafters  drafters: readouts that propose the tokens behind the newest one
chain     one candidate a position, on transformers' assisted generation
slots     what a packed pass runs: tokens, candidates, queries, and what each sees
tree      several candidates a position, and queries behind them, in packed forward passes
generate  text that is drafted and verified, and what was accepted step by step
measure   acceptance, tokens a forward pass, and speed beside greedy decoding
cost      what a pass over several new tokens costs
"""
