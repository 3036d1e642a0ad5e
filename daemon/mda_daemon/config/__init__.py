"""The configuration: its keys with their ranges, the file that holds them, what a reload changes.

Imports errors and text alone; how sources are checked is handed in. The main thread.
"""
