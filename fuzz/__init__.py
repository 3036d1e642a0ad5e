"""Targets for a fuzzer, `python -m fuzz TARGET`: functions of bytes that raise only at a fault."""
