"""The command line: an ordinary client of the library.

main            the app: analyze, models, report; errors and exit codes
doctor          doctor, and the bundle for a bug report
flags           flags made from the fields of the settings
compare         compare and sweep
heads           heads
draft           draft
reproduce       reproduce
printing        the loaded model, verdict, aligned table and warnings on the terminal
export_figures  the flag --figures
allocation      what the allocator keeps of freed memory
"""
