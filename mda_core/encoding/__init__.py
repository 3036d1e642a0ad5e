"""Texts to unit vectors: the ONNX encoder and its tokenizer.

The only room that knows onnxruntime. It imports errors and numpy. An encoder belongs to the thread that uses
it.
"""
