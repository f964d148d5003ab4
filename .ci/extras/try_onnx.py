"""The extra ``onnx`` exports. To run graphs, it has the evaluator of onnx itself."""

import numpy as np
from onnx.reference import ReferenceEvaluator
from skl2onnx import to_onnx

import sk_batchnorm.onnx  # noqa: F401 (tells skl2onnx of the transformer)
from sk_batchnorm import BatchNorm1dTransformer

X = np.random.default_rng(0).normal(5, 2, size=(100, 3)).astype(np.float32)
bn = BatchNorm1dTransformer().fit(X)
(Y,) = ReferenceEvaluator(to_onnx(bn, X)).run(None, {"X": X})
assert np.allclose(Y, bn.transform(X), atol=1e-5)
print("extra onnx: the graph is the transformer")
