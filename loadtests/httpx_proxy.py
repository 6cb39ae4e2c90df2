"""A proxy as one writes it in an afternoon: Starlette and httpx, a share of the requests to a second server.

`python -m loadtests.httpx_proxy PORT STABLE_URL CANDIDATE_URL PERCENT`
"""

import random
import sys

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from loadtests.asgi import serve


def application(stable: str, candidate: str, share: float) -> Starlette:
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    client = httpx.AsyncClient(limits=limits, timeout=30)

    async def forward(request: Request) -> Response:
        url = candidate if random.random() < share else stable
        headers = {"content-type": request.headers.get("content-type", "application/json")}
        answer = await client.request(
            request.method, url + request.url.path, content=await request.body(), headers=headers
        )
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))

    return Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "POST"])])


if __name__ == "__main__":
    serve(application(sys.argv[2], sys.argv[3], float(sys.argv[4]) / 100), int(sys.argv[1]))
