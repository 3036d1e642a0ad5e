"""From message to memory and from request to reply: queue, ingest, commits, requests, the worker.

Imports contract, config, host, mqtt, sources and storage. The network threads may call `MessageQueue.put` and
`Requests.busy`; the rest belongs to the worker's thread, except where a method says otherwise.
"""
