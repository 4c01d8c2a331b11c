"""What stands in the place of a model where samples alone are audited: whatever asks it is refused."""

from typing import Any, NoReturn

from diffuscope.errors import InputError


class NoSchedule:
    """No schedule: whatever is read from it raises InputError."""

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # asked by Python itself, as when it copies an object
            raise AttributeError(name)
        raise _refusal()


class NoModel:
    """No denoiser: its schedule and its answers raise InputError."""

    # an attribute that is there: a check whether this is a denoiser must not raise
    schedule: Any = NoSchedule()

    def __call__(self, x_t: object, t: object) -> NoReturn:  # noqa: ARG002
        raise _refusal()


def _refusal() -> InputError:
    return InputError("model: samples alone were given; expected a model for questions about it")
