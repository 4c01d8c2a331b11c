"""The one error that is the user's to mend: a single line naming the argument, what came, what is expected."""


class InputError(ValueError):
    """Bad input. The command line prints the message alone and exits with code 2.

    It is a ValueError, and its text begins with the name of the argument.

    >>> import diffuscope
    >>> try:
    ...     diffuscope.load_data("two-moon")
    ... except diffuscope.InputError as error:
    ...     print(str(error).partition(":")[0], isinstance(error, ValueError))
    data True
    """


class NotFiniteError(InputError):
    """A model's answer is NaN or infinite: no argument is wrong, as of a training that has diverged.

    >>> from diffuscope.errors import InputError, NotFiniteError
    >>> issubclass(NotFiniteError, InputError)
    True
    """
