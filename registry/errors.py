"""The one error tree. Every layer raises these; the gateway maps them to HTTP, the command line to exit codes.

    LorimerError
    |- NotFound      the named thing does not exist            HTTP 404, exit 3
    |- Conflict      somebody else changed it first; re-read   HTTP 409, exit 4
    |- Invalid       the caller's input is wrong; mend it      HTTP 400, exit 2
    |- Refused       well-formed, but policy or safety says no HTTP 403, exit 5
    |- Busy          no room now; try again later              HTTP 503, exit 1
    |- Unavailable   a part we need does not answer            HTTP 503, exit 1
    `- Corrupt       stored bytes are not what was written     HTTP 500, exit 1

A message says what was wrong and where; `hint` says what to do about it.
"""


class LorimerError(Exception):
    """Base of every error a user may see."""

    kind = "error"
    exit_code = 1
    code: str | None = None
    """What a program tells this case by, where the kind is too coarse."""
    param: str | None = None

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class NotFound(LorimerError):
    kind = "not_found"
    exit_code = 3


class Conflict(LorimerError):
    """`actual` carries the value that was found instead of the expected one."""

    kind = "conflict"
    exit_code = 4

    def __init__(self, message: str, *, hint: str = "", actual: object = None) -> None:
        super().__init__(message, hint=hint)
        self.actual = actual


class Invalid(LorimerError):
    """`param` names the offending field where there is one."""

    kind = "invalid"
    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", param: str | None = None, code: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.param = param
        self.code = code


class Refused(LorimerError):
    kind = "refused"
    exit_code = 5


class Busy(LorimerError):
    """`retry_after_s` is our best guess at when room will be free."""

    kind = "busy"

    def __init__(self, message: str, *, hint: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class Unavailable(LorimerError):
    kind = "unavailable"


class Corrupt(LorimerError):
    kind = "corrupt"
