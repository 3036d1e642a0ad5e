"""The machine around the process: systemd, logs, signals, memory limits, the allocator, metrics.

Imports text alone. Metrics are written by the worker, signals come to the main thread.
"""
