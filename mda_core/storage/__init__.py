"""The state file: SQLite, rows with checksums, journal, checkpoint, write-ahead log, reading damaged files.

The only room that knows sqlite3. It imports event, text and learning. Belongs to the memory's thread.
"""
