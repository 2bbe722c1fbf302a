"""Secrets: read where `env:NAME` and `file:PATH` say, and kept out of everything that is stored or shown.

A secret is redacted once it has been learned, in whatever form it comes (quoted, escaped, as base64, cut off at either end), and so is
what looks like one wherever it stands: a login in a URL, an Authorization header, a token of a known make, a private key, the value of a
variable called like a secret. What is learned holds for the process: a fault of any thread may repeat it, and no text is too late.
"""

import base64
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, quote_plus

from agent.schema import FaultError

REDACTED = "[redacted]"
MIN_CHARACTERS = 6  # a shorter secret would be found in any number, and is only redacted where a pattern finds it
MAX_SECRET_BYTES = 4096

_NAME = r"secret|passw(or)?d|passphrase|credential|(^|_)(pass|auth|dsn)\d*$|_pwd\d*$|token(_?\d+)?$|(^|_|api|access|private)key(_?\d+)?$"
_SECRET_NAME = re.compile(_NAME, re.IGNORECASE)
_REFERENCE = re.compile(r"env:[A-Za-z_]\w*|file:\S.*")
_CUT = "'\")]}>.\u2026\ufffd "  # what may stand between a text's end and where a secret in it was cut off
_VARIABLE = r"\b[A-Z][A-Z0-9_]*?(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|KEY|CREDENTIALS?)"
_FIELD = r"[\"'](?i:password|passphrase|secret|token|api_?key|access_?token)[\"']\s*:\s*b?"
_PATTERNS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"(?<=://)[^/?#\s\"'<>]+@"), REDACTED + "@"),
    (re.compile(r"([?&](?i:password|passphrase|secret|token|api_?key|signature|sig)=)[^&\s\"'<>#]+"), r"\1" + REDACTED),
    (re.compile(r"((?i:authorization)[\"']?\s*[:=])[^\r\n]+"), rf"\1 {REDACTED}"),
    (re.compile(r"\bBearer [A-Za-z0-9._~+/=-]{16,}"), f"Bearer {REDACTED}"),
    (
        re.compile(
            r"\b(?:(?:AKIA|ASIA)[A-Z0-9]{16}|gh[pousr]_\w{36,}|glpat-[\w-]{20,}|hf_\w{30,}|eyJ[\w-]{8,2000}\.eyJ[\w-]{8,2000}\.[\w-]+)"
        ),
        REDACTED,
    ),
    (re.compile(rf"({_VARIABLE}[\"']?(?:=|: ?))b?(?:\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;]+)"), r"\1" + REDACTED),
    (re.compile(rf"({_FIELD})(?:\"[^\"\n]*\"|'[^'\n]*')"), r"\1" + f'"{REDACTED}"'),
)


class Redactor:
    """Replaces the secrets that it has learned, and what looks like one."""

    def __init__(self) -> None:
        self._forms: frozenset[str] = frozenset()
        self._all = ""
        self._known = re.compile(r"(?!)")

    def learn(self, *secrets: str) -> None:
        """Redact these from now on; those shorter than MIN_CHARACTERS cannot be told from other text."""
        found = {form for secret in secrets for form in _forms(secret) if len(form) >= MIN_CHARACTERS and form != REDACTED}
        if found <= self._forms:
            return
        forms = self._forms | found
        self._known = re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))
        self._forms, self._all = forms, "\0".join(forms)

    def learn_variables(self, variables: Mapping[str, str]) -> None:
        """Redact the values of those that are called like a secret, unless they only say where it is."""
        self.learn(*(value for name, value in variables.items() if is_secret_name(name) and not _REFERENCE.fullmatch(value)))

    def redact(self, text: str) -> str:
        """`text` with REDACTED in place of every secret."""
        if len(text) < MIN_CHARACTERS:
            return text
        text = self._cut_off(self._known.sub(REDACTED, text))
        for pattern, instead in _PATTERNS:
            text = pattern.sub(instead, text)
        return text

    def document(self, value: Any) -> Any:
        """A JSON value with every text of it redacted, the names in its objects too."""
        match value:
            case str():
                return self.redact(value)
            case dict():
                pairs = cast("dict[Any, Any]", value).items()
                return {self.document(key): self.document(each) for key, each in pairs}
            case list() | tuple():
                return [self.document(each) for each in cast("list[Any]", value)]
            case _:
                return value

    def _cut_off(self, text: str) -> str:
        """`text` without the part of a secret that it begins or ends with, as the tail of a log and a message cut short may."""
        head, tail = text.lstrip(_CUT), text.rstrip(_CUT)
        if tail[-MIN_CHARACTERS:] in self._all and (size := max((_overlap(tail, form) for form in self._forms), default=0)):
            text = tail[:-size] + REDACTED + text[len(tail) :]
            head = text.lstrip(_CUT)
        if head[:MIN_CHARACTERS] in self._all and (size := max((_overlap(head[::-1], form[::-1]) for form in self._forms), default=0)):
            text = text[: len(text) - len(head)] + REDACTED + head[size:]
        return text


def _overlap(text: str, secret: str) -> int:
    """How many characters of `secret`, from its first on, `text` ends with; 0 for fewer than MIN_CHARACTERS."""
    lengths = range(min(len(secret) - 1, len(text)), MIN_CHARACTERS - 1, -1)
    return next((size for size in lengths if text.endswith(secret[:size])), 0)


def _forms(secret: str) -> Iterator[str]:
    """The secret as programs print it."""
    for text in {secret, secret.strip(), " ".join(secret.split())}:
        content = text.encode("utf-8", "surrogateescape")
        yield from (text, json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], repr(text)[1:-1], ascii(text)[1:-1])
        yield from (
            repr(content)[2:-1],
            text.encode("unicode_escape").decode(),
            quote(content, safe=""),
            quote(content),
            quote_plus(content),
        )
        yield from (encode(content).decode().rstrip("=") for encode in (base64.b64encode, base64.urlsafe_b64encode))


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    return bool(_SECRET_NAME.search(name))


REDACTOR = Redactor()
REDACTOR.learn_variables(os.environ)  # a worker on this machine inherits them, and may print them
learn = REDACTOR.learn
learn_variables = REDACTOR.learn_variables
redact = REDACTOR.redact


def to_json(value: Any) -> str:
    """A value as JSON with every text of it redacted: what the store writes."""
    return json.dumps(REDACTOR.document(value))


def reveal(reference: str) -> str:
    """Give what env:NAME or file:PATH refers to, without the line's end, and redact it from now on. Raises ValueError saying why not."""
    kind, _, where = reference.partition(":")
    try:
        secret = os.environ.get(where, "") if kind == "env" else _content(Path(where))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"the token cannot be read from {where}: {why}") from None
    if not secret:
        raise ValueError(f"{reference} holds no token")
    learn(secret)
    return secret


def revealed(variables: Mapping[str, str]) -> dict[str, str]:
    """Give a device's variables with the secrets in place of where they are, not to be stored or shown. Raises FaultError `env_missing`."""
    found: dict[str, str] = {}
    for name, value in variables.items():
        try:
            found[name] = reveal(value) if is_secret_name(name) and _REFERENCE.fullmatch(value) else value
        except ValueError as error:
            mend = "mend it in inventory.yaml, or export the variable before the run"
            raise FaultError("env_missing", f"{name} under agent.env: {error}", mend) from None
    return found


def _content(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(MAX_SECRET_BYTES).decode("utf-8").strip()
