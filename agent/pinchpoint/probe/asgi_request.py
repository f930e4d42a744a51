"""One HTTP request of an ASGI application, driven by the messages that pass between it and its
server.

Its handler is the application: it begins with the call and ends where a response that comes in
one piece is begun, or where the last chunk of another one is sent. What lies before is waiting:
for the request's body (`receive`), and for a worker thread (`queue`; see `threadpool`). The
times at which an application waits for those do not matter, only how long: they are taken out
of the handler's time.
"""

from __future__ import annotations

from asyncio import _get_running_loop, current_task
from collections.abc import Awaitable, Callable
from time import monotonic_ns
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from pinchpoint.probe import trace_parent
from pinchpoint.probe.call import POSTPROCESS, PREPROCESS, RECEIVE, SEND, Call
from pinchpoint.probe.recorder import Recorder
from pinchpoint.probe.stepped import TaskClocks, stepped
from pinchpoint.probe.stream_meter import StreamMeter
from pinchpoint.probe.thread_state import call_of_context, current
from pinchpoint.schema.events import FLAG_ASYNC, FLAG_BEHAVIOUR_CALLED, FLAG_RESPONDED
from pinchpoint.schema.terms import HTTP, HTTP_STREAM, STATUS_MAX
from pinchpoint.schema.wire import UNKNOWN_BYTES

if TYPE_CHECKING:
    from pinchpoint.probe.asgi import AsgiProbe

Message = Any
"""A mapping, if the application keeps to the specification."""
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[Any]]

NO_RESPONSE = 0
_SERVER_ERROR = 500

_BYTES = (bytes, bytearray, memoryview)

_DIGITS_MAX = 19
"""Of a size that the record can hold."""

_START, _BODY = "http.response.start", "http.response.body"


class ChunkMeter(StreamMeter):
    """Counts the chunks of a body. Whether it is a stream is known at the second one."""

    __slots__ = ()

    def first(self, at_ns: int) -> None:
        """The first chunk was sent then."""
        self._first_message_ns = at_ns - self._arrival_ns
        self._last_ns = at_ns
        self._sent = 1


class HttpCall(Call):
    """A request. `serve` runs the application in place of the server's call.

    Args:
        probe: which it belongs to.
        recorder: where its records go.
        scope: the server's.
        receive: the server's.
        send: the server's.
        sampled: whether its detail is recorded too.

    Attributes:
        prefix: the template of the mounts that it has passed.
        responding_ns: when the response was begun, else 0.
        lent: whether it is with a worker thread, or waits for one.
    """

    prefix = ""
    task_clocks: TaskClocks | None = None
    lent = False
    _first_chunk_ns = 0
    _received = _gone = False

    def __init__(
        self,
        probe: AsgiProbe,
        recorder: Recorder,
        scope: Any,
        receive: Receive,
        send: Send,
        *,
        sampled: bool,
    ) -> None:
        method = scope["method"]
        Call.__init__(  # `super()` costs as much as a clock
            self, recorder, probe.routes.unmatched.get(method, 0), HTTP, probe.server_id
        )
        self.start_ns = self.behaviour_ns = self.arrival_ns
        self.stage = PREPROCESS
        self.flags = FLAG_ASYNC | FLAG_BEHAVIOUR_CALLED
        self.responding_ns = self._head_ns = self._chunks = 0
        self._status: int | None = None
        self._ended = False
        self._probe = probe
        self._method = method
        self._receive = receive
        self._send = send
        if sampled:
            self.weight = recorder.weigh()
            self.clocks = self.task_clocks = TaskClocks(
                current(), PREPROCESS, recorder.gc_watch.pause_ns
            )
            self.request_bytes = self.response_bytes = 0
            self._headers = scope["headers"]
            self.trace_parent = trace_parent.find(self._headers, trace_parent.HTTP_HEADER)

    async def serve(self, app: Callable[..., Awaitable[Any]], scope: Any) -> Any:
        """Run the application for this request, and record it."""
        token = call_of_context.set(self)
        try:
            served = app(scope, self.receive, self.send)
            clocks = self.task_clocks
            if clocks is not None and type(served) is CoroutineType:
                served = stepped(served, clocks, self._probe.part)
            return await served
        except BaseException as error:
            if self._status is None:
                # Servers answer for an application that fails before it has.
                failed = isinstance(error, Exception) and not self._gone
                self._status = _SERVER_ERROR if failed else NO_RESPONSE
            raise
        finally:
            self._leave(token)

    def _leave(self, token: Any) -> None:
        if not self._ended:
            try:
                self.end()
            except Exception as error:
                self._probe.part.trip(error)
                self._probe.active.discard(self)
        try:
            call_of_context.reset(token)
        except ValueError:
            pass  # the coroutine was closed from elsewhere, with a context that never had it

    def at_route(self, route: Any, _scope: Any) -> None:
        """A route of the application has matched."""
        routes, template = self._probe.routes, self.prefix + route.path_format
        self.method_id = routes.known.get((self._method, template)) or routes.learn(
            self.recorder, self._method, template
        )

    @property
    def ended(self) -> bool:
        """Whether the response has been sent, or will not be."""
        return self._ended

    @property
    def before_work(self) -> bool:
        """Whether neither a model has run nor the response has begun."""
        return not self.first_forward_ns and not self.responding_ns

    def waited(self, wait_ns: int) -> None:
        """That much of what seemed to be the handler's was waiting for a worker."""
        before_ns = self.behaviour_ns
        self._take_out(wait_ns)
        self.start_ns += self.behaviour_ns - before_ns

    def _take_out(self, wait_ns: int) -> None:
        # An application may wait for two things at once, and work meanwhile.
        work_ns = self.first_forward_ns or self.responding_ns or monotonic_ns()
        self.behaviour_ns += max(0, min(wait_ns, work_ns - self.behaviour_ns))

    def enter(self, stage: int) -> None:
        """A boundary between two stages."""
        self.stage = stage
        clocks = self.clocks
        if clocks is not None:
            clocks.enter(stage)
            loop = _get_running_loop()
            if loop is not None and current_task(loop) is not self.task:
                # A task of the application's own: nobody tells when it gives the thread back.
                clocks.suspend()

    # The server's end

    async def receive(self) -> Message:
        """What the application calls in place of the server's `receive`."""
        part = self._probe.part
        since_ns = 0
        if part.enabled:
            try:
                since_ns = self._receiving()
            except Exception as error:
                part.trip(error)
        message = await self._receive()
        if part.enabled:
            try:
                self._took(message, since_ns)
            except Exception as error:
                part.trip(error)
        return message

    def _receiving(self) -> int:
        if self._received or self._ended or not self.before_work:
            return 0
        self.enter(RECEIVE)
        return monotonic_ns()

    def _took(self, message: Message, since_ns: int) -> None:
        if since_ns:
            self._take_out(monotonic_ns() - since_ns)
            if self.before_work:
                self.enter(PREPROCESS)
        kind = _kind(message)
        if kind == "http.request":
            self._received = not message.get("more_body", False)
            if self.weight:
                self.request_bytes += _size(message.get("body"))
        elif kind == "http.disconnect":
            self._gone = True

    async def send(self, message: Message) -> Any:
        """What the application calls in place of the server's `send`."""
        part = self._probe.part
        if self._ended or not part.enabled:
            return await self._pass(message)
        if self.clocks is not None:
            self._enter_send()
        self.stage = SEND
        begin_ns = monotonic_ns()
        try:
            result = await self._send(message)
        except BaseException:
            if _kind(message) == _START:
                # The server has refused it, and will not make another one.
                self._status = NO_RESPONSE
            raise
        try:
            self._sent(message, begin_ns)
        except Exception as error:
            part.trip(error)
        return result

    async def _pass(self, message: Message) -> Any:
        if not self._ended:
            # Switched off meanwhile: what is seen from now on is not the whole.
            try:
                self._drop()
            except Exception as error:
                self._probe.part.trip(error)
        return await self._send(message)

    def _enter_send(self) -> None:
        try:
            self.enter(SEND)
        except Exception as error:
            self._probe.part.trip(error)

    def _sent(self, message: Message, begin_ns: int) -> None:
        if self._ended:
            return
        try:
            kind = message["type"]
        except (KeyError, TypeError):
            kind = None
        if kind == _BODY:
            body = message.get("body")
            if self.weight:
                self.response_bytes += _size(body)
            more = message.get("more_body", False)
            if body and (more or self._chunks):
                self._count()
            if not more:
                # As long as the head took, the handler had done its work.
                self.end_ns = begin_ns - self._head_ns
                self.end()
                return
        elif kind == _START:
            self.responding_ns = begin_ns
            self._head_ns = monotonic_ns() - begin_ns
            if not self._gone:
                self._status = _status(message.get("status"))
                self.flags |= FLAG_RESPONDED
            else:
                self._status = NO_RESPONSE
        if self.clocks is not None:
            self.enter(POSTPROCESS if self.forwards else PREPROCESS)
        else:
            self.stage = POSTPROCESS

    def _count(self) -> None:
        """A chunk has been sent."""
        self._chunks += 1
        if self.stream is not None:
            self.stream.sent()
        elif self._chunks == 1:
            self._first_chunk_ns = monotonic_ns()
        else:
            self.call_type = HTTP_STREAM
            meter = ChunkMeter(self.recorder, self.method_id, HTTP_STREAM, self.arrival_ns)
            meter.first(self._first_chunk_ns)
            meter.sent()
            self.stream = meter

    def end(self) -> None:
        """The response is complete, or will never be."""
        probe = self._probe
        self._drop()
        # What the application does from now on is no part of the request.
        call_of_context.set(None)
        if not probe.part.enabled:
            return
        status = self._status
        if status is None:
            # It has returned and said nothing, which servers answer for it.
            status = NO_RESPONSE if self._gone else _SERVER_ERROR
        if not self.method_id:
            self.method_id = probe.routes.without(self.recorder, self._method)
        if self.weight and not self._received:
            self.request_bytes = _declared(self._headers)
        self.finish(status)

    def _drop(self) -> None:
        self._ended = True
        self.task = None
        self._probe.active.discard(self)


def _kind(message: Message) -> Any:
    """The type of a message, None if it has none."""
    try:
        return message["type"]
    except (KeyError, TypeError):
        return None


def _status(status: Any) -> int:
    """As HTTP knows it; whatever else an application says is no status."""
    return status if isinstance(status, int) and 100 <= status <= STATUS_MAX else NO_RESPONSE


def _size(body: Any) -> int:
    return len(body) if isinstance(body, _BYTES) else 0


def _declared(headers: Any) -> int:
    """The size of a body that the application has not asked for, as its client announced it."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() and len(value) <= _DIGITS_MAX else UNKNOWN_BYTES
        if name == b"transfer-encoding":
            return UNKNOWN_BYTES
    return 0
