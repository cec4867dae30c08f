"""Our twins of mitmproxy's small functions, and their originals: the same results, the same errors in the same words."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import connection, http, optmanager
from mitmproxy.addons import disable_h2c, maplocal, onboarding, tlsconfig, update_alt_svc
from mitmproxy.proxy import mode_specs
from mitmproxy.proxy.context import Context
from mitmproxy.test import taddons, tflow, tutils

from valetkey.proxy import shortcuts

BEFORE = {(each.owner, each.name): vars(each.owner).get(each.name) for each in shortcuts.SHORTCUTS}


@pytest.fixture(autouse=True)
def off():
    yield
    shortcuts.uninstall()


def both(call):
    """What a call gives or raises, with our twins and without."""
    found = []
    for ours in (True, False):
        assert not ours or shortcuts.install()
        try:
            found.append(told(call))
        finally:
            shortcuts.uninstall()
    return found


def told(call):
    try:
        made = call()
    except Exception as error:
        return type(error), str(error)
    return type(made), made


def same(call):
    ours, theirs = both(call)
    return ours == theirs


class Loud(str):
    """A text that has its own opinion of how it is encoded."""

    def encode(self, *_):
        return b"HOST"


class Bytes(bytes):
    pass


class Exact(http.Headers):
    """Headers that are told apart by case."""

    @staticmethod
    def _kconv(key):
        return key

    @staticmethod
    def _reduce_values(values):
        return values[-1]


class Watched(http.Headers):
    def __getitem__(self, key):
        return f"<{key}>"


class Updated(http.Headers):
    def update(self, *args, **others):
        self.updated = args
        super().update(*args, **others)


class Cooperating(http.Headers):
    """The next class in the order of inheritance wants to be made as well."""


class Other:
    def __init__(self, *args, **others):
        self.other = True
        super().__init__(*args, **others)


class Mixed(http.Headers, Other):
    pass


KINDS = st.sampled_from([http.Headers] * 6 + [Exact, Watched, Updated, Cooperating, Mixed])
TEXTS = st.sampled_from(["host", "Host", "HOST", "a", "", "é", "\udcff", "\ud800", "k\udce9", Loud("x")])
BYTES = st.sampled_from([b"host", b"Host", b"a", b"A", b"", b"\xff", "é".encode(), b"k\xe9", Bytes(b"Host")])
ODD = st.sampled_from([None, 0, 1.5, (), ("host",), bytearray(b"host"), memoryview(b"host"), object, [b"host"]])
FIELDS = st.lists(st.tuples(BYTES, BYTES), max_size=5)
ALL = BYTES | TEXTS | ODD
WRONG = st.lists(st.tuples(ALL, ALL) | st.lists(BYTES, max_size=3) | st.sampled_from([b"ab", "ab", 5, None]), max_size=4)


def bare(kind, fields):
    """Headers that hold anything, as they do when an addon puts it there."""
    made = kind()
    made.fields = tuple(fields)
    return made


@given(KINDS, FIELDS, ALL)
def test_all_values_of_a_name(kind, fields, name):
    assert same(lambda: kind(fields).get_all(name))


@given(KINDS, WRONG, ALL)
def test_all_values_where_the_fields_are_none(kind, fields, name):
    assert same(lambda: bare(kind, fields).get_all(name))


@given(KINDS, FIELDS, ALL, st.sampled_from([(), (None,), ("else",)]))
def test_one_value(kind, fields, name, default):
    assert same(lambda: kind(fields).get(name, *default))


@given(KINDS, WRONG, ALL)
def test_one_value_where_the_fields_are_none(kind, fields, name):
    assert same(lambda: bare(kind, fields).get(name))


@given(KINDS, FIELDS, ALL)
def test_whether_there_is_a_name(kind, fields, name):
    assert same(lambda: name in kind(fields))


@given(KINDS, WRONG, ALL)
def test_whether_there_is_a_name_where_the_fields_are_none(kind, fields, name):
    assert same(lambda: name in bare(kind, fields))


@given(KINDS, FIELDS | WRONG | ODD, st.dictionaries(st.sampled_from(["host", "content_type", "x"]), ALL, max_size=2))
def test_headers_are_made(kind, fields, more):
    assert same(lambda: vars(kind(fields, **more)))


@pytest.mark.parametrize("fields", [{b"ab": 1}, http.Headers([(b"a", b"b")]), range(3), "abc", b"abc", [(b"a", b"b")], None])
@pytest.mark.parametrize("once", [False, True])
def test_headers_are_made_of_other_things(fields, once):
    assert same(lambda: http.Headers(iter(fields) if once else fields).fields)


@given(FIELDS, ALL)
def test_the_arguments_have_names(fields, name):
    made = http.Headers(fields)
    assert same(lambda: (made.get_all(name=name), made.get(key=name, default=1), http.Headers(fields=fields)))


# Messages.

ANY = st.sampled_from(
    [
        None,
        b"x",
        Bytes(b"x"),
        bytearray(b"x"),
        "x",
        1,
        True,
        1.5,
        float("nan"),
        (),
        [],
        {},
        object(),
        int,
        http.Headers(),
        Exact(),
    ]
)
FIELD_NAMES = ["http_version", "headers", "content", "trailers", "timestamp_start", "timestamp_end"]


@dataclass
class Described(http.ResponseData):
    """As a user may make it: with types that are no classes."""

    pair: tuple[int, str] = (1, "a")
    anything: Any = None
    several: int | str | None = None


@dataclass
class Written(http.ResponseData):
    """With a type that is only written."""

    late: "list[int]" = ()  # type: ignore[assignment]  # noqa: UP037


def request(**fields):
    return http.RequestData(**{**vars(tutils.treq().data), **fields})


def response(kind=http.ResponseData, **fields):
    return kind(**{**vars(tutils.tresp().data), **fields})


def whether(call):
    """Whether a message is made or refused as in mitmproxy."""
    return same(lambda: call() is not None)


@given(st.dictionaries(st.sampled_from([*FIELD_NAMES, "host", "port", "method", "scheme", "authority", "path"]), ANY, max_size=3))
def test_requests_are_checked(fields):
    assert whether(lambda: request(**fields))


@given(st.dictionaries(st.sampled_from([*FIELD_NAMES, "status_code", "reason"]), ANY, max_size=3))
def test_responses_are_checked(fields):
    assert whether(lambda: response(**fields))


PAIRS = st.sampled_from([(1, "a"), [2, "b"], (1, 2)])


@given(st.dictionaries(st.sampled_from(["pair", "anything", "several", "reason"]), ANY | PAIRS, max_size=3))
def test_messages_of_a_users_making_are_checked(fields):
    assert whether(lambda: response(Described, **fields))


def test_types_that_are_only_written_are_an_error():
    assert whether(lambda: response(Written))


@pytest.mark.parametrize("fields", [{"port": "443"}, {"headers": ()}, {"timestamp_start": None}])
def test_a_wrong_type_is_an_error(fields):
    shortcuts.install()
    with pytest.raises(TypeError, match="Expected"):
        request(**fields)


# On and off.


def test_these_have_twins():
    """Each of them was found to run several times in every call."""
    names = [f"{each.owner.__name__}.{each.name}" for each in shortcuts.SHORTCUTS]
    fields = ["__init__", "__setattr__", "get_all", "__bytes__", "get", "__contains__"]
    version = "http1.read.raise_if_http_version_unknown"
    reading = ["http1.expected_http_body_size", "http.validate_headers", "http1.read._read_headers", version]
    assert [name.removeprefix("mitmproxy.net.http.").removeprefix("mitmproxy.proxy.layers.") for name in names] == [
        "MessageData.__post_init__",
        *(f"Headers.{name}" for name in fields),
        *reading,
        "MapLocal.request",
        "TlsConfig.request",
        "UpdateAltSvc.responseheaders",
        "DisableH2C.process_flow",
        "Onboarding.request",
        "Context.fork",
        "Connection.__eq__",
        "TLSLayer.receive_data",
        "TLSLayer.tls_interact",
        "OptManager.__getattr__",
        "_Option.current",
    ]


@pytest.mark.parametrize("number", range(len(shortcuts.SHORTCUTS)))
def test_each_twin_is_put_in(number):
    shortcuts.install()
    each = shortcuts.SHORTCUTS[number]
    assert vars(each.owner)[each.name] is each.twin


@pytest.mark.parametrize("number", range(len(shortcuts.SHORTCUTS)))
def test_each_original_is_put_back(number):
    shortcuts.install()
    shortcuts.uninstall()
    each = shortcuts.SHORTCUTS[number]
    assert vars(each.owner).get(each.name) is BEFORE[each.owner, each.name]


def test_nothing_is_left_on_the_classes():
    before = set(vars(http.Headers)) | set(vars(http.MessageData))
    shortcuts.install()
    shortcuts.uninstall()
    assert set(vars(http.Headers)) | set(vars(http.MessageData)) == before


def test_an_end_without_a_beginning_is_harmless():
    shortcuts.uninstall()
    assert http.Headers.get_all is BEFORE[http.Headers, "get_all"]


def test_the_end_leaves_what_another_one_put_there(monkeypatch):
    shortcuts.install()
    monkeypatch.setattr(http.Headers, "get_all", print)
    shortcuts.uninstall()
    assert http.Headers.get_all is print


def test_this_mitmproxy_is_one_that_we_know():
    assert shortcuts.differences() is None


def test_a_second_beginning_is_refused():
    assert (shortcuts.install(), shortcuts.install()) == (True, False)


@pytest.mark.parametrize("each", shortcuts.SHORTCUTS, ids=lambda each: each.name)
def test_what_another_one_put_there_stays(monkeypatch, each):
    monkeypatch.setattr(each.owner, each.name, print, raising=False)
    assert (shortcuts.install(), shortcuts.differences()) == (False, f"{each.owner.__name__}.{each.name} is replaced already")


@pytest.mark.parametrize("each", shortcuts.SHORTCUTS, ids=lambda each: each.name)
def test_a_refusal_puts_no_twin_in(monkeypatch, each):
    monkeypatch.setattr(each.owner, each.name, print, raising=False)
    shortcuts.install()
    assert not any(vars(other.owner).get(other.name) is other.twin for other in shortcuts.SHORTCUTS)


@pytest.mark.parametrize("number", range(len(shortcuts.SHORTCUTS)))
@pytest.mark.parametrize("change", [{"arguments": 7}, {"used": "something else"}])
def test_other_internals_are_seen(monkeypatch, number, change):
    changed = [each._replace(**change) if at == number else each for at, each in enumerate(shortcuts.SHORTCUTS)]
    monkeypatch.setattr(shortcuts, "SHORTCUTS", tuple(changed))
    assert shortcuts.differences().endswith("is not what it was in mitmproxy 12.2")


def test_staying_off_is_noticed_in_the_log(monkeypatch, caplog):
    monkeypatch.setattr(http.Headers, "get_all", print)
    shortcuts.install()
    assert "mitmproxy's own small functions are used" in caplog.text


def test_a_python_without_checks_is_seen():
    """`python -O` leaves out the function that checks the types."""
    code = "from valetkey.proxy import shortcuts; print(shortcuts.install())"
    environment = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run([sys.executable, "-BO", "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("value", [True, 7, 1.5, "text", None, ["a", "b"]])
@pytest.mark.parametrize("is_set", [False, True])
def test_an_option_has_its_value(value, is_set):
    kind = type(value) if value is not None else str | None
    option = optmanager._Option("name", Sequence[str] if isinstance(value, list) else kind, value, "", None)
    if is_set:
        option.set(value)
    assert same(lambda: option.current())


def test_a_list_in_an_option_is_a_copy():
    assert shortcuts.install()
    option = optmanager._Option("name", Sequence[str], ["a"], "", None)
    option.current().append("b")
    assert option.current() == ["a"]


def mapped(*specs):
    """What a request is answered with by the addon that maps addresses to files."""
    addon = maplocal.MapLocal()
    addon.replacements = [maplocal.parse_map_local_spec(spec) for spec in specs]
    flow = tflow.tflow()
    addon.request(flow)
    return flow.response and flow.response.content


@pytest.mark.parametrize("has_one", [True, False])
def test_an_address_is_mapped_to_a_file(tmp_path, has_one):
    (tmp_path / "file").write_bytes(b"local")
    specs = [f"|address|{tmp_path / 'file'}"] if has_one else []
    ours, theirs = both(lambda: mapped(*specs))
    assert ours == theirs == ((bytes, b"local") if has_one else (type(None), None))


@pytest.mark.parametrize("path", ["/v1", "/mitmproxy-5.crl", "/mitmproxy-6.crl", "/a/mitmproxy-5.crl", "/a.crl?b", "/\udcff"])
@pytest.mark.parametrize("live", [True, False])
def test_the_list_of_revoked_certificates_is_given(path, live):
    def given():
        addon, flow = tlsconfig.TlsConfig(), tflow.tflow()
        addon.certstore = SimpleNamespace(default_ca=SimpleNamespace(serial=5), default_crl=b"crl")
        flow.request.path, flow.live = path, live
        addon.request(flow)
        return flow.response and flow.response.content

    ours, theirs = both(given)
    assert ours == theirs


@pytest.mark.parametrize("fields", [(), ((b"Alt-Svc", b'h3=":443"'),), ((b"alt-svc", b""), (b"alt-svc", b'h2="a:1"')), None])
@pytest.mark.parametrize("keeps", [True, False])
def test_an_alternative_service_is_named_as_by_mitmproxy(fields, keeps):
    def named():
        addon, flow = update_alt_svc.UpdateAltSvc(), tflow.tflow(resp=True)
        flow.client_conn.proxy_mode = mode_specs.ProxyMode.parse("reverse:http://a")
        if fields is None:
            flow.response = None
        else:
            flow.response.headers.fields = fields
        with taddons.context(addon) as made:
            made.options.keep_alt_svc_header = keeps
            addon.responseheaders(flow)
        return flow.response.headers.fields

    ours, theirs = both(named)
    assert ours == theirs


@pytest.mark.parametrize(
    "fields", [(), ((b"Upgrade", b"h2c"), (b"connection", b"upgrade"), (b"http2-settings", b"")), ((b"upgrade", b"websocket"),)]
)
@pytest.mark.parametrize("line", [("PRI", "*", "HTTP/2.0"), ("PRI", "/", "HTTP/2.0"), ("GET", "*", "HTTP/1.1")])
def test_an_upgrade_without_tls_is_stopped_as_by_mitmproxy(fields, line):
    def stopped():
        flow = tflow.tflow()
        flow.request.headers.fields = fields
        flow.request.method, flow.request.path, flow.request.http_version = line
        disable_h2c.DisableH2C().request(flow)
        return flow.request.headers.fields, flow.error and flow.error.msg

    ours, theirs = both(stopped)
    assert ours == theirs


@pytest.mark.parametrize("is_on", [True, False])
def test_a_page_is_served_as_by_mitmproxy(is_on):
    def served():
        addon, flow = onboarding.Onboarding(), tflow.tflow()
        with taddons.context(addon) as made:
            made.options.onboarding = is_on
            waits = addon.request(flow)
            if waits is not None:
                asyncio.run(waits)
        return flow.response

    ours, theirs = both(served)
    assert ours == theirs


@pytest.mark.parametrize("name", ["plain", "unset", "several", "unknown", "_other"])
def test_an_option_is_looked_up_as_by_mitmproxy(name):
    def looked():
        made = optmanager.OptManager()
        made.add_option("plain", int, 1, "")
        made.add_option("unset", str, "a", "")
        made.add_option("several", Sequence[str], ["a"], "")
        made.plain = 2
        return getattr(made, name)

    ours, theirs = both(looked)
    assert ours == theirs


def test_without_a_file_no_address_is_written_out(monkeypatch):
    monkeypatch.setattr(http.Request, "pretty_url", property(lambda self: pytest.fail("it was")))
    shortcuts.install()
    assert mapped() is None


CLIENT = connection.Client(peername=("192.0.2.1", 1), sockname=("192.0.2.2", 2))
SERVER = connection.Server(address=("server", 1))


class OwnContext(Context):
    """A user's."""


class OwnServer(connection.Server):
    """A user's."""


def forked(kind):
    """A copy of a context: all that it has, and whether its layers are a list of its own."""
    context = kind(CLIENT, "options")
    context.server, context.more = SERVER, "more"
    context.layers.append("layer")
    made = context.fork()
    return type(made), vars(made), made.layers is context.layers


@pytest.mark.parametrize("kind", [Context, OwnContext])
def test_a_context_is_copied(kind):
    assert same(lambda: forked(kind))


@pytest.mark.parametrize("one", [CLIENT, SERVER, OwnServer(address=None)], ids=["client", "server", "own"])
@pytest.mark.parametrize(
    "other",
    [CLIENT, SERVER, SERVER.copy(), OwnServer(address=None), SERVER.id, None],
    ids=["client", "server", "copy", "own", "id", "none"],
)
def test_connections_are_compared(one, other):
    assert same(lambda: (one == other, one != other, other == one))


def test_a_saved_connection_is_the_same_as_the_one_that_it_was():
    other = connection.Server(address=None)
    other.id = SERVER.id
    assert shortcuts.install()
    assert other == SERVER
