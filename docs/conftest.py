"""What pytest leaves out here: code for Sphinx, and pages of extras not installed."""

from importlib.util import find_spec

collect_ignore = ["conf.py", "_ext"]

NEEDS = {
    "choosing_halflife.rst": ["matplotlib"],
    "clusters.rst": ["distributed"],
    "coming_from_pytorch.rst": ["torch"],
    "coming_from_river.rst": ["river"],
    "moving_persistence.rst": ["skops"],
    "moving_onnx.rst": ["skl2onnx", "onnxruntime"],
    "moving_torch.rst": ["torch", "safetensors"],
}
for page, modules in NEEDS.items():
    if any(find_spec(module) is None for module in modules):
        collect_ignore.append(page)
