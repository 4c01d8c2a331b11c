"""An audit in a latent space: an isometry changes no distance, originals are shown, mistakes are one line."""

import json
import re

import numpy as np
import pytest
import torch
from made_by_hand import other_tools_are_quick  # noqa: F401

from audit_subjects import asked, digits
from diffuscope.audit import Settings, Subject, audit_samples
from diffuscope.audit.latents import BATCH, encode_data, load_encoder
from diffuscope.audit.no_model import NoModel
from diffuscope.audit.session import Session
from diffuscope.cli import main
from diffuscope.data import DataSet
from diffuscope.errors import InputError
from diffuscope.report import Gallery

MODULE = """
import numpy as np
import torch
from torch import nn

images = torch.from_numpy(np.load({path!r}))
center = images.flatten(1).mean(0)
directions = torch.linalg.svd(images.flatten(1) - center)[2].T

class PCA:
    calls = 0
    def __init__(self, kept):
        self.matrix = directions[:, :kept]
    def encode(self, x):
        assert not torch.is_grad_enabled()
        PCA.calls += len(x)
        return (x.flatten(1) - center) @ self.matrix
    def decode(self, z):
        return (z @ self.matrix.T + center).reshape(-1, 1, 8, 8)

class Other:
    def __init__(self, answer):
        self.encode = answer

class OnlyDecodes:
    def decode(self, z):
        return z

whole, ten = PCA(64), PCA(10)
def function(x):
    return whole.encode(x)
only_decodes, number = OnlyDecodes(), 3
nan, short = Other(lambda x: x.flatten(1) / 0), Other(lambda x: x.flatten(1)[:-1])
scalars, none, constant = Other(lambda x: x.flatten(1).sum(1)), Other(lambda x: None), Other(lambda x: 0 * x)
ragged = Other(lambda x: x.flatten(1)[:, : len(x) % 5 + 3])
"""


@pytest.fixture(scope="module")
def parts():
    """Training and held-out digits, and samples of which the first ten copy training examples."""
    images = digits(0)
    return images[:400], images[400:800], torch.cat([images[:10], images[1000:1090]])


@pytest.fixture
def module(parts, tmp_path, monkeypatch):
    """The name of a module of encoders."""
    np.save(tmp_path / "images.npy", parts[0].numpy())
    name = f"encoders_{re.sub(r'[^a-z0-9]', '_', tmp_path.name.lower())}"
    (tmp_path / f"{name}.py").write_text(MODULE.format(path=str(tmp_path / "images.npy")))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return name


def data_set(train, heldout):
    places = torch.arange(len(train)), torch.arange(len(heldout))
    return DataSet("digits", train, heldout, (-1.0, 1.0), "made", *places, kind="images")


def shown_pictures(answer, title):
    return [block for block in answer.blocks if isinstance(block, Gallery) and block.title.startswith(title)]


def test_in_an_isometric_latent_space_the_search_finds_what_it_finds_among_pixels(parts, module, tmp_path):
    """All 64 principal components are a rotation; brightness, shifts and the like are for images alone."""
    data, settings = data_set(*parts[:2]), Settings(transformations=("none",))
    with asked("memorized"):
        plain = audit_samples(parts[2], data, settings)["memorized"]
    latents = encode_data(load_encoder(f"{module}:whole"), data, parts[2], tmp_path)
    samples, originals = latents.in_range(latents.data)
    assert samples is not None
    with asked("memorized"):
        audited = audit_samples(samples, latents.data, settings, originals=originals)["memorized"]
    found = [answer.result.copies["pixels"] for answer in (plain, audited)]
    assert latents.data.kind == "latents"
    assert found[1].listed[:10].all()
    assert np.array_equal(found[0].listed, found[1].listed)
    # digits have whole numbers as values: rounding decides the few ties
    assert (found[0].nearest_training == found[1].nearest_training).mean() >= 0.97
    # float32 latents of values up to 1, sums of 64
    assert np.allclose(found[0].distance, found[1].distance, atol=1e-4)
    galleries = [shown_pictures(answer, "The most suspicious") for answer in (plain, audited)]
    assert galleries[0][0].items[0].pictures == galleries[1][0].items[0].pictures  # of the originals


def test_latents_are_computed_once_and_kept(parts, module, tmp_path):
    encoder = load_encoder(f"{module}:ten")
    first = encode_data(encoder, data_set(*parts[:2]), parts[2], tmp_path)
    assert type(encoder.found).calls == sum(map(len, parts))
    again = encode_data(load_encoder(f"{module}:ten"), data_set(*parts[:2]), parts[2], tmp_path)
    assert type(encoder.found).calls == sum(map(len, parts))
    assert torch.equal(first.data.heldout, again.data.heldout)
    encode_data(load_encoder(f"{module}:whole"), data_set(*parts[:2]), parts[2], tmp_path)
    assert type(encoder.found).calls == 2 * sum(map(len, parts))


def test_samples_that_are_latents_from_the_start_are_decoded_in_any_range(parts, module):
    """A projection on principal components, decoded, is the image up to the residual that is left out."""
    data = data_set(*parts[:2])
    for name in ("whole", "function"):
        latents = encode_data(load_encoder(f"{module}:{name}"), data, None, None)
        mapped = latents.data.in_range(-1.0, 1.0)
        samples, originals = latents.in_range(mapped)
        assert samples is None
        session = Session(Subject.of(NoModel(), mapped, originals=originals), Settings(), given=mapped.heldout)
        shown = session.shown("samples", torch.tensor([3, 5]))
        assert (shown is None) == (name == "function")
        if shown is not None:
            assert torch.allclose(shown, data.heldout[[3, 5]], atol=1e-4)
        original = session.shown("heldout", torch.tensor([7]))
        assert original is not None
        assert torch.equal(original, data.heldout[[7]])


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("PCA", "encode: {m}:PCA is a class, expected an instance of it or a function"),
        ("number", "encode: expected {m}:number to have encode(x), or to be a function, got int"),
        ("only_decodes", "encode: expected {m}:only_decodes to have encode(x), or to be a function, got OnlyDecodes"),
        ("nan", "encode: encode of {m}:nan must return finite numbers, got NaN or infinity"),
        ("none", "encode: encode of {m}:none must return a tensor or an array, got NoneType"),
        ("short", f"encode: encode of {{m}}:short must return {BATCH} rows for as many examples, got shape (63, 64)"),
        ("scalars", f"encode: encode of {{m}}:scalars must return {BATCH} rows for as many examples, got shape (64,)"),
        ("ragged", "encode: encode of {m}:ragged must return examples of shape (7,), got (4,)"),
        ("constant", "encode: expected latents that vary from {m}:constant, got 0 everywhere"),
    ],
)
def test_an_encoder_that_misbehaves_is_one_line(name, message, parts, module):
    with pytest.raises(InputError, match=f"^{re.escape(message.format(m=module))}$"):
        encode_data(load_encoder(f"{module}:{name}"), data_set(*parts[:2]), parts[2], None)


def test_the_command_audits_in_a_latent_space(parts, module, tmp_path, capsys):
    names = ("train", "heldout", "samples")
    for name, x in zip(names, parts, strict=True):
        np.save(tmp_path / f"{name}.npy", x.numpy())
    words = ["audit", "--encode", f"{module}:ten", "--data-range", "-1", "1", "--out", str(tmp_path / "out")]
    files = [("--data", "train"), ("--heldout", "heldout"), ("--samples", "samples")]
    main([*words, *(word for option, name in files for word in (option, f"{name}.npy"))])
    assert "Copies training examples" in capsys.readouterr().out
    written = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert "latents of shape (10,)" in json.dumps(written)
    assert {entry["sample"] for entry in written["copies"]["pixels"]} >= set(range(10))
