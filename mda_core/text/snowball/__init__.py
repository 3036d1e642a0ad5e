"""The English stemmer of `snowballstemmer` 3.1.1 (BSD-3-Clause, see COPYING), file by file as the package has it.

The package has 35 other languages and loads them all, 3 MB that a small board has better uses for. Its stems are part
of every state file: tests/mda_core/text/test_stemmer.py holds these files to what the package gives.
"""
