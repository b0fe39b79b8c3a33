"""Run folders, finished stages, the plan and the checks before a run."""
