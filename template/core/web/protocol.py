"""The HTTP protocol of the web process: that of uvicorn, with limits for slow clients."""

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

from core.config import get_settings


class TimedProtocol(H11Protocol):
    """Closes a connection if no request arrives on it, or if the client reads no answer."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()

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

    def _start_timer(self) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(get_settings().client_timeout, self._end)

    def _end(self) -> None:
        is_answering = self.cycle and not self.cycle.response_complete
        # A connection that became a WebSocket is no longer in `connections`.
        if self in self.connections and (self.flow.write_paused or not is_answering):
            self.transport.abort()
