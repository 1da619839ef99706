"""The server of the page: who is let in, the page's own files, and an answer to each of its questions."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from robnet_zoo.core.documents import Document, parse_json
from robnet_zoo.editor.attacker import Attacker, Watching, models, offered
from robnet_zoo.editor.changes import AnyChange
from robnet_zoo.editor.desk import Desk
from robnet_zoo.editor.draft import Draft, blank
from robnet_zoo.editor.published import groups, load_published
from robnet_zoo.editor.view import comparison, neighbours, view
from robnet_zoo.errors import EditorError, RobnetZooError
from robnet_zoo.genotype.genotype import Genotype
from robnet_zoo.genotype.layers import DENOISE_FORMS
from robnet_zoo.genotype.operations import OPERATIONS
from robnet_zoo.reports import page as reports_page
from robnet_zoo.version import __version__

FOLDER = Path(__file__).parent
MAX_UPLOAD = 64 * 2**20  # bytes of pictures
CHANGE = re.compile(r"(^|; )change\.\w+\.")  # where a question has what a field of the page holds
MAX_QUESTION = 4 * Genotype.max_bytes  # a question holds two drafts at most
FILES: Mapping[str, tuple[Path, str]] = MappingProxyType(
    {
        "/": (FOLDER / "page.html", "text/html"),
        "/base.css": (reports_page.FOLDER / "page.css", "text/css"),  # the reports' colours and letters
        "/editor.css": (FOLDER / "editor.css", "text/css"),
        "/editor.js": (FOLDER / "editor.js", "text/javascript"),
        "/drawing.js": (FOLDER / "drawing.js", "text/javascript"),
        "/attack.js": (FOLDER / "attack.js", "text/javascript"),
    }
)
HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}
Json = dict[str, Any]


class Answer(JSONResponse):
    """An answer in ASCII: names of files that are not UTF-8 have half of a surrogate pair, which no encoding has."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode("ascii")


class Question(Document):
    """Base of what the page asks."""

    def answer(self, desk: Desk) -> Json:
        """Return the answer. Raises RobnetZooError."""
        raise NotImplementedError


class Start(Question):
    """The question of a new page: what to show first, and what there is to choose from."""

    def answer(self, desk: Desk) -> Json:
        draft, seen = desk.begin()
        return {
            "version": __version__,
            "view": view(draft, file=desk.file),
            "file": None if desk.file is None else str(desk.file),
            "seen": seen,
            "published": groups(),
            "operations": list(OPERATIONS),
            "denoise_forms": DENOISE_FORMS,
            "models": models(desk),
            "named": bool(desk.models),
            "attacks": offered(),
        }


class Look(Question):
    """A draft that the page kept over a reload or a restart."""

    draft: Draft

    def answer(self, desk: Desk) -> Json:
        return view(self.draft, file=desk.file)


class Edit(Question):
    """A change of a draft."""

    draft: Draft
    change: AnyChange

    def answer(self, desk: Desk) -> Json:
        return view(self.change.apply(self.draft), file=desk.file)


class Open(Question):
    """A draft to begin with: an empty one, a published architecture by name, or the text of a file."""

    published: str | None = None
    text: str | None = None
    file: str = "the file"

    def answer(self, desk: Desk) -> Json:
        return view(self.chosen(), file=desk.file)

    def chosen(self) -> Draft:
        """Return the draft. Raises DocumentError or EditorError."""
        if self.text is not None:
            return Draft.loads(self.text, source=self.file)
        return blank() if self.published is None else Draft.of_spec(load_published(self.published))


class Nearest(Question):
    """The published cells near a cell of a draft."""

    draft: Draft
    cell: str

    def answer(self, desk: Desk) -> Json:
        if self.cell not in self.draft.cells:
            raise EditorError(f"expected a cell of the draft, got {self.cell!r}")
        return neighbours(self.draft, self.cell)


class Compare(Question):
    """Two drafts side by side."""

    draft: Draft
    other: Draft

    def answer(self, desk: Desk) -> Json:
        return comparison(self.draft, self.other)


class Save(Question):
    """A draft to be written into the file that was named at the start."""

    draft: Draft
    seen: str | None

    def answer(self, desk: Desk) -> Json:
        return desk.save(self.draft, seen=self.seen)


QUESTIONS: Mapping[str, type[Question]] = MappingProxyType(
    {
        "start": Start,
        "look": Look,
        "edit": Edit,
        "open": Open,
        "nearest": Nearest,
        "compare": Compare,
        "save": Save,
    }
)


class OwnPageOnly:
    """Let only requests of this very page through.

    The host is checked, since a stranger's page can give its own name this machine's address (DNS rebinding); and so is
    the origin, since a stranger's page can send requests here.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if host not in self.hosts:
            refusal = f"expected the host {' or '.join(sorted(self.hosts))}, got {host!r}"
            await Answer({"error": refusal}, status_code=421)(scope, receive, send)
        elif origin not in (None, f"http://{host}") or self._is_anothers(headers):
            await Answer({"error": "expected a request of this page, got another's"}, status_code=403)(
                scope, receive, send
            )
        else:
            await self.app(scope, receive, self._with_headers(send))

    @staticmethod
    def _is_anothers(headers: Headers) -> bool:
        """Return whether another page sends the request; its user may still follow a link to this one."""
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        return elsewhere and headers.get("sec-fetch-mode") != "navigate"

    @staticmethod
    def _with_headers(send: Send) -> Callable[[Message], Awaitable[None]]:
        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        return sent


def create_app(desk: Desk, attacker: Attacker, *, hosts: Collection[str]) -> Starlette:
    """Return the application of an editor.

    Args:
        desk: what the editor was started with.
        attacker: which carries out attacks.
        hosts: the values of the header Host that are let through, such as 127.0.0.1:8421.
    """

    async def ask(request: Request) -> Response:
        kind = QUESTIONS.get(request.path_params["question"])
        if kind is None:
            raise HTTPException(404, f"unknown question {request.path_params['question']!r}")
        body = await body_of(request, limit=MAX_QUESTION)
        return Answer(await run_in_threadpool(lambda: kind.parse(parse_json(body)).answer(desk)))

    async def pictures(request: Request) -> Response:
        body = await body_of(request, limit=MAX_UPLOAD)

        def shown() -> Json:
            from robnet_zoo.editor.pictures import DIGITS, Upload

            name = request.query_params.get("name")
            key = DIGITS if name is None else attacker.pictures.add(Upload(name, body))
            return {"key": key, "name": name or DIGITS, "thumbnails": attacker.pictures.thumbnails(key)}

        return Answer(await run_in_threadpool(shown))

    async def attack(request: Request) -> Response:
        asked = Watching.parse(parse_json(await body_of(request, limit=MAX_QUESTION)))
        stop = Event()

        async def lines() -> AsyncIterator[bytes]:
            try:
                async for message in iterate_in_threadpool(attacker.messages(asked, stop)):
                    yield json.dumps(message, allow_nan=False).encode() + b"\n"
            finally:  # also when the page is gone
                stop.set()

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def file(request: Request) -> Response:
        path, media_type = FILES[request.url.path]
        return Response(path.read_bytes(), media_type=media_type)

    return Starlette(
        routes=[
            *(Route(path, file) for path in FILES),
            Route("/api/pictures", pictures, methods=["POST"]),
            Route("/api/attack", attack, methods=["POST"]),
            Route("/api/{question}", ask, methods=["POST"]),
        ],
        middleware=[Middleware(OwnPageOnly, hosts=hosts)],
        exception_handlers={RobnetZooError: _refused, HTTPException: _not_there, Exception: _failed},
    )


async def body_of(request: Request, *, limit: int) -> bytes:
    """Return the body of a request. Raises EditorError if it has more than `limit` bytes or ends too soon."""
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > limit:
                raise EditorError(f"expected at most {limit // 1024:,} KiB, got more")
    except ClientDisconnect:
        raise EditorError("expected a whole request, got a part of it") from None
    return bytes(body)


async def _refused(request: Request, error: Exception) -> Response:
    return Answer({"error": CHANGE.sub(r"\1", str(error))}, status_code=400)


async def _not_there(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return Answer({"error": error.detail}, status_code=error.status_code)


async def _failed(request: Request, error: Exception) -> Response:
    """Answer a mistake of our own; the server goes on. Starlette raises it once more, and the server logs it."""
    logging.getLogger(__name__).error("%s: %r", request.url.path, error)
    return Answer({"error": f"the server made a mistake: {type(error).__name__}"}, status_code=500)
