# Its callers pass what the real one takes, of which it looks at little.
# pyright: basic
"""A stub of ONNX Runtime for simulated devices: every inference takes the time that the model file says, and gives zeros.

The file is JSON: {"stub": true, "service_s": 0.01, "features": 16}. Only what the agent's backend calls is here.
"""

import enum
import json
import time
from types import SimpleNamespace

import numpy

__version__ = "0+stub"
GraphOptimizationLevel = enum.Enum("GraphOptimizationLevel", "ORT_DISABLE_ALL ORT_ENABLE_BASIC ORT_ENABLE_EXTENDED ORT_ENABLE_ALL")


def get_available_providers():
    """Name the one provider that the backend asks for."""
    return ["CPUExecutionProvider"]


class SessionOptions(SimpleNamespace):
    """Holds what the backend sets."""


class OrtValue:
    """The output, which nothing is written to."""

    @staticmethod
    def ortvalue_from_shape_and_type(shape, element_type):
        """Give a value of that shape."""
        return SimpleNamespace(shape=shape, element_type=element_type)


class _Binding:
    def bind_input(self, *_):
        pass

    def bind_output(self, *_):
        pass

    def bind_ortvalue_output(self, *_):
        pass

    def copy_outputs_to_cpu(self):
        return [numpy.zeros((1, 1), numpy.float32)]


class InferenceSession:
    """A model that sleeps."""

    def __init__(self, path, settings, providers, _):
        with open(path) as file:
            told = json.load(file)
        self._service_s = told["service_s"]
        self._features = told["features"]
        self._settings = settings
        self._providers = providers

    def get_inputs(self):
        """Give the one input."""
        return [SimpleNamespace(name="x", shape=[1, self._features], type="tensor(float)")]

    def get_outputs(self):
        """Give the one output."""
        return [SimpleNamespace(name="y", shape=[1, 1], type="tensor(float)")]

    def get_session_options(self):
        """Give what was set."""
        return self._settings

    def get_providers(self):
        """Give what was asked for."""
        return self._providers

    def io_binding(self):
        """Give a binding that binds nothing."""
        return _Binding()

    def run_with_iobinding(self, _):
        """Take the model's time."""
        time.sleep(self._service_s)
