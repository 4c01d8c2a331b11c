"""Thirty steps of training in the default run."""

SHORTER = {"range(3000)": "range(30)"}
