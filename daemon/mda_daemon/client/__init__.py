"""A client of the daemon over MQTT, for the command line and for programs.

Imports config and mqtt, never the pipeline, and no numpy. Callers wait in their own thread.
"""
