"""Runs a TFLite model in tflite-runtime, in an interpreter of its own: MODEL SAMPLES.npy OUTPUTS.npy."""

import sys

import numpy as np
from tflite_runtime.interpreter import Interpreter

model, samples, outputs = sys.argv[1:]
interpreter = Interpreter(model_path=model, num_threads=1)
interpreter.allocate_tensors()
results = []
for sample in np.load(samples):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample[None])
    interpreter.invoke()
    results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
np.save(outputs, np.concatenate(results))
