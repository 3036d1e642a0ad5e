"""What learns: Oja's rule, the subspace, links, retention, and the fixed arrays of a memory.

Numerics over numpy arrays, without disk and clock. It imports the features of texts. Belongs to the memory's
thread.
"""
