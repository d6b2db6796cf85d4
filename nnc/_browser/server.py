"""Server of `nnc demo --browser`, which answers only requests from its own page to 127.0.0.1."""

from __future__ import annotations

import json
import socket
import webbrowser
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from nnc._browser.session import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

HOST = "127.0.0.1"
MAX_BODY_BYTES = 4 * 2**20  # largest size of the body of a request
MEDIA_TYPES = {"index.html": "text/html", "page.css": "text/css", "page.js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class SameOriginOnly:
    """ASGI middleware that refuses other hosts (DNS rebinding), other origins, and requests that are not JSON.

    Parameters
    ----------
    app : ASGI application
        Application that receives the other requests.
    port : int
        Port of the server.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app, self.hosts = app, {f"{name}:{port}" for name in (HOST, "localhost")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it with the status 403 or 415."""
        if scope["type"] == "http":
            headers: dict[str, str] = {}
            for key, value in scope["headers"]:
                name = key.decode("latin-1")
                # Replace a repeated header by "".
                headers[name] = value.decode("latin-1") if name not in headers else ""
            refused = self.refuse(scope["method"], headers)
            if refused is not None:
                await refused(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def refuse(self, method: str, headers: dict[str, str]) -> Response | None:
        """Return the response that refuses a request, or None if the request is allowed."""
        if headers.get("host") not in self.hosts:
            return PlainTextResponse("the host must be the address that nnc has printed", 403)
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{headers['host']}":
            return PlainTextResponse("the origin must be the page of this server", 403)
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return PlainTextResponse("the request must come from the page of this server", 403)
        if method == "POST" and headers.get("content-type") != "application/json":
            return PlainTextResponse("the content type must be application/json", 415)
        return None


def json_response(content: dict[str, Any], status: int = 200) -> Response:
    """Return a response in ASCII, so that it may contain every text, also surrogates."""
    return Response(json.dumps(content, allow_nan=False), status, HEADERS, "application/json")


async def respond(request: Request) -> Response:
    """Answer a request of the page.

    The answer is computed in the thread of the event loop. Requests are therefore answered one after the other, and do
    not share the warnings that `session.train` records. Signals are handled between two epochs.
    """
    body = b""
    try:
        async for part in request.stream():
            body += part
            if len(body) > MAX_BODY_BYTES:
                return json_response({"error": f"the request must have at most {MAX_BODY_BYTES} bytes"}, 413)
    except ClientDisconnect:
        # Starlette requires a response, although the client has closed the connection.
        return json_response({"error": "the request must be complete"}, 400)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError) as error:
        return json_response({"error": f"the request must be JSON without deep nesting, got {error}"}, 400)
    try:
        return json_response(answer(request.path_params["request"], values, request.app.state.is_stopping))
    except (ValueError, TypeError, ArithmeticError, OSError) as error:
        return json_response({"error": str(error)}, 400)


async def page(request: Request) -> Response:
    """Return a file of the page."""
    name = request.path_params.get("name", "index.html")
    if name not in MEDIA_TYPES:
        return PlainTextResponse("not found", 404)
    text = files("nnc._browser").joinpath(name).read_text(encoding="utf-8")
    return Response(text, media_type=MEDIA_TYPES[name], headers=HEADERS)


def build_app(port: int, is_stopping: Callable[[], bool] = lambda: False) -> ASGIApp:
    """Return the ASGI application for a server on this port.

    Parameters
    ----------
    port : int
        Port of the server.
    is_stopping : callable, optional
        Returns whether the server is stopping, which ends a training.
    """
    routes = [
        Route("/", page),
        Route("/{name}", page),
        Route("/api/{request}", respond, methods=["POST"]),
    ]
    app = Starlette(routes=routes)
    app.state.is_stopping = is_stopping
    return SameOriginOnly(app, port)


def bind(port: int) -> socket.socket:
    """Return a socket that listens on 127.0.0.1; port 0 is any free port."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((HOST, port))
        listener.listen()  # queue the requests that come before Uvicorn has started
    except OSError as error:
        listener.close()
        raise OSError(f"--port must be a free port, got {port} ({error}); omit --port") from None
    return listener


def serve(port: int, open_page: bool) -> None:
    """Serve the page on 127.0.0.1 until Ctrl-C."""
    with bind(port) as listener:
        port = listener.getsockname()[1]
        url = f"http://{HOST}:{port}/"
        print(f"The page is at {url} (only for programs on this computer). Stop the server with Ctrl-C.", flush=True)
        if open_page:
            webbrowser.open(url)
        app = build_app(port, lambda: server.should_exit)
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off", timeout_graceful_shutdown=2)
        )
        server.run(sockets=[listener])
