"""What pytest leaves out here: doctests of modules whose extra is not installed."""

from importlib.util import find_spec

NEEDS = {
    "dask.py": ["dask"],
    "onnx.py": ["skl2onnx", "onnxruntime"],
    "plot.py": ["matplotlib"],
    "torch.py": ["torch"],
}
collect_ignore = [
    f"sk_batchnorm/{path}"
    for path, modules in NEEDS.items()
    if any(find_spec(module) is None for module in modules)
]
