"""Readers and writers for other formats: ONNX, C, JavaScript, Python, PyTorch, Keras and scikit-learn.

Writers export a network. They share `program.py`, which turns a network into a list of operations:

- `c_source.py`, `c_int8.py` (8-bit integers, computed by `int8.py`) and `c_table.py` write C headers; `c_functions.py`
  has templates of their functions.
- `js_source.py` and `python_source.py` write modules, with common code in `script.py`.
- `onnx.py` and `onnx_table.py` write ONNX models, encoded by `protobuf.py`.
- `torch_modules.py` and `scikit_learn.py` create objects of those packages.
- `table.py` describes a table model for `c_table.py` and `onnx_table.py`.
- `forecast.py` writes C headers and ONNX models for the corrections of a forecast model.
- `skl2onnx_converter.py` lets skl2onnx convert the estimators of nnc.sklearn.

Readers import a network. They share `parts.py`, which collects layers and weights:

- `read_onnx*.py`, `read_torch.py`, `keras_layers.py` and `scikit_learn.py` read one format each.
- `verification.py` and `verify_onnx.py` compare an imported network with its original.
"""
