"""Simulations of the statistics: each prints a table, and has a small seeded test in tests/unit."""
