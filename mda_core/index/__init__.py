"""Finding units: by vector, by term, by identity and by source.

Nothing here is saved: it all follows from the units' arrays and from the rows on disk. It imports learning,
text and the rows of storage. Belongs to the memory's thread.
"""
