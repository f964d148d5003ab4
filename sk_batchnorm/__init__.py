"""PyTorch's BatchNorm1d as a scikit-learn transformer for data that stream."""

from sk_batchnorm._concatenate import concatenate
from sk_batchnorm._fold import fold
from sk_batchnorm._show_versions import show_versions
from sk_batchnorm._transformer import BatchNorm1dTransformer

__all__ = [
    "BatchNorm1dTransformer",
    "__version__",
    "concatenate",
    "fold",
    "show_versions",
]

__version__ = "0.2.0"
