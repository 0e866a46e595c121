"""Run all: python -m unittest discover -s models/tests -t ."""
