"""`probekit heads`: train heads by several strategies and score them.

settings          settings of a study
study             a study in progress: model and text, settings, finished stages
probe_starts      linear probes that heads start as, and are held against
train_strategies  heads trained by each strategy, on a copy of the model
score_strategies  scores of every strategy and of the models they are compared with
layer_sweep       heads at several layers beside linear probes
standing          which strategies take part in an order
findings          tables: rates, paired differences, gap shares
verdict           the findings in sentences
document          the content of heads.json
study_heads       the whole job, from a model's name to the run folder
export_heads      Medusa heads of a finished study, written for a serving engine
"""
