"""The extra ``plot`` draws a picture."""

import io

from sklearn.datasets import load_iris

from sk_batchnorm import BatchNorm1dTransformer
from sk_batchnorm.plot import RunningStatsDisplay

bn = BatchNorm1dTransformer(batch_size=32)
display = RunningStatsDisplay.from_estimator(bn, load_iris().data)
picture = io.BytesIO()
display.figure_.savefig(picture)
size = picture.tell()
assert size > 10_000, size
print("extra plot: a picture of", size, "bytes")
