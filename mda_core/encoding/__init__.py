"""Texts to unit vectors: the ONNX encoder and its tokenizer, all that knows onnxruntime.

Imports errors and numpy alone. An encoder belongs to the thread that uses it.
"""
