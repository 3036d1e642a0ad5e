"""MQTT: topics and filters, the connection to the broker, and the only modules that import paho.

Imports config and errors. Callbacks run in paho's thread, everything else in the owner's thread.
"""
