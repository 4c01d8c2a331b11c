"""What stands in the place of a model where samples alone are audited: whatever asks it is refused."""

from typing import Any, NoReturn

from diffuscope.errors import InputError


class Absent:
    """An object without attributes; asking for one raises InputError."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # what Python itself asks
            raise AttributeError(name)
        raise _refusal()


class NoModel:
    """No denoiser: its schedule and its answers are refused with InputError."""

    schedule: Any = Absent()

    def __call__(self, x_t: Any, t: Any) -> NoReturn:  # noqa: ARG002
        raise _refusal()


def _refusal() -> InputError:
    return InputError("model: samples alone were given; expected a model for questions about it")
