"""The command line: an ordinary client of the library.

main            the app: analyze, doctor, models, report; errors and exit codes
flags           flags made from the fields of the settings
compare         compare and sweep
heads           heads
draft           draft
reproduce       reproduce
printing        verdict, aligned table and warnings on the terminal
export_figures  the flag --figures
"""
