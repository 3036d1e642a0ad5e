"""Targets for a fuzzer, `python -m fuzz TARGET`: each a function of bytes that raises at a fault alone."""
