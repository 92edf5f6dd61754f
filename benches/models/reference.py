"""Times ONNX Runtime when it is told to. Needs numpy and onnxruntime.

`reference.py FOLDER` reads lines `NAME ROWS MILLISECONDS` and writes a line of JSON for each: `bound`, the nanoseconds of a call with inputs and outputs
bound beforehand, which is as near as Python comes to ONNX Runtime itself; `plain`, those of `run` as Python programs call it; and what the
model answered, output after output. One thread.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime

DTYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64}


class Model:
    """A session and calls of it that are ready to be made."""

    def __init__(self, folder, rows):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
        self.rows = np.array(json.loads((folder / "rows.json").read_text())[:rows], dtype=np.float32)
        self.name = self.session.get_inputs()[0].name
        self.binding = self.session.io_binding()
        self.input = onnxruntime.OrtValue.ortvalue_from_numpy(self.rows)
        self.binding.bind_ortvalue_input(self.name, self.input)
        self.outputs = []
        for output, answer in zip(self.session.get_outputs(), self.plain(), strict=True):
            assert answer.dtype == DTYPES[output.type]
            self.outputs.append(onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros_like(answer)))
            self.binding.bind_ortvalue_output(output.name, self.outputs[-1])

    def plain(self):
        """A call as Python programs make it."""
        return self.session.run(None, {self.name: self.rows})

    def bound(self):
        """A call that allocates nothing."""
        # Past the wrapper in Python, which only passes it on.
        self.session._sess.run_with_iobinding(self.binding._iobinding, None)


def nanoseconds(call, milliseconds):
    """The mean of calls that take so long together."""
    call()
    count, spent = 0, 0
    start = time.perf_counter_ns()
    while spent < milliseconds * 1_000_000:
        for _ in range(10):
            call()
        count += 10
        spent = time.perf_counter_ns() - start
    return spent / count


def main(folder):
    """Answers until there are no more lines."""
    models = {}
    for line in sys.stdin:
        name, rows, milliseconds = line.split()
        model = models.get((name, rows))
        if model is None:
            model = models[name, rows] = Model(folder / name, int(rows))
        bound, plain = (nanoseconds(call, float(milliseconds)) for call in (model.bound, model.plain))
        outputs = [value.numpy().ravel().tolist() for value in model.outputs]
        print(json.dumps({"bound": bound, "plain": plain, "outputs": outputs}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
