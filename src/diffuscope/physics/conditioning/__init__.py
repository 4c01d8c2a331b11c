"""Posterior denoisers made from prior denoisers."""
