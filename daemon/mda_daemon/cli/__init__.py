"""The command line `mda`: a module per command, and what they print.

May import every other room; nothing imports it. Commands run in the main thread.
"""
