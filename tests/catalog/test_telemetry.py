from __future__ import annotations

import pytest

from valetkey.catalog import find_telemetry, load_catalog, load_telemetry
from valetkey.errors import CatalogError

HOSTS = load_telemetry()


@pytest.mark.parametrize("host", ["statsig.anthropic.com", "Statsig.Anthropic.COM", "o1.ingest.us.sentry.io", "ab.chatgpt.com"])
def test_a_telemetry_host_is_known(host):
    assert find_telemetry(HOSTS, host)


@pytest.mark.parametrize("host", ["example.com", "ingest.us.sentry.io", "xstatsig.anthropic.com", "sentry.io.evil.test", "", "."])
def test_other_hosts_are_not(host):
    assert find_telemetry(HOSTS, host) is None


def test_every_entry_has_its_source():
    assert [each.name for each in HOSTS if not each.source.startswith("https://")] == []


def test_no_entry_is_written_twice():
    assert len({each.name for each in HOSTS}) == len(HOSTS)


def test_no_providers_host_is_telemetry():
    hosts = [host for facts in load_catalog().values() for host in facts.hosts]
    assert [host for host in hosts if find_telemetry(HOSTS, host)] == []


@pytest.mark.parametrize("text", ["- {name: a.test}", "[", "a: 1", "- 1"])
def test_a_broken_file_is_named(tmp_path, text):
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(CatalogError, match=r"t\.yaml"):
        load_telemetry(tmp_path / "t.yaml")
