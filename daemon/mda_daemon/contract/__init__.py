"""The payloads of the contract: events and requests from bytes to checked values, replies to bytes.

Pure functions; imports errors, text, times and mda_core's events and limits. Any thread.
"""
