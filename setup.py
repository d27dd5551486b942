"""License in the form that old and new setuptools accept without a warning; everything else is in pyproject.toml."""

from setuptools import setup

setup(license="BSD-2-Clause")
