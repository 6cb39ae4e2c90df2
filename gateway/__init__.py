"""An inference gateway for ONNX models: a new version meets real traffic without fear."""

__version__ = "0.1.0"
