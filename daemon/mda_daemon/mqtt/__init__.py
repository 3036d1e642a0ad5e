"""The broker: topics and their filters, the connection, and the one place that knows paho.

Imports config, errors and text. Callbacks run in paho's thread, the rest in its owner's.
"""
