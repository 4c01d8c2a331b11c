"""The one error that is the user's to mend: a single line naming the argument, what came, what is expected."""


class InputError(ValueError):
    """Bad input. The command line prints the message alone and exits with code 2."""


class NotFiniteError(InputError):
    """A model's answer is NaN or infinite: no argument is wrong, as of a training that has diverged."""
