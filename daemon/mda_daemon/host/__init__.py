"""The operating system around the process: systemd, logs, signals, memory limits, the allocator, metrics.

Imports only text. Signal handlers run in the main thread; metrics are written by the worker's thread, except
for the counters that name another.
"""
