"""The extra ``dask`` learns from arrays and DataFrames of dask."""

import dask.array as da
import dask.dataframe as dd
import numpy as np
from distributed import Client

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.dask import DaskBatchNorm1dTransformer

X = da.random.default_rng(0).normal(5, 2, size=(1024, 3), chunks=(512, 3))
frame = dd.from_dask_array(X, columns=["a", "b", "c"])
bn = DaskBatchNorm1dTransformer().set_output(transform="pandas")
mean = BatchNorm1dTransformer().fit(X.compute()).running_mean_
with Client(processes=False, dashboard_address=None):
    assert np.allclose(bn.fit(X).running_mean_, mean)
    assert np.allclose(bn.fit(frame).running_mean_, mean)
    assert bn.transform(frame).compute().columns.tolist() == ["a", "b", "c"]
print("extra dask: the means of arrays and of DataFrames are right")
