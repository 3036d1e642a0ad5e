"""The state folder: its lock, the memories of all spaces, backups, and files read without a daemon.

Imports config, host and mda_core. The worker's thread, but for the folder, which is the main thread's.
"""
