"""The wrapper fulfills the contract."""

from diffuscope.denoisers import Denoiser


def after(run, block):
    if "denoiser = MyModel" in block.text:
        assert isinstance(run.names["denoiser"], Denoiser)
