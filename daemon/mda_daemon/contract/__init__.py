"""The payloads of the contract: decodes and checks events and requests, encodes replies.

Pure functions for any thread. Imports text, times, and the errors, events and limits of mda_core.
"""
