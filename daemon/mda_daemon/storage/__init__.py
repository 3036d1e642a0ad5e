"""The state folder: its lock, the memories of all spaces, their backups, and state files read offline.

Imports config, host and mda_core. `Spaces` and `Backups` belong to the worker's thread, `StateFolder` to the
main thread.
"""
