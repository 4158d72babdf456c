"""Benchmarks: figures come as pairs, ours and a floor's or a peer's on the same input in the same run.

Everything is measured as CPU seconds of the process (user and system, from wait4), since wall time on a shared
machine says little. `make bench` runs all of it; docs/benchmarks.md has the figures and how to read them.
"""
