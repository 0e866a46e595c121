"""A package, for the makers of golden data: python -m tests.golden.make.golden."""
