"""The command line: one module a command, what they print, and the checks before a start.

May import everything; nothing imports it. The main thread.
"""
