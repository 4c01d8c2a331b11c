"""List the named data sets, or download one."""

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from diffuscope.data import NAMES, PUBLISHED, complete, fetch_data, found

from .reproduce import print_table

Row = tuple[str, ...]


@dataclass(frozen=True)
class DataList:
    """List the named data sets: examples, shape, license, and where each lies or how to get it."""

    def run(self) -> None:
        """Print the table, and what of it is unverified."""
        header = ("name", "training + held-out", "shape", "license", "download", "where")
        print_table(header, [row(name) for name in NAMES])
        files = [f"{name} {file.name}" for name in PUBLISHED for file in PUBLISHED[name].files if not file.verified]
        print(
            "\nDownload addresses are unverified. What is downloaded is checked by its SHA-256 and otherwise refused, "
            f"except where that hash is unverified too: {', '.join(files)}."
        )


@dataclass(frozen=True)
class DataFetch:
    """Download a named data set into the folder that DIFFUSCOPE_DATA names, or else into the user's cache folder."""

    name: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="NAME")]
    """mnist, fashion-mnist or cifar10."""
    address: str | None = None
    """Folder on the web to download from, in place of the known addresses."""

    def run(self) -> None:
        """Download, check, say where it lies."""
        fetched = fetch_data(self.name, address=self.address, progress=sys.stderr.isatty())
        if fetched.address is None:
            print(f"{self.name} is already in {fetched.folder}; nothing was downloaded.")
            return
        for file, sha256 in fetched.unverified:
            same = "the same as" if sha256 == file.sha256 else f"and not {file.sha256} as"
            print(f"Unverified: the SHA-256 of {file.name} is {sha256}, {same} in the table of hashes.")
        of_which = "every other file's" if fetched.unverified else "every file's"
        print(f"From {fetched.address}: {of_which} SHA-256 is as expected.")
        print(f"Data: {fetched.folder}")


@dataclass(frozen=True)
class Data:
    """List the named data sets, or download one."""

    action: tyro.conf.OmitSubcommandPrefixes[
        Annotated[DataList, tyro.conf.subcommand("list")] | Annotated[DataFetch, tyro.conf.subcommand("fetch")]
    ]

    def run(self) -> None:
        """Do either."""
        self.action.run()


def row(name: str) -> Row:
    """A data set in one line of the table."""
    if name == "digits":
        return name, "1,797, split", "1 x 8 x 8", "CC BY 4.0", "", "comes with scikit-learn"
    published = PUBLISHED.get(name)
    if published is None:
        return name, "5,000 + 5,000", "2", "", "", "drawn when it is used"
    counts = f"{published.train:,} + {published.heldout:,}"
    shape, size = " x ".join(map(str, published.shape)), f"{published.download / 1e6:.0f} MB"
    return name, counts, shape, published.license, size, where(name)


def where(name: str) -> str:
    """The folder, or the command that gets the data."""
    folder, command = found(name), f"diffuscope data fetch {name}"
    if folder is None:
        return command
    return str(folder) if complete(name) is not None else f"{folder}, incomplete; {command}"
