"""Text without vectors: terms for the lexical match, text features, sources and their filters.

Pure functions over strings; from the package only errors and limits may be imported here. Any thread, but
the caches and the stemmer belong to the thread of the memory.
"""
