"""Watts of an uninterruptible power supply, from the server of Network UPS Tools (port 3493): all that hangs on its sockets.

Of many only the load in percent is known, and of which rating it is a percentage is not: they have no reading here.

    upsc myups@localhost ups.realpower
"""

from __future__ import annotations

import socket

from rigbench.telemetry.base import Missing

PORT = 3493


def read(host: str, port: int, ups: str | None, timeout_s: float) -> object:
    """{'power': '123.4'} in watts, of `ups` or the only one that the server has; Missing with the reason."""
    try:
        with socket.create_connection((host, port), timeout_s) as connection, connection.makefile("rw") as stream:

            def ask(*words: str) -> list[str]:
                stream.write(" ".join(words) + "\n")
                stream.flush()
                return stream.readline().split()

            if ups is None:
                ask("LIST", "UPS")
                names = []
                while (line := stream.readline().split())[:1] == ["UPS"]:
                    names.append(line[1])
                if len(names) != 1:
                    return Missing(
                        f"the UPS server has {len(names)} supplies: put the name before the address, NAME@HOST"
                    )
                ups = names[0]
            answer = ask("GET", "VAR", ups, "ups.realpower")
            ask("LOGOUT")
    except TimeoutError:
        return Missing(f"the UPS server did not answer within {timeout_s:g} s")
    except (OSError, UnicodeDecodeError, IndexError):
        return Missing("the UPS server cannot be reached, or is none")
    if answer[:1] == ["VAR"]:
        return {"power": answer[-1].strip('"')}
    code = "".join(answer[1:2])
    if code == "VAR-NOT-SUPPORTED":
        return Missing("this UPS does not tell ups.realpower")
    return Missing(f"the UPS server says {code or 'nothing'}", "denied" if code == "ACCESS-DENIED" else "unavailable")
