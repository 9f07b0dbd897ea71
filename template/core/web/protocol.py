"""The HTTP protocol of the web process: uvicorn's protocol, with limits for slow clients."""

import asyncio
from math import inf

from uvicorn.protocols.http.h11_impl import H11Protocol

from core.config import get_settings

BYTES_PER_SECOND = 1000


class TimedProtocol(H11Protocol):
    """Closes a connection if its client sends no whole request, or reads no answer, in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        is_discarded = self.cycle and self.cycle.response_complete and self.cycle.more_body
        if self._timer and not is_discarded:
            left = self._timer.when() - self.loop.time()
            self._start_timer(left + len(data) / BYTES_PER_SECOND)
        super().data_received(data)

    def on_response_complete(self) -> None:
        self._start_timer()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._start_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timer.cancel()

    def _start_timer(self, seconds: float = inf) -> None:
        self._stop_timer()
        # A quick client saves no time that it could use to stall later.
        limited = min(seconds, get_settings().client_timeout)
        self._timer = self.loop.call_later(limited, self._check)

    def _check(self) -> None:
        if self not in self.connections:  # it became a WebSocket
            return
        is_answering = self.cycle and not self.cycle.response_complete
        is_sending = is_answering and self.cycle.more_body and not self.flow.read_paused
        if self.flow.write_paused or is_sending or not is_answering:
            self.transport.abort()
        else:
            self._start_timer()
