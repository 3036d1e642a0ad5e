"""From a cue to memories: activation, fusion, spreading, sharpening, ranking, confidence, prompt block.

Reads only. It imports everything but memory and transfer. Belongs to the memory's thread.
"""
