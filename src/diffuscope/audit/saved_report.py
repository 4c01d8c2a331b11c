"""What an audit leaves in its folder: the page, every number, and the section for a model card."""

from pathlib import Path

from diffuscope.errors import InputError
from diffuscope.files import replace_atomically, write_json
from diffuscope.report import Page, write_page


def save_report(folder: Path, page: Page, numbers: object, card: str) -> Path:
    """Write report.html, audit.json and model-card.md, each whole or not at all; the path of the page.

    Raises InputError if the folder cannot be written.
    """
    report = write_page(page, folder / "report.html")
    write_json(numbers, report.with_name("audit.json"))
    path = report.with_name("model-card.md")
    try:
        replace_atomically(path, card.encode())
    except OSError as error:
        raise InputError(f"folder: cannot write {path} ({error.strerror}); expected a writable folder") from error
    return report
