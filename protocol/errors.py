"""The one error that leaves this package. Raised by the codec, caught by both ends of a link."""


class ProtocolError(Exception):
    """The peer sent something that is not a message of this protocol. End the link and say why.

    Nothing of the frame may be used. The text names what was wrong and where; what it quotes of the frame is short
    and printable, because it goes to the operator's terminal and a hostile worker chooses it.
    """
