"""Run folders, finished stages, the plan and the checks before a run.

doctor    checks of every assumption that an analysis makes of a model
bundle    what a report of a bug needs to say, without secrets
plan      memory and time that a run will take
separator what stands between documents: which separator the model knows
setup     from settings to a model, its anatomy, token blocks and a plan
folder    the run folder: opened, written whole, read again
reading   files of a run folder, read undamaged and of the right shape
own_files which files of a folder are a run's, and may be removed
lock      one process at a time writes into a run folder
ranks     the processes of one run, and where they meet
stages    finished work of an unfinished run, under what could change it
streams   the residual streams of a run, each captured once
ceiling   the model marginalized at the drawn positions
metadata  what results.json and heads.json say of a run and its model
"""
