"""Hooks of the whole test suite."""

from lanes import pytest_configure, pytest_runtest_protocol, pytest_sessionfinish

__all__ = ["pytest_configure", "pytest_runtest_protocol", "pytest_sessionfinish"]
