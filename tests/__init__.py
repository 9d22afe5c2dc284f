"""Tests, in folders that mirror the package; `harness` holds what several of them share."""
