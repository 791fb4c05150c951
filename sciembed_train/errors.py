"""The one error that means: the user's input or configuration is wrong."""


class UserError(ValueError):
    """Something a user can mend; the command line prints the message and exits with 2.

    The message says where (file, line or key), what was found, and what to do. Anything that
    is not a ``UserError`` is a defect of ours and keeps its traceback.
    """
