"""What finds units: by vector, by term, by identity, by source. All of it follows from arrays and rows.

Imports learning, text and storage's rows; holds no state of its own. The thread of the memory.
"""
