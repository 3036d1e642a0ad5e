"""From a cue to memories: activate, fuse, spread, sharpen, rank, confidence, and the block for a prompt.

Reads only; imports everything but memory and transfer. The thread of the memory.
"""
