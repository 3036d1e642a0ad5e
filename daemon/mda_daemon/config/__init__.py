"""The configuration: its keys and ranges, how its file is read, and what a reload changes.

Imports only errors and text; the checks of `sources:` are passed in. Used by the main thread.
"""
