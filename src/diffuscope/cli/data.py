"""Named data sets: list them, or download one."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from diffuscope.data import NAMES, PUBLISHED, complete, fetch_data, found

from .reproduce import print_table

Row = tuple[str, ...]


@dataclass(frozen=True)
class DataList:
    """List the named data sets with their sizes, shapes, licenses, and locations on disk."""

    def run(self) -> None:
        """Print the table, and which of its entries are unverified."""
        header = ("name", "training + held-out", "shape", "license", "download", "location")
        print_table(header, [row(name) for name in NAMES])
        files = [f"{name} {file.name}" for name in PUBLISHED for file in PUBLISHED[name].files if not file.verified]
        print(
            "\nThe download addresses are unverified. Every download must match the SHA-256 hashes, which are verified "
            f"except for {', '.join(files)}."
        )


@dataclass(frozen=True)
class DataFetch:
    """Download a named data set to the folder DIFFUSCOPE_DATA if set, otherwise to the user's cache folder."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """mnist, fashion-mnist or cifar10."""
    address: str | None = None
    """URL of a folder to download from, instead of the known addresses."""

    def run(self) -> None:
        """Download, verify, and print the folder."""
        fetched = fetch_data(self.name, address=self.address, progress=sys.stderr.isatty())
        if fetched.address is None:
            print(f"{self.name} is already in {fetched.folder}; nothing was downloaded.")
            return
        for file, sha256 in fetched.unverified:
            same = "as" if sha256 == file.sha256 else f"not {file.sha256} as"
            print(f"Unverified: the SHA-256 of {file.name} is {sha256}, {same} in the table of hashes.")
        others = "all other files match" if fetched.unverified else "all files match"
        print(f"From {fetched.address}: {others} their SHA-256.")
        print(f"Data: {fetched.folder}")


@dataclass(frozen=True)
class Data:
    """List the named data sets, or download one.

    Example:
        >>> from diffuscope.cli import main
        >>> main("data list".split())
        name           training + held-out  shape        license       download  location
        digits         1,797, split         1 x 8 x 8    CC BY 4.0               included in scikit-learn
        mnist          60,000 + 10,000      1 x 28 x 28  CC BY-SA 3.0  12 MB     ...
    """

    action: tyro.conf.OmitSubcommandPrefixes[
        Annotated[DataList, tyro.conf.subcommand("list")] | Annotated[DataFetch, tyro.conf.subcommand("fetch")]
    ]

    def run(self) -> None:
        """Run the chosen action."""
        self.action.run()


def row(name: str) -> Row:
    """The row of one data set."""
    if name == "digits":
        return name, "1,797, split", "1 x 8 x 8", "CC BY 4.0", "", "included in scikit-learn"
    published = PUBLISHED.get(name)
    if published is None:
        return name, "5,000 + 5,000", "2", "", "", "drawn at random when used"
    counts = f"{published.train:,} + {published.heldout:,}"
    shape, size = " x ".join(map(str, published.shape)), f"{published.download / 1e6:.0f} MB"
    return name, counts, shape, published.license, size, where(name)


def where(name: str) -> str:
    """The folder of the data set, or the command that downloads it."""
    folder, command = found(name), f"diffuscope data fetch {name}"
    if folder is None:
        return command
    return str(folder) if complete(name) is not None else f"{folder}, incomplete; {command}"
