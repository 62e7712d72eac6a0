"""HTTP/1.1 chunked transfer coding, read bytes by bytes. Pure. (RFC 9112, section 7.1)

chunks = Chunks()
chunks.feed(b"4\\r\\nHell\\r\\n1\\r\\no\\r\\n")     # -> b"Hello"
"""

from __future__ import annotations

LONGEST_LINE_BYTES = 16 * 1024


class Chunks:
    """One body. `ended` is True after its last chunk and trailers."""

    __slots__ = ("_after", "_left", "_tail", "ended")

    def __init__(self) -> None:
        self.ended = False
        self._tail = b""
        self._left = 0
        """Bytes of the present chunk that are still to come, with the line end after it."""
        self._after = False
        """Only trailers are to come."""

    def feed(self, data: bytes) -> bytes:
        """The body's bytes in `data`. ValueError if this is no chunked body."""
        if self._tail:
            data, self._tail = self._tail + data, b""
        elif not self._left and not self._after:  # the usual case: one whole chunk, and it is not the last
            end = data.find(b"\r\n")
            if (
                0 < end < 9
                and data[:end].isalnum()
                and len(data) > end + 4
                and data.endswith(b"\r\n")
                and int(data[:end], 16) == len(data) - end - 4
            ):
                return data[end + 2 : -2]
        found = []
        at, length = 0, len(data)
        while at < length and not self.ended:
            if self._left:
                end = min(length, at + self._left)
                body_end = at + self._left - 2
                found.append(data[at : min(end, body_end)] if at < body_end else b"")
                self._left -= end - at
                at = end
                if not self._left and data[max(0, at - 2) : at] not in (b"\r\n", b"\n"):
                    raise ValueError("the server's HTTP chunks do not have the lengths that they say")
                continue
            end = data.find(b"\r\n", at)
            if end < 0:
                if length - at > LONGEST_LINE_BYTES:
                    raise ValueError("the server's HTTP chunks have no sizes")
                self._tail = data[at:]
                break
            line, at = data[at:end], end + 2
            if self._after:
                self.ended = not line
                continue
            size = int(line.partition(b";")[0], 16)
            if size < 0:
                raise ValueError("the server's HTTP chunks have no sizes")
            self._after = size == 0
            self._left = size + 2 if size else 0
        return found[0] if len(found) == 1 else b"".join(found)
