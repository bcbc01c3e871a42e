"""Seeded simulation of the whole flow over ports that crash, fail, delay, duplicate and reorder."""
