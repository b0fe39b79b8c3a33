"""Bugs in how run folders are kept and read again; joined to the table."""

from support.planted_bug import Mutation

MUTATIONS = (
    Mutation(
        "a damaged file of a finished run is read as it is",
        "probekit.digests",
        "    if not known:",
        "    if known is None:",
        (
            "tests/hostile/test_run_folder.py"
            "::test_no_flipped_byte_changes_a_number[documents.parquet]",
        ),
    ),
    Mutation(
        "a stage that an earlier process finished is taken from the one around it",
        "probekit.progress",
        "inside = self._spent - before",
        "inside = sum(self.seconds.values()) - before",
        (
            "tests/test_progress.py::test_a_stage_inside_another_that_an_earlier_process"
            "_finished_takes_nothing_from_it",
        ),
    ),
)
