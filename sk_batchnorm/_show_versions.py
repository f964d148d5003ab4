"""What a bug report should say about the machine and the installation."""

from __future__ import annotations

import os
import platform
import sys

from sk_batchnorm._kernels import dispatch

_PACKAGES = ("sk-batchnorm", "numpy", "scipy", "scikit-learn", "joblib")


def show_versions() -> None:
    """Print the versions of what this package runs on, and its kernels.

    Include this output in a bug report. The kernels are "compiled", or "numpy" where
    the package was installed from source without a C compiler. To choose one of the
    two, set the environment variable ``SK_BATCHNORM_KERNELS`` to it before the package
    is imported.

    Examples
    --------
    >>> import sk_batchnorm
    >>> sk_batchnorm.show_versions()  # doctest: +ELLIPSIS
    python: 3...
    kernels: ...
    """
    # Here, as it takes longer than all else that the package imports.
    from importlib.metadata import PackageNotFoundError, version

    print(f"python: {sys.version.split()[0]}")
    print(f"machine: {platform.platform()}, {os.cpu_count()} processors")
    for package in _PACKAGES:
        try:
            print(f"{package}: {version(package)}")
        except PackageNotFoundError:
            print(f"{package}: not installed")
    missing = "" if dispatch.ARE_THERE else ", as the compiled ones are not installed"
    print(f"kernels: {dispatch.KERNELS}{missing}")
