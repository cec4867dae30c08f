"""When a key may try again: every spelling that providers use, and garbage."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.making import CATALOG
from valetkey.model import LimitFacts
from valetkey.policy.waits import LONGEST, Stated, duration, remaining, stated

NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z
IN_A_MINUTE = {
    "http": "Thu, 01 Jan 2026 00:01:00 GMT",
    "rfc850": "Thursday, 01-Jan-26 00:01:00 GMT",
    "rfc3339": "2026-01-01T00:01:00Z",
    "rfc3339_offset": "2026-01-01T01:01:00+01:00",
    "rfc3339_fraction": "2026-01-01T00:01:00.000000000Z",
    "epoch": "1767225660",
    "epoch_ms": "1767225660000",
}


def said(provider="openai", body=b"", **headers):
    """What `stated` makes of headers (underscores for hyphens) and a body."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return stated(CATALOG[provider], fields, body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)


def limits(dimension, left, reset, prefix="x-ratelimit"):
    return {f"{prefix}-remaining-{dimension}": left, f"{prefix}-reset-{dimension}": reset, f"{prefix}-limit-{dimension}": "100"}


def anthropic(dimension, left, reset):
    names = (f"anthropic-ratelimit-{dimension}-{part}" for part in ("limit", "remaining", "reset"))
    return dict(zip(names, ("100", left, reset), strict=True))


def google(**fields):
    return {"error": {"code": 429, "details": [{"@type": "type.googleapis.com/google.rpc.Help"}, fields]}}


def message(text):
    return {"error": {"message": text}}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("12ms", 0.012),
        ("290.9ms", 0.2909),
        ("1s", 1),
        ("7.66s", 7.66),
        ("6m0s", 360),
        ("2m59.56s", 179.56),
        ("1h2m3s", 3723),
        ("2h13m", 7980),
        ("156h14m36.7s", 562_476.7),
        ("1d2h", 93_600),
        ("1.5h", 5400),
        ("36s", 36),
        ("500µs", 0.0005),
        ("30", 30),
        ("6.2", 6.2),
        (" 5 ", 5),
        ("12 seconds", 12),
        ("1 minute", 60),
        ("2 Minutes", 120),
        ("3 days and 2 hours", 266_400),
        ("1 hour, 30 minutes", 5400),
        ("1h 5m", 3900),
        ("2026-01-02", 86_400),
        ("2026-01-01 at 00:01 UTC", 60),
        ("2026-01-01 00:01:30", 90),
        ("January 2, 2026", 86_400),
        ("Jan 2, 2026 at 00:00 UTC", 86_400),
        ("August 1st 2026", 212 * 86_400),
    ],
)
def test_a_duration_is_read(text, seconds):
    assert duration(text, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize("text", IN_A_MINUTE.values(), ids=IN_A_MINUTE)
def test_a_moment_is_a_duration_from_now(text):
    assert duration(text, NOW) == 60


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "0", "-1", "0s", "-5s", "0.0", "soon", "5x", "5 s x", "s", "1e3", "nan", "inf", "NaN", "1,5", "--1", "9" * 400,
        "1767225599", "2025-12-31T23:59:59Z", "Wed, 31 Dec 2025 23:59:59 GMT", "2026-13-01", "Thu, 99 Foo 2026 25:61:00 GMT",
        "Feb 31, 2026", "Mon, ", "0001-01-01T00:00:00+23:59", "٣",
    ],
)  # fmt: skip
def test_what_is_past_or_unreadable_is_unknown(text):
    assert duration(text, NOW) is None


@given(st.text(max_size=300), st.floats(0, 4e9))
def test_a_duration_is_positive_or_unknown(text, now):
    found = duration(text, now)
    assert found is None or found > 0


@given(st.integers(1, 10**9 - 1))
def test_whole_seconds_stay_what_they_are(seconds):
    assert duration(str(seconds), NOW) == seconds


@given(st.integers(0, 200), st.integers(0, 59), st.integers(1, 59_999))
def test_go_durations_add_up(hours, minutes, milliseconds):
    text = f"{hours}h{minutes}m{milliseconds / 1000}s"
    assert duration(text, NOW) == pytest.approx(hours * 3600 + minutes * 60 + milliseconds / 1000)


@given(st.datetimes(datetime(2026, 1, 1, 0, 0, 1), datetime(2037, 1, 1)))
def test_http_dates_and_rfc_3339_agree(moment):
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert duration(format_datetime(moment, usegmt=True), NOW) == duration(moment.isoformat(), NOW)


def test_milliseconds_come_first():
    assert said(retry_after_ms="1500", retry_after="2") == Stated(1.5, "1500", "retry-after-ms")


@pytest.mark.parametrize(("text", "seconds"), [("7", 7), ("0.5", 0.5), (IN_A_MINUTE["http"], 60), ("1m", 60)])
def test_retry_after_is_a_number_or_a_date(text, seconds):
    assert said(retry_after=text) == Stated(seconds, text, "retry-after")


def test_a_date_is_read_by_the_clock_of_the_answer():
    found = said(retry_after="Fri, 02 Jan 2026 00:00:10 GMT", date="Fri, 02 Jan 2026 00:00:00 GMT")
    assert found is not None and found.seconds == 10


def test_a_broken_date_of_the_answer_is_no_clock():
    found = said(retry_after=IN_A_MINUTE["http"], date="yesterday")
    assert found is not None and found.seconds == 60


@pytest.mark.parametrize("text", ["0", "-1", "", "soon", IN_A_MINUTE["http"].replace("2026", "2025")])
def test_a_retry_after_that_says_nothing_is_passed_over(text):
    assert said(retry_after=text, body=message("Please try again in 6.2s.")) == Stated(6.2, "6.2s", "text")


@pytest.mark.parametrize("text", ["99999999", "9999999999", "2099-01-01T00:00:00Z", "900000h"])
def test_a_rest_is_at_most_31_days(text):
    assert said(retry_after=text) == Stated(LONGEST, text, "retry-after")


def test_the_raw_value_is_kept_short():
    found = said(body=b'{"retry_after": "' + b"1s" * 6 + b'"}')
    assert found is not None and len(found.raw) <= 200


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        (google(retryDelay="36s"), 36),
        ([google(retryDelay="36s")], 36),
        (google(retryDelay="36.428s"), 36.428),
        (google(metadata={"quotaResetDelay": "156h14m36.7s"}), 562_476.7),
        (google(metadata={"quotaResetTimeStamp": "2026-01-01T00:01:00Z"}), 60),
        (google(retryDelay="0s", metadata={"quotaResetDelay": "9s"}), 9),
        (google(retryDelay="8s", metadata={"quotaResetDelay": "9s"}), 8),
        ({"error": {"metadata": {"headers": {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1767225660000"}}}}, 60),
        ({"error": {"metadata": {"headers": {"X-RateLimit-Reset": 1767225660000}}}}, 60),
        ({"error": {"metadata": {"headers": {"Retry-After": "5", "X-RateLimit-Reset": "1767225660000"}}}}, 5),
    ],
)
def test_a_body_states_it_in_its_structure(body, seconds):
    found = said("gemini", body)
    assert found is not None and (found.seconds, found.source) == (pytest.approx(seconds), "body")


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"[[]]", b"{", b"[" * 100_000, b'{"error":null}', b'{"error":[]}', b'{"error":{"details":{}}}',
        b'{"error":{"details":[null,1,{"retryDelay":{}},{"retryDelay":true},{"metadata":[]}]}}', b"\xff\xfe",
        b'{"error":{"metadata":{"headers":[]}}}', b'{"error":{"metadata":{"headers":{"x-ratelimit-reset":null}}}}',
        b'{"error":{"metadata":{"headers":{"x-ratelimit-reset":1e999}}}}',
    ],
)  # fmt: skip
def test_a_body_without_a_statement_states_nothing(body):
    assert said("openrouter", body) is None


def test_the_header_of_the_exhausted_dimension_is_read():
    headers = limits("requests", "5", "6m0s") | limits("tokens", "0", "2m59.56s")
    assert stated(CATALOG["groq"], headers, b"", NOW) == Stated(179.56, "2m59.56s", "reset-header")


def test_of_several_exhausted_dimensions_the_latest_counts():
    headers = anthropic("requests", "0", "2026-01-01T00:01:00Z") | anthropic("input-tokens", "0", "2026-01-01T00:02:00Z")
    assert stated(CATALOG["anthropic"], headers, b"", NOW) == Stated(120, "2026-01-01T00:02:00Z", "reset-header")


@pytest.mark.parametrize("left", ["1", "-1", "", "none"])
def test_a_dimension_with_something_left_states_nothing(left):
    assert stated(CATALOG["openai"], limits("requests", left, "6m0s"), b"", NOW) is None


@pytest.mark.parametrize("reset", ["0", "-1", "", "later"])
def test_a_reset_that_says_nothing_states_nothing(reset):
    assert stated(CATALOG["openai"], limits("requests", "0", reset), b"", NOW) is None


@pytest.mark.parametrize("reset", ["1767225660", "2026-01-01T00:01:00Z"])
@pytest.mark.parametrize("emptied", [{"-utilization": "1.0"}, {"-status": "rejected"}])
def test_a_spent_subscription_states_its_reset(reset, emptied):
    headers = {f"anthropic-ratelimit-unified-5h{name}": value for name, value in ({"-reset": reset} | emptied).items()}
    assert stated(CATALOG["anthropic"], headers, b"", NOW) == Stated(60, reset, "reset-header")


def test_a_subscription_with_something_left_states_nothing():
    headers = {"anthropic-ratelimit-unified-7d-utilization": "0.99", "anthropic-ratelimit-unified-7d-reset": "1767225660"}
    assert stated(CATALOG["anthropic"], headers, b"", NOW) is None


@pytest.mark.parametrize(
    ("form", "reset"),
    [
        ("seconds", "60"),
        ("duration", "1m"),
        ("rfc3339", "2026-01-01T00:01:00Z"),
        ("epoch", "1767225660"),
        ("epoch_ms", "1767225660000"),
    ],
)
def test_a_reset_has_the_format_of_the_catalogue(form, reset):
    facts = replace(CATALOG["openai"], limits=(LimitFacts("all", remaining="left", reset="reset", format=form),))
    assert stated(facts, {"left": "0", "reset": reset}, b"", NOW) == Stated(60, reset, "reset-header")


def test_an_azure_like_reset_of_minus_one_is_unknown():
    facts = replace(CATALOG["openai"], limits=(LimitFacts("all", remaining="left", reset="reset", format="seconds"),))
    assert stated(facts, {"left": "0", "reset": "-1"}, b"", NOW) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Rate limit reached for gpt-4o. Please try again in 6.2s. Visit https://platform.openai.com.", 6.2),
        ("Limit 6000, Used 5000, Requested 2000. Please try again in 5.289s.", 5.289),
        ("Please try again in 7m12s. Need more tokens?", 432),
        ("Please try again in 1h2m3s", 3723),
        ("Please try again in 20ms.", 0.02),
        ("* Quota exceeded.\nPlease retry in 36.428164s.", 36.428164),
        ("exceeded token rate limit. Please retry after 12 seconds, and go on.", 12),
        ("Rate limit is exceeded. Try again in 86400 seconds.", 86_400),
        ("Please retry after 12.", 12),
        ("retry after 30 min", 1800),
        ("You must wait for 45 seconds", 45),
        ("please wait 5 minutes before", 300),
        ("Your quota will reset after 2h13m36s.", 8016),
        ("Limit resets in 3 days and 2 hours", 266_400),
        ("Limit resets at 2026-01-01T00:01:00Z.", 60),
        ("You will regain access on 2026-01-02 at 00:00 UTC.", 86_400),
        ("You will regain access on 2026-01-02.", 86_400),
        ("You will regain access on January 2, 2026 at 00:00 UTC.", 86_400),
        ("Claude AI usage limit reached|1767225660", 60),
        ("RATE LIMIT. TRY AGAIN IN 3 SECONDS", 3),
        ('raw: {"retry_after": 4}', 4),
        ('raw: {"retryDelay": "36s"}', 36),
    ],
)
def test_words_say_when(text, seconds):
    found = said(body=message(text))
    assert found is not None and (found.seconds, found.source) == (pytest.approx(seconds), "text")


@pytest.mark.parametrize(
    "text",
    [
        "Please try again later.", "Please retry in a moment", "Retry 3 times", "try again in 5 tries", "wait",
        "after 12 seconds",
        "retry after 2020-01-01", "You will regain access on 2020-01-01 at 00:00 UTC.", "entry in 5s", "try again in 0s",
        "Limit 30000, Requested 40000.", "The reset of 5 minutes", "Claude AI usage limit reached|1",
    ],
)  # fmt: skip
def test_words_that_say_nothing_state_nothing(text):
    assert said(body=message(text)) is None


def test_plain_text_is_read_too():
    assert said(body=b"Too many requests, try again in 9 s") == Stated(9, "9 s", "text")


@pytest.mark.parametrize("piece", [b"try again in ", b"1s", b"retry after 1s, ", b"wait for at least ", b"2026-01-01 at 00:00"])
def test_long_bodies_are_no_burden(piece):
    """The patterns are bounded: a megabyte of what nearly fits must not stop the gateway."""
    assert said(body=piece * (1_000_000 // len(piece))) is None or piece == b"retry after 1s, "


def test_the_header_comes_before_body_and_words():
    found = said("gemini", google(retryDelay="36s"), retry_after="7")
    assert found is not None and found.source == "retry-after"


def test_the_structure_comes_before_the_reset_header():
    headers = limits("requests", "0", "6m0s")
    assert stated(CATALOG["openai"], headers, json.dumps(google(retryDelay="36s")).encode(), NOW).source == "body"


def test_the_reset_header_comes_before_the_words():
    headers = limits("requests", "0", "6m0s")
    assert stated(CATALOG["openai"], headers, b"try again in 5s", NOW).source == "reset-header"


NAMES = sorted(
    {name for facts in CATALOG.values() for x in facts.limits for name in (x.limit, x.remaining, x.spent, x.reset) if name}
)


@pytest.mark.parametrize("name", CATALOG)
@given(
    headers=st.dictionaries(st.sampled_from(["retry-after", "retry-after-ms", "date", *NAMES]), st.text(max_size=40), max_size=8),
    body=st.binary(max_size=200),
)
def test_garbage_is_within_bounds(name, headers, body):
    found = stated(CATALOG[name], headers, body, NOW)
    assert found is None or (0 < found.seconds <= LONGEST and len(found.raw) <= 200)


@pytest.mark.parametrize("name", CATALOG)
@given(
    headers=st.dictionaries(
        st.sampled_from(NAMES), st.sampled_from(["0", "1", "-1", "50", "1e9", "0.5", "1s", "x", ""]), max_size=12
    )
)
def test_a_share_is_within_bounds(name, headers):
    found = remaining(CATALOG[name], headers, NOW)
    assert found is None or (0 <= found.share <= 1 and (found.resets_in is None or 0 < found.resets_in <= LONGEST))


def test_the_scarcest_dimension_is_told():
    headers = limits("requests", "90", "1s") | limits("tokens", "25", "6m0s")
    found = remaining(CATALOG["openai"], headers, NOW)
    assert found is not None and (found.share, found.dimension, found.resets_in) == (0.25, "tokens", 360)


def test_utilization_is_what_is_spent():
    headers = {"anthropic-ratelimit-unified-5h-utilization": "0.75", "anthropic-ratelimit-unified-5h-reset": "1767225660"}
    found = remaining(CATALOG["anthropic"], headers, NOW)
    assert found is not None and (found.share, found.dimension, found.resets_in) == (0.25, "unified-5h", 60)


def test_of_equals_the_later_reset_is_told():
    headers = limits("requests", "0", "1s") | limits("tokens", "0", "6m0s")
    found = remaining(CATALOG["openai"], headers, NOW)
    assert found is not None and found.resets_in == 360


def test_mistral_counts_by_the_minute():
    headers = {"x-ratelimit-limit-req-minute": "5", "x-ratelimit-remaining-req-minute": "1"}
    found = remaining(CATALOG["mistral"], headers, NOW)
    assert found is not None and (found.share, found.resets_in) == (0.2, None)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-ratelimit-remaining-requests": "5"},
        {"x-ratelimit-limit-requests": "5"},
        {"x-ratelimit-remaining-requests": "-1", "x-ratelimit-limit-requests": "100"},
        {"x-ratelimit-remaining-requests": "0", "x-ratelimit-limit-requests": "0"},
        {"x-ratelimit-remaining-requests": "many", "x-ratelimit-limit-requests": "100"},
    ],
)
def test_what_is_not_told_is_unknown(headers):
    assert remaining(CATALOG["openai"], headers, NOW) is None


def test_more_left_than_the_limit_is_all():
    found = remaining(CATALOG["openai"], limits("requests", "200", "1s"), NOW)
    assert found is not None and found.share == 1


@pytest.mark.parametrize("name", ["gemini", "deepseek", "ollama"])
def test_who_sends_no_headers_tells_nothing(name):
    assert remaining(CATALOG[name], limits("requests", "1", "1s"), NOW) is None
