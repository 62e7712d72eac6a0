"""Watts of TP-Link's plugs (Kasa, Tapo) through python-kasa, which speaks their protocols. Their energy is in
steps of 1 Wh or coarser, of no use for a window.

    pip install 'rigbench[kasa]'; kasa --host 192.168.1.20 energy
"""

from __future__ import annotations

import asyncio
from typing import Any

from rigbench.telemetry.base import Missing

DISCOVERY_S = 2


class Plug:
    """One plug. Newer ones want the login of the owner's account."""

    def __init__(self, host: str, port: int | None, login: tuple[str, str] | None) -> None:
        self._host, self._port, self._login = host, port, login
        self._loop = asyncio.new_event_loop()
        self._device: Any = None

    def __call__(self) -> object:
        """{'power': 12.3} in watts; Missing with the reason. No text of the library is passed on: it can hold the address."""
        try:
            import kasa
        except ImportError:
            return Missing("python-kasa is not installed; pip install 'rigbench[kasa]'")
        try:
            return self._loop.run_until_complete(self._read(kasa))
        except kasa.AuthenticationError:
            return Missing("the plug refuses this login, which is read from RIGBENCH_WALL_LOGIN", "denied")
        except (kasa.TimeoutError, TimeoutError):
            return Missing(f"the plug did not answer within {DISCOVERY_S} s")
        except Exception as error:  # a plug's firmware may answer what the library does not expect
            self._device = None
            return Missing(f"the plug cannot be read ({type(error).__name__})")

    async def _read(self, kasa: Any) -> object:
        if self._device is None:
            login = None if self._login is None else kasa.Credentials(*self._login)
            self._device = await kasa.Discover.discover_single(
                self._host, port=self._port, credentials=login, discovery_timeout=DISCOVERY_S, timeout=DISCOVERY_S
            )
        await self._device.update()
        if (energy := self._device.modules.get(kasa.Module.Energy)) is None:
            return Missing("this plug does not measure power")
        return {"power": energy.current_consumption}

    def close(self) -> None:
        """Let go of the plug."""
        if self._device is not None:
            self._loop.run_until_complete(self._device.disconnect())
        self._loop.close()
