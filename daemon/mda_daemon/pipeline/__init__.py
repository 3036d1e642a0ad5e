"""From message to memory and from request to reply: queue, ingest, commits, requests, the worker.

Imports contract, config, host, mqtt, sources and storage. The network thread may enter the queue and
`Requests.busy`; the rest is the worker's alone.
"""
