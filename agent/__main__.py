"""The agent's verbs. A request is one JSON object on standard input, the answer one JSON line on standard output.

The controller calls ``serve``, which answers all the others over one link (agent.serving), and ``cancel`` by itself; the agent itself
starts ``worker`` and ``try``.
"""

import argparse
import os
import sys
from typing import Any, Callable, Dict, List, Optional

from agent.cache import DEFAULT, Cache
from agent.schema import PROTOCOL, FaultError, LaunchSpec, SchemaError, decode, encode, load
from agent.serving import MAX_REQUEST_BYTES, refusal, serve, tell

IDLE_S = 3600.0

# Each verb imports what it needs: on a slow board that is a good part of its time.


def _probe(cache: Cache, request: Dict[str, Any], arguments: argparse.Namespace) -> Any:
    from agent import probe

    environments = load(Dict[str, str], request.get("environments", {}), "environments")
    environ = load(Dict[str, str], request.get("environ", {}), "environ")
    return probe.probe(cache, arguments.root, None if arguments.quick else environments, environ)


def _install(cache: Cache, request: Dict[str, Any], _: argparse.Namespace) -> Any:
    from agent import blobs

    return {"installed": blobs.install(cache, _text(request, "environment"), _text(request, "archive"))}


def _lease(cache: Cache, request: Dict[str, Any], _: argparse.Namespace) -> Any:
    from agent import lease

    action = request.get("action", "show")
    if action == "acquire":
        lease.acquire(cache, _text(request, "owner"), load(float, request.get("ttl_s"), "ttl_s"))
    elif action == "release":
        lease.release(cache, _text(request, "owner"))
    elif action != "show":
        raise SchemaError("a lease is acquired, released or shown")
    return lease.state(cache)


def _start(cache: Cache, request: Dict[str, Any], arguments: argparse.Namespace) -> Any:
    from agent import supervisor

    spec: LaunchSpec = load(LaunchSpec, request)
    return {"launch": spec.launch, "started": supervisor.start(cache, spec, arguments.root)}


def _cancel(cache: Cache, request: Dict[str, Any], _: argparse.Namespace) -> Any:
    from agent import supervisor

    return {"cancelled": supervisor.cancel(cache, _text(request, "launch"))}


def _verify(cache: Cache, request: Dict[str, Any], _: argparse.Namespace) -> Any:
    from agent import blobs

    return {"blobs": blobs.verify(cache, _texts(request, "blobs")), "environments": cache.names("envs")}


def _gc(cache: Cache, request: Dict[str, Any], arguments: argparse.Namespace) -> Any:
    from agent import blobs

    if not arguments.everything:
        return {"freed_bytes": blobs.delete_launches(cache, _texts(request, "launches"))}
    return {"freed_bytes": blobs.empty(cache)} if arguments.yes else blobs.garbage(cache)


def _text(request: Dict[str, Any], name: str) -> str:
    return load(str, request.get(name), name)  # type: ignore[no-any-return]


def _texts(request: Dict[str, Any], name: str) -> List[str]:
    return load(List[str], request.get(name, []), name)  # type: ignore[no-any-return]


VERBS: Dict[str, Callable[[Cache, Dict[str, Any], argparse.Namespace], Any]] = {
    "probe": _probe,
    "install": _install,
    "lease": _lease,
    "start": _start,
    "cancel": _cancel,
    "verify": _verify,
    "gc": _gc,
}


def main(argv: Optional[List[str]] = None) -> int:
    """Run one verb and return the exit status: 0, or 1 with a fault in the answer."""
    arguments = _parse(sys.argv[1:] if argv is None else argv)
    os.umask(0o077)
    cache = Cache(arguments.cache)
    if arguments.verb == "worker":
        return _worker(cache, arguments)
    if arguments.verb == "try":
        return _try(arguments.backend)
    if arguments.verb == "serve":
        return _serve(cache, arguments)
    try:
        request = _read_request()
    except ValueError as error:
        answer = refusal(arguments.verb, error)
    else:
        answer = _answer(cache, request, arguments)
    tell(answer)
    return 0 if "ok" in answer else 1


def _answer(cache: Cache, request: Dict[str, Any], arguments: argparse.Namespace) -> Dict[str, Any]:
    try:
        cache.create()
        return {"v": PROTOCOL, "ok": VERBS[arguments.verb](cache, request, arguments)}
    except (FaultError, OSError, ValueError) as error:
        return refusal(arguments.verb, error)


def _serve(cache: Cache, served: argparse.Namespace) -> int:
    def answer(verb: str, options: List[str], request: Dict[str, Any]) -> Dict[str, Any]:
        if verb not in VERBS:
            raise SchemaError("there is no verb {!r}".format(verb[:40]))
        return _answer(cache, request, _parse([verb, "--cache", cache.root, "--root", served.root, *options]))

    return serve(cache, served.idle, answer)


def _parse(argv: List[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fleetmark-agent", description="The device's side of fleetmark.")
    parser.add_argument("verb", choices=[*sorted(VERBS), "serve", "worker", "try"])
    parser.add_argument("backend", nargs="?", help="for try")
    parser.add_argument("--cache", default=DEFAULT, help="the agent's folder (default: %(default)s)")
    parser.add_argument("--root", default="/", help="where probe and start read system files (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="probe without importing runtimes")
    parser.add_argument("--everything", action="store_true", help="gc: all that no running launch uses")
    parser.add_argument("--yes", action="store_true", help="gc: really delete everything")
    parser.add_argument("--idle", type=float, default=IDLE_S, help="for serve: seconds without a request after which it ends")
    parser.add_argument("--launch", help="for worker")
    parser.add_argument("--events", type=int, help="for worker")
    parser.add_argument("--spawned", type=float, help="for worker")
    return parser.parse_args(argv)


def _read_request() -> Dict[str, Any]:
    """The request, at most MAX_REQUEST_BYTES; none from a terminal or a closed standard input."""
    if sys.stdin is None or sys.stdin.isatty():
        return {}
    text = sys.stdin.buffer.read(MAX_REQUEST_BYTES + 1)
    if len(text) > MAX_REQUEST_BYTES:
        raise SchemaError("a request of over {} bytes".format(MAX_REQUEST_BYTES))
    request: Any = decode(text) if text.strip() else {}
    if not isinstance(request, dict):
        raise SchemaError("a request is an object")
    return request  # pyright: ignore[reportUnknownVariableType]


def _try(backend: str) -> int:
    """What the backend's own probe says, on a descriptor that its runtime does not know."""
    from agent import probe

    answer = os.dup(1)
    os.dup2(2, 1)
    os.write(answer, encode(probe.try_backend(backend)) + b"\n")
    sys.stdout.flush()
    os._exit(0)


def _worker(cache: Cache, arguments: argparse.Namespace) -> int:
    from agent import worker

    worker.run(cache, arguments.launch, arguments.events, arguments.spawned)
    return 0


if __name__ == "__main__":
    sys.exit(main())
