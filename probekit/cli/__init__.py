"""The command line: an ordinary client of the library.

main            the app: analyze, models, report; errors and exit codes
doctor          doctor, and the bundle for a bug report
flags           flags made from the fields of the settings
compare         compare and sweep
heads           heads
draft           draft
reproduce       reproduce
push            push
options         flags that several commands have
values          values of flags: counts such as 10k, and lists
help            what -h and --help-all say
printing        the loaded model, verdict, aligned table, warnings and paths on the terminal
stopping        Ctrl-C and SIGTERM
allocation      what the allocator keeps of freed memory
"""
