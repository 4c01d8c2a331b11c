"""Packages that only some forms of data need, and the extras that install them."""

from diffuscope.errors import InputError


def not_installed(argument: str, what: object, package: str, extra: str) -> InputError:
    """The error where `what`, a file or folder, needs a package that is not there.

    >>> raise not_installed("data", "scan.dcm", "pydicom", "dicom")
    Traceback (most recent call last):
    diffuscope.errors.InputError: data: scan.dcm needs pydicom, which is not installed; expected pydicom (pip install \
'diffuscope[dicom]')
    """
    return InputError(
        f"{argument}: {what} needs {package}, which is not installed; expected {package} "
        f"(pip install 'diffuscope[{extra}]')"
    )
