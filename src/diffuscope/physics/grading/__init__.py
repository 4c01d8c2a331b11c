"""How good a posterior sampler is, where the posterior is known."""
