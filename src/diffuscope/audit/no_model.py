"""What stands in the place of a model where samples alone are audited: whatever asks it is refused."""

from typing import NoReturn

from diffuscope.errors import InputError


class NoModel:
    """No denoiser: its schedule and its answers raise InputError."""

    @property
    def schedule(self) -> NoReturn:
        raise _refusal()

    def __call__(self, x_t: object, t: object) -> NoReturn:  # noqa: ARG002
        raise _refusal()


def _refusal() -> InputError:
    return InputError("model: samples alone were given; expected a model for questions about it")
