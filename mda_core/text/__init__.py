"""Text without vectors: terms for the lexical match, features of a text, sources and their filters.

Pure functions over strings; of the package only errors and limits are imported here. They may be called from
any thread, but the caches and the stemmer belong to the memory's thread.
"""
