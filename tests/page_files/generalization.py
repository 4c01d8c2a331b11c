"""Fewer digits, smaller ensembles and coarser steps in the default run; `mnist` has 400 images there."""

SHORTER = {
    "samples=256, models=100": "samples=64, models=20",
    "torch.randn(100, 200, 1": "torch.randn(20, 50, 1",
    "train_limit=10_000": "train_limit=50",
    "samples=4096": "samples=512",
    "torch.linspace(1, 0.01, 301": "torch.linspace(1, 0.01, 61",
    "VE(), 7), 16)": "VE(), 7), 1, steps=2)",
}
