"""The state file: SQLite, rows with checksums, the journal, the write-ahead log, and what damage leaves.

Nobody else knows sqlite3; imports event, text and learning, never what is above. The thread of the memory.
"""
