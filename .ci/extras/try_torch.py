"""The extra ``torch`` exchanges layers with PyTorch."""

import numpy as np
import torch

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.torch import from_torch, to_torch

X = np.random.default_rng(0).normal(5, 2, size=(100, 3))
bn = BatchNorm1dTransformer().fit(X)
layer = to_torch(bn, dtype=torch.float64).eval()
assert np.allclose(layer(torch.tensor(X)).detach(), bn.transform(X))
assert np.array_equal(from_torch(layer).running_var_, bn.running_var_)
print("extra torch: the layer is the transformer")
