"""An inference gateway for ONNX models: new versions are released under live traffic."""

__version__ = "0.1.0"
