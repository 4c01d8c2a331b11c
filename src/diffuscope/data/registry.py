"""The data sets that can be downloaded: where from, and what their files must hold.

A file is known by the SHA-256 of its *content*, after decompression, so that a mirror that compressed it anew still
verifies. Those of MNIST, Fashion-MNIST and CIFAR-10's training batches were computed from the data themselves; the one
of CIFAR-10's test batch is taken from a published list whose five others agree, and is marked unverified.

No address has been tried from where this table was written: all of them are unverified. The content is checked in any
case, so a wrong address costs a failed download and nothing else.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a data set, as it is stored: `size` and `sha256` are those of its content, decompressed.

    >>> from diffuscope.data import PUBLISHED
    >>> file = PUBLISHED["mnist"].files[0]
    >>> file.name, file.size  # a header of 16 bytes, then 60,000 images of 28 x 28
    ('train-images-idx3-ubyte.gz', 47040016)
    """

    name: str
    size: int
    sha256: str
    verified: bool = True
    """Whether the hash was computed from the data; False: another hash is reported, not refused."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """A data set that can be downloaded.

    `addresses` are folders on the web, tried in turn; they hold the files themselves, or the tar archive `archive`
    with the files in its folder `folder`. `download` is the number of bytes to be downloaded.

    >>> from diffuscope.data import PUBLISHED
    >>> cifar10 = PUBLISHED["cifar10"]
    >>> sum(file.size for file in cifar10.files) / (1 + 3 * 32 * 32)  # records of a label and a picture
    60000.0
    >>> cifar10.train + cifar10.heldout
    60000
    """

    name: str
    folder: str
    shape: tuple[int, ...]
    train: int
    heldout: int
    license: str
    addresses: tuple[str, ...]
    download: int
    files: tuple[DataFile, ...]
    archive: str | None = None


def _idx(**hashes: str) -> tuple[DataFile, ...]:
    """The four files of MNIST and its kin: 60,000 + 10,000 images of 28 x 28 bytes, with headers of 16 and 8."""
    return tuple(
        DataFile(name=f"{part}-{what}-ubyte.gz", size=header + n * each, sha256=hashes[f"{part}_{what.split('-')[0]}"])
        for part, n in (("train", 60_000), ("t10k", 10_000))
        for what, header, each in (("images-idx3", 16, 28 * 28), ("labels-idx1", 8, 1))
    )


def _batch(name: str, sha256: str, verified: bool = True) -> DataFile:
    """10,000 records of a label byte and 3 x 32 x 32 bytes."""
    return DataFile(name=name, size=10_000 * (1 + 3 * 32 * 32), sha256=sha256, verified=verified)


MNIST = Published(
    name="mnist",
    folder="mnist",
    shape=(1, 28, 28),
    train=60_000,
    heldout=10_000,
    license="CC BY-SA 3.0",
    addresses=("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist"),
    download=11_594_722,
    files=_idx(
        train_images="ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        train_labels="65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        t10k_images="0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        t10k_labels="ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)

FASHION_MNIST = Published(
    name="fashion-mnist",
    folder="fashion-mnist",
    shape=(1, 28, 28),
    train=60_000,
    heldout=10_000,
    license="MIT",
    addresses=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
    ),
    download=30_878_645,
    files=_idx(
        train_images="c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        train_labels="bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        t10k_images="5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        t10k_labels="0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)

CIFAR10 = Published(
    name="cifar10",
    folder="cifar-10-batches-bin",
    shape=(3, 32, 32),
    train=50_000,
    heldout=10_000,
    license="none stated",
    addresses=("https://www.cs.toronto.edu/~kriz",),
    archive="cifar-10-binary.tar.gz",
    download=170_052_171,
    files=(
        _batch("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        _batch("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        _batch("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        _batch("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        _batch("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
        _batch("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b", verified=False),
    ),
)

PUBLISHED = {published.name: published for published in (MNIST, FASHION_MNIST, CIFAR10)}
