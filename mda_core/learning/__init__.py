"""What learns: Oja's rule, the subspace, links, retention, and the fixed arrays of a memory.

Numerics over numpy arrays, no disk and no clock; imports text for what it weighs. The thread of the memory.
"""
