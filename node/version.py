"""The version of this software, as the package says."""

from importlib.metadata import PackageNotFoundError, version

__all__ = ["VERSION"]

try:
    VERSION = version("telex")
except PackageNotFoundError:  # run from a checkout that is not installed
    VERSION = "0"
