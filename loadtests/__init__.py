"""Benchmarks: each compares the gateway with a bare server, or with ONNX Runtime itself, in one run on one machine."""
