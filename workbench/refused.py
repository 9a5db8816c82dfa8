"""Refused: why a message of the client gets an Error reply."""

__all__ = ["Refused"]


class Refused(Exception):
    """The message gets an Error reply with this errno; ``close`` ends the conversation too."""

    def __init__(self, code: int, why: str, close: bool = False) -> None:
        self.code = code
        self.close = close
        super().__init__(why)
