"""What goes on the wire: the body is read once, the rules choose, and the result is a `WirePlan` or a `Refusal`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from operator import itemgetter, methodcaller
from typing import NamedTuple
from weakref import ref

from mitmproxy import http

from ..formats import (
    SESSION_HEADERS,
    Bindings,
    DecodeError,
    FormFacts,
    JsonScanError,
    RequestFacts,
    asked_in_form,
    asked_in_json,
    conversation,
    decoder,
    of_request,
    read_form_request,
    read_request,
    splice,
    with_field,
)
from ..model import Call, Format, Key, Provider, Refusal, Route, Target
from ..policy import credentials, paths, routing
from ..policy.credentials import Fields
from ..policy.failover import Ask, Option, Try, arrange, has_choice
from ..policy.headernames import names_of
from . import heads
from .passage import Passage, WirePlan
from .runtime import Runtime

_INCLUDE_USAGE = "stream_options.include_usage"
_NO_HEADERS: Mapping[str, str] = {}
_value = itemgetter(1)
_text: Callable[[bytes], str] = methodcaller("decode", "latin-1")
_said: Callable[[bytes], str] = methodcaller("decode", "utf-8", "surrogateescape")


class Content(NamedTuple):
    """The request body as read: `plain` is decoded, `facts` None where there is no JSON object to read, `form` where no form."""

    plain: bytes
    encoded: bool = False
    facts: RequestFacts | None = None
    model: str | None = None
    form: FormFacts | None = None
    form_type: str = ""
    """The content type of the form, which holds its boundary."""

    @property
    def streamed(self) -> bool:
        """Whether a stream is asked for."""
        found = self.facts or self.form
        return found is not None and found.stream


def read(flow: http.HTTPFlow, passage: Passage) -> Content | Refusal:
    """Read what routing needs from the body. A body that cannot be read where the model is in it is refused."""
    assert passage.place is not None
    body = flow.request.raw_content or b""
    passage.request_bytes = len(body)
    endpoint, model = passage.place.endpoint, passage.place.path_model
    if not body or (endpoint.model != "body" and endpoint.stream != "body"):
        return Content(body, model=model)
    headers = flow.request.headers
    kinds, encodings = heads.raw_values(headers, b"content-type"), heads.raw_values(headers, b"content-encoding")
    if len(kinds) > 1 or len(encodings) > 1:
        return Refusal(400, "invalid_body", "the request has two content types or encodings; send one")
    encoding = _said(encodings[0]) if encodings else ""
    try:
        plain = _decode(body, encoding, passage.snapshot.rules.gateway.max_body) if encoding else body
        content = _parse(plain, bool(encoding), _said(kinds[0]) if kinds else "")
        _note_asked(passage, content)
        return content if endpoint.model == "body" else content._replace(model=model)
    except (JsonScanError, DecodeError) as error:
        return Refusal(400, "invalid_body", f"the request body cannot be read: {error}")


def _parse(plain: bytes, encoded: bool, content_type: str) -> Content:
    if content_type.lower().startswith("multipart/"):
        form = read_form_request(plain, content_type)
        return Content(plain, encoded, None, form.model, form, content_type)
    facts = read_request(plain, content_type)
    return Content(plain, encoded, facts, facts.model)


def _note_asked(passage: Passage, content: Content) -> None:
    """Keep what a price may depend on, where the catalogue says that there are such prices."""
    assert passage.place is not None and passage.provider is not None
    usage = passage.snapshot.rules.providers[passage.provider].facts.usage
    if passage.place.endpoint.flavor not in usage.counts:
        return
    if content.form is not None:
        passage.terms = asked_in_form(content.form)
    elif content.facts is not None:
        passage.terms = asked_in_json(content.plain, content.facts)


def _decode(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a content encoding, at most `limit` bytes of it. Raises DecodeError."""
    reader = decoder(encoding)
    plain = bytearray()
    for piece in reader.feed_iter(body):
        plain += piece
        if len(plain) > limit:
            raise DecodeError(f"decoded, it is larger than gateway.max_body ({limit} bytes)")
    return bytes(plain + reader.end())


def describe(flow: http.HTTPFlow, passage: Passage, content: Content) -> Call:
    """The call, as the rules see it. On the base-URL door a `provider/` prefix of the model chooses the provider."""
    place = passage.place
    assert place is not None and passage.provider is not None
    endpoint = place.endpoint
    provider, model, request = passage.provider, content.model, flow.request
    if model and passage.door == "api" and "/" in model:
        split = paths.split_model_prefix(model, provider, passage.snapshot.rules.providers)
        provider, model = split or (provider, model)
    path, _, query = request.path.partition("?")
    streamed = "stream" in endpoint.name if endpoint.stream == "path" else content.streamed
    return Call(
        id=passage.id,
        time=passage.started,
        caller=passage.caller,
        door=passage.door,
        method=request.method,
        scheme=request.scheme,
        host=request.host,
        port=request.port,
        path=path,
        query=query,
        provider=provider,
        surface=place.surface.name,
        endpoint=endpoint.name,
        format=endpoint.format,
        model=model,
        requested_model=content.model,
        streamed=streamed,
        headers=_PlainHeaders(request.headers),
        client=passage.client,
        path_model=place.path_model,
    )


class _PlainHeaders(Mapping[str, str]):
    """The headers without credentials, by names in lower case, read when a rule first looks at one: most calls need none."""

    def __init__(self, headers: http.Headers) -> None:
        self._fields = headers.fields

    @property
    def may_name_session(self) -> bool:
        """Whether a header names a session, or would if it were kept."""
        return not SESSION_HEADERS.isdisjoint(names_of(self._fields).texts)

    @cached_property
    def _kept(self) -> Fields:
        return credentials.strip(self._fields)

    @cached_property
    def _read(self) -> dict[str, str]:
        return dict(zip(names_of(self._kept).texts, map(_text, map(_value, self._kept)), strict=True))

    def __getitem__(self, name: str) -> str:
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        # The names are known without a look at the values.
        return iter(dict.fromkeys(names_of(self._kept).texts))

    def __len__(self) -> int:
        return len(self._read)


class Aims(NamedTuple):
    """What a route comes to: the options for the plan, and how each is put on the wire."""

    ask: Ask
    equip: Callable[[Try], WirePlan]


def aim(runtime: Runtime, passage: Passage, call: Call, route: Route, content: Content, query: str) -> Aims | Refusal:
    """The targets of the route that have a usable key and know the endpoint, in the order to be tried."""
    finder = _Finder(passage, call)
    options = finder.options(route.targets)
    too_long = finder.options(route.too_long) if route.too_long else ()
    exhausted = finder.options(route.exhausted) if route.exhausted else ()
    chance = runtime.chance()
    if len(options) > 1:
        options = arrange(options, route.order, finder.weights(route, options), chance)
    if not options and not exhausted:
        return finder.refusal or Refusal(503, "no_target", f"route {route.name} has no target")
    ask = _ask(runtime, passage, call, content, (options or exhausted, too_long, exhausted if options else ()))
    plans: dict[int, WirePlan] = {}
    aims = finder.aims  # not the finder, which holds the passage, and so itself

    def equip(step: Try) -> WirePlan:
        """The body is edited once per target."""
        at = step.option.at
        known = plans.get(at)
        if known is None:
            known = plans[at] = _equip(aims[at], step.key, call, route, content, query)
        return known if known.key is step.key else known._replace(key=step.key)

    return Aims(ask, equip)


def _ask(runtime: Runtime, passage: Passage, call: Call, content: Content, options: tuple[tuple[Option, ...], ...]) -> Ask:
    gateway, first = passage.snapshot.rules.gateway, options[0]
    bound, session = Bindings(), None
    # What belongs to which key does not matter where there is one.
    if has_choice(*options):
        headers = call.headers
        if type(headers) is _PlainHeaders and not headers.may_name_session:
            headers = _NO_HEADERS
        bound = of_request(call.format, call.path, headers, content.plain)
        if not bound.soft and "sticky" in [option.provider.rotation for option in first]:
            members = content.facts.members if content.facts else None
            session = conversation(call.format, call.caller.agent, content.plain, members)
    times, held = gateway.timeouts, ref(passage)
    return Ask(
        options=first,
        too_long=options[1],
        exhausted=options[2],
        deadline=runtime.now() + gateway.deadline,
        attempts=gateway.attempts,
        max_wait=times.max_wait,
        small_wait=times.small_wait,
        retry=times.retry,
        hard=bound.hard,
        soft=bound.soft,
        session=session,
        wake=lambda: waiting.wake() if (waiting := held()) is not None else None,
    )


class _Aim(NamedTuple):
    provider: Provider
    mapped: paths.Mapped
    model: str | None


class _Finder:
    """Turns targets into options, and remembers why one could not be."""

    def __init__(self, passage: Passage, call: Call) -> None:
        self._passage, self._call = passage, call
        self.aims: dict[int, _Aim] = {}
        self.refusal: Refusal | None = None
        self._weights: dict[int, int] = {}

    def options(self, targets: Sequence[Target]) -> tuple[Option, ...]:
        """Those targets that could be called."""
        found = [self._option(at, target) for at, target in enumerate(targets)]
        return tuple([option for option in found if option is not None])

    def weights(self, route: Route, options: Sequence[Option]) -> tuple[float, ...]:
        """The weights of the options that are left."""
        return tuple(route.weights[self._weights[option.at]] for option in options) if route.weights else ()

    def _option(self, place: int, target: Target) -> Option | None:
        passage, call = self._passage, self._call
        assert passage.place is not None
        provider = passage.snapshot.rules.providers[target.provider]
        provider = paths.at_host(provider, call.host)
        model = target.model or call.model
        mapped = paths.wire_path(provider, passage.place, model)
        if mapped is None:
            text = f"{provider.name} has no endpoint for {call.format} as {call.endpoint}; route it to a provider that speaks it"
            self._cannot(Refusal(400, "format_not_spoken", text))
            return None
        keys = passage.snapshot.keys.get(provider.name, ()) if provider.keys_needed else (None,)
        if not keys:
            self._cannot(_no_key(provider))
            return None
        at = len(self.aims)
        self.aims[at] = _Aim(provider, mapped, model)
        self._weights[at] = place
        return Option(at, provider, model, keys)

    def _cannot(self, refusal: Refusal) -> None:
        self.refusal = self.refusal or refusal


def _no_key(provider: Provider) -> Refusal:
    if not provider.is_placed:
        text = f"{provider.name} has no address of its own; name one under providers.{provider.name}.upstream, and its keys"
        return Refusal(503, "no_upstream", text)
    names = provider.facts.env
    hint = f"set {names[0]} for the gateway" if names else f"name one under providers.{provider.name}.keys"
    return Refusal(503, "no_key", f"there is no usable key for {provider.name}; {hint} (valetkey check tells more)")


def _equip(aim: _Aim, key: Key | None, call: Call, route: Route, content: Content, query: str) -> WirePlan:
    edits = _edits(aim, call, route, content)
    body = None
    if edits.set or edits.remove:
        body = splice(content.plain, set=edits.set, remove=edits.remove)
    elif content.form is not None and aim.model and aim.model != content.form.model:
        body = with_field(content.plain, content.form_type, content.form.reader, "model", aim.model)
    return WirePlan(
        provider=aim.provider,
        surface=aim.mapped.surface,
        key=key,
        model=aim.model,
        path=aim.mapped.path + (f"?{query}" if query else ""),
        body=body,
        decoded=body is not None and content.encoded,
        identity=edits.added_usage,
        strip_usage_chunk=edits.added_usage,
    )


class _Edits(NamedTuple):
    set: Mapping[str, object]
    remove: tuple[str, ...]
    added_usage: bool


_UNEDITED = _Edits({}, (), False)


def _edits(aim: _Aim, call: Call, route: Route, content: Content) -> _Edits:
    """The few places of the body that change; nothing changes where there is no JSON object."""
    facts = content.facts
    if facts is None:
        return _UNEDITED
    wants_usage = call.format is Format.OPENAI_CHAT and call.streamed and aim.provider.facts.include_usage
    if not (wants_usage or route.set_body or route.remove_body or aim.model != facts.model):
        return _UNEDITED
    changes = dict(route.set_body)
    if aim.model and aim.model != facts.model and aim.mapped.endpoint.model == "body":
        changes["model"] = aim.model
    added_usage = wants_usage and not facts.include_usage
    if added_usage:
        changes[_INCLUDE_USAGE] = True
    return _Edits(changes, route.remove_body, added_usage)


def decide(call: Call, passage: Passage, content: Content) -> Route | Refusal:
    """Ask the rules."""
    rules, others = passage.snapshot.rules, content.facts.others if content.facts else ()
    found = routing.route(call, rules)
    if not others or isinstance(found, Refusal):
        return found
    return routing.others_refusal(call, found, others, rules) or found
