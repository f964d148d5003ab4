"""Build the compiled loops. What else there is to say, pyproject.toml says.

Where there is no C compiler, the package is installed without them, and runs NumPy's.
"""

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

KERNELS = "sk_batchnorm/_kernels"


class BuildLoops(build_ext):
    """Compile with the flags of the compiler that is there."""

    def build_extension(self, ext: Extension) -> None:
        """Add the flags, and say what follows if the compiler fails."""
        if self.compiler.compiler_type == "msvc":
            ext.extra_compile_args = ["/O2", "/fp:precise"]
        else:
            # No fused multiply-adds, so that results are the same on all processors.
            # No symbols for debuggers, which take four times as much as the rest.
            ext.extra_compile_args = ["-O3", "-ffp-contract=off", "-g0"]
        try:
            super().build_extension(ext)
        except Exception:
            self.warn(
                "The loops of sk-batchnorm were not compiled. It is installed without "
                "them, and uses NumPy's, which are slower."
            )
            raise  # to setuptools, which goes on, as the extension is optional


setup(
    ext_modules=[
        Extension(
            "sk_batchnorm._kernels.compiled",
            [f"{KERNELS}/compiled.pyx", f"{KERNELS}/loops.c"],
            depends=[f"{KERNELS}/loops.h", f"{KERNELS}/loops_of_type.h"],
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildLoops},
)
