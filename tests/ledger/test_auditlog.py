from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import threading

import pytest

from support.proxy_receipts import receipt
from valetkey.errors import LedgerError
from valetkey.ledger import AuditedStore, AuditLog, LedgerWriter, Place, open_store, verify
from valetkey.ledger import auditlog as module
from valetkey.ledger.auditlog import entries_of
from valetkey.model import Attempt, Outcome

FAILED = Attempt("openai", "gpt-4o", "openai/1", "https://api.openai.com", 429, Outcome.THROTTLED, 20.0)
GOOD = Attempt("openai", "gpt-4o", "openai/2", "https://user@lab.test:8443/prefix?x=1", 200, Outcome.OK, 20.0)
KEYLESS = Attempt("lab", "m", None, "http://127.0.0.1:8000", 200, Outcome.OK, 20.0)
WITHHELD = Attempt("openai", "gpt-4o", "openai/1", "https://api.openai.com", None, Outcome.REFUSED, 1.0)
KEY = b"0123456789abcdef"


def use(id="1", **changes):
    return receipt(id=id, **{"attempts": (GOOD,)} | changes)


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path / "kept", "ledger")


@pytest.fixture
def log(place):
    return AuditLog(place, clock=lambda: 5.0)


def lines(place):
    return [json.loads(line) for path in place.files() for line in path.read_bytes().splitlines()]


def events(place):
    return [line["event"] for line in lines(place)]


def is_well(place, key=None):
    return verify(place.files(), place, key, whole=True).well


# What becomes an entry.


def test_each_attempt_with_a_key_is_an_entry():
    found = list(entries_of(use(attempts=(FAILED, KEYLESS, GOOD), project="p")))
    assert [(entry["attempt"], entry["key"], entry["outcome"], entry["status"], entry["cost_usd"]) for entry in found] == [
        (1, "openai/1", "throttled", 429, None),
        (3, "openai/2", "ok", 200, "0.0041"),
    ]


def test_an_entry_tells_who_and_where_but_not_what():
    (entry,) = entries_of(use(project="p"))
    assert entry == {
        "event": "use", "time": 0.0, "receipt": "1", "attempt": 1, "agent": "alice", "project": "p", "key": "openai/2",
        "host": "lab.test:8443", "path_class": "openai_chat", "outcome": "ok", "status": 200, "cost_usd": "0.0041",
    }  # fmt: skip


def test_the_cost_of_an_answer_without_key_is_no_keys():
    assert [entry["cost_usd"] for entry in entries_of(use(attempts=(FAILED, KEYLESS)))] == [None]


@pytest.mark.parametrize("reason", ["foreign_key", "misdirected"])
def test_a_refused_credential_is_an_entry_without_key(reason):
    (entry,) = entries_of(use(attempts=(), key=None, refused=reason, outcome="refused", status=401))
    assert (entry["event"], entry["key"], entry["reason"], entry["status"]) == ("refused", None, reason, 401)


@pytest.mark.parametrize("changes", [{"refused": "invalid_body"}, {"attempts": (KEYLESS,)}, {}], ids=str)
def test_other_calls_are_no_entries(changes):
    assert list(entries_of(use(**{"attempts": ()} | changes))) == []


def test_a_key_that_was_withheld_is_refused_not_used():
    (entry,) = entries_of(use(attempts=(WITHHELD,)))
    assert (entry["event"], entry["key"]) == ("refused", "openai/1")


def test_a_further_answer_of_a_connection_is_a_use():
    (entry,) = entries_of(use(attempts=(), parent="0"))
    assert (entry["event"], entry["attempt"], entry["key"], entry["cost_usd"]) == ("use", None, "openai/1", "0.0041")


def test_long_names_are_cut():
    (entry,) = entries_of(use(agent="x" * 10_000))
    assert len(entry["agent"]) == 200


# What is written.


def test_entries_go_on_where_the_log_ended(place, log):
    log.append([use("1"), use("2")])
    AuditLog(place).append([use("3")])
    assert [(line["seq"], line["receipt"]) for line in lines(place)] == [(1, "1"), (2, "2"), (3, "3")] and is_well(place)


@pytest.mark.parametrize("agent", ["\x00\n\r", "\udc80", "\U0001f511" * 300, '"},{', "\u2028"])
def test_whatever_an_agent_is_called_an_entry_is_one_line(place, log, agent):
    log.append([use(agent=agent)])
    (line,) = lines(place)
    assert line["agent"] == agent[:200] and is_well(place)


def test_the_files_are_private(place, log):
    log.append([use()])
    assert {path.stat().st_mode & 0o777 for path in (place.current, place.head)} == {0o600}


def test_the_folder_is_private(place, log):
    log.check()
    assert place.folder.stat().st_mode & 0o777 == 0o700


def test_with_a_key_entries_are_sealed_with_it(place, log):
    log.check()
    place.key.touch(0o600)
    place.key.write_bytes(KEY)
    log.append([use()])
    assert "hmac" in lines(place)[0] and is_well(place, KEY)


def test_nothing_is_written_for_calls_without_key(place, log):
    log.append([use(attempts=(KEYLESS,))])
    assert place.current.stat().st_size == 0


def test_a_batch_waits_for_the_disk_when_that_is_asked(place, monkeypatch):
    synced = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    AuditLog(place, fsync=True).append([use()])
    assert len(synced) == 1


def test_two_writers_at_once_make_one_chain(place):
    def write(name):
        log = AuditLog(place, max_bytes=20_000)
        for number in range(60):
            log.append([use(f"{name}{number}")] * 3)

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert is_well(place) and events(place).count("use") == 360


# What goes wrong.


def test_a_torn_line_stays_and_the_next_entry_names_it(place, log):
    log.append([use()])
    with place.current.open("ab") as file:
        file.write(b'{"seq":2,"prev"')
    log.append([use("2")])
    recovered = json.loads(place.current.read_bytes().splitlines()[2])
    torn = b'{"seq":2,"prev"\n'
    assert (recovered["event"], recovered["bytes"], recovered["sha256"]) == (
        "recovered",
        len(torn),
        hashlib.sha256(torn).hexdigest(),
    )


@pytest.mark.parametrize("torn", [b'{"seq":2', b"\0" * 40_000, b"x\ny\n\nz", b"\n"])
@pytest.mark.parametrize("first", [True, False])
def test_a_log_with_a_torn_line_that_was_named_is_well(place, log, torn, first):
    log.check() if first else log.append([use()])
    with place.current.open("ab") as file:
        file.write(torn)
    log.append([use("2")])
    assert is_well(place) and events_after(place) == ["recovered", "use"]


def events_after(place):
    return [json.loads(line)["event"] for line in place.current.read_bytes().splitlines()[-2:]]


def test_lost_entries_are_told_of(place, log):
    log.append([use("1"), use("2"), use("3")])
    place.current.write_bytes(b"".join(place.current.read_bytes().splitlines(keepends=True)[:1]))
    log.append([use("4")])
    assert [(line["event"], line.get("known"), line.get("expected")) for line in lines(place)] == [
        ("use", None, None),
        ("lost", 1, 3),
        ("use", None, None),
    ]


@pytest.mark.parametrize("without", [lambda head: head.unlink(), lambda head: head.write_bytes(b"")], ids=["gone", "empty"])
def test_a_log_without_head_may_have_lost_entries(place, log, without):
    log.append([use()])
    without(place.head)
    log.append([use("2")])
    assert events(place) == ["use", "lost", "use"]


def test_a_log_that_is_gone_is_told_of(place, log):
    log.append([use()])
    place.current.unlink()
    log.append([use("2")])
    assert events(place) == ["lost", "use"]


def test_a_key_that_is_gone_stops_the_log(place, log):
    log.check()
    place.key.touch(0o600)
    place.key.write_bytes(KEY)
    log.append([use()])
    place.key.unlink()
    with pytest.raises(LedgerError, match="sealed with a key that is not there"):
        log.append([use()])


@pytest.mark.parametrize("content", [b"garbage", b"another key, which is as long"])
def test_a_head_that_is_not_ours_stops_the_log(place, log, content):
    log.append([use()])
    place.head.write_bytes(content)
    with pytest.raises(LedgerError, match="valetkey audit verify"):
        log.append([use()])


def test_a_log_that_is_spoilt_too_far_stops(place, log):
    log.append([use()])
    with place.current.open("ab") as file:
        file.write(b"x" * (2 << 20))
    with pytest.raises(LedgerError, match="does not end with an entry"):
        log.append([use()])


def test_a_plain_head_does_not_take_the_place_of_a_keyed_one(place, log):
    log.append([use()])
    plain = place.head.read_bytes()
    place.key.touch(0o600)
    place.key.write_bytes(KEY)
    log.append([use("2")])
    place.head.write_bytes(plain)
    log.append([use("3")])
    assert events(place) == ["use", "use", "lost", "use"]


@pytest.mark.parametrize("broken", ["write", "pwrite"])
def test_a_full_disk_leaves_nothing_of_a_batch(place, log, monkeypatch, broken):
    log.append([use()])
    before = place.current.read_bytes()
    real = os.write

    def fail(file, data, *rest):
        real(file, bytes(data[:10]))
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module.os, broken, fail if broken == "write" else lambda *_: 0)
        with pytest.raises(LedgerError, match="No space left"):
            log.append([use("2")])
    assert place.current.read_bytes() == before


def test_a_short_write_goes_on(place, log, monkeypatch):
    real = os.write
    monkeypatch.setattr(module.os, "write", lambda file, data: real(file, data[:7]))
    log.append([use()])
    assert is_well(place)


def test_who_holds_the_log_is_not_waited_for_without_end(place, log, monkeypatch):
    monkeypatch.setattr(module, "_BUSY", 0.0)
    log.check()
    with place.head.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(LedgerError, match="locked by another process"):
            log.append([use()])


@pytest.mark.parametrize("which", ["current", "head"])
def test_a_symbolic_link_is_refused(place, log, tmp_path, which):
    place.folder.mkdir(0o700)
    getattr(place, which).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LedgerError, match="symbolic link"):
        log.check()


@pytest.mark.parametrize("which", ["current", "head"])
def test_a_second_name_of_another_file_is_refused(place, log, tmp_path, which):
    place.folder.mkdir(0o700)
    (tmp_path / "other").touch(0o600)
    getattr(place, which).hardlink_to(tmp_path / "other")
    with pytest.raises(LedgerError, match="not a plain file of one name"):
        log.check()


def test_a_pipe_is_refused(place, log):
    place.folder.mkdir(0o700)
    os.mkfifo(place.current, 0o600)
    with pytest.raises(LedgerError, match="not a plain file"):
        log.check()


@pytest.mark.parametrize(
    ("which", "mode", "fix"), [("current", 0o640, "chmod 600"), ("head", 0o602, "chmod 600"), ("folder", 0o770, "chmod go-w")]
)
def test_what_others_could_change_is_refused(place, log, which, mode, fix):
    log.check()
    getattr(place, which).chmod(mode)
    with pytest.raises(LedgerError, match=fix):
        log.check()


@pytest.mark.parametrize("which", ["current", "head"])
def test_what_belongs_to_somebody_else_is_refused(place, log, monkeypatch, which):
    log.check()
    monkeypatch.setattr(module.os, "geteuid", lambda: os.getuid() + 12)
    if os.getuid() == 0:
        os.chown(getattr(place, which), 4711, -1)
        monkeypatch.undo()
    with pytest.raises(LedgerError, match="chown"):
        log.check()


# Full files.


def test_the_chain_goes_on_in_the_next_file(place):
    log = AuditLog(place, max_bytes=1)
    for id in "123":
        log.append([use(id)])
    assert [path.name for path in place.files()] == [
        "ledger.audit.000000000001.jsonl",
        "ledger.audit.000000000002.jsonl",
        "ledger.audit.jsonl",
    ] and is_well(place)


def test_a_new_file_names_the_one_before(place):
    log = AuditLog(place, max_bytes=1)
    log.append([use("1")])
    log.append([use("2")])
    first = json.loads(place.current.read_bytes().splitlines()[0])
    last = json.loads(place.closed(1).read_bytes().splitlines()[-1])
    assert (first["event"], first["file"], first["prev"]) == ("continued", place.closed(1).name, last["hash"])


def test_a_crash_between_two_files_loses_nothing(place, log):
    log.append([use()])
    place.current.rename(place.closed(1))
    log.append([use("2")])
    assert events(place) == ["use", "continued", "use"] and is_well(place)


def test_a_full_file_that_is_torn_is_told_of_before_it_is_closed(place):
    log = AuditLog(place, max_bytes=1)
    log.append([use()])
    with place.current.open("ab") as file:
        file.write(b"{")
    log.append([use("2")])
    assert place.full() == [] and is_well(place)


def test_a_name_that_is_taken_is_not_overwritten(place):
    log = AuditLog(place, max_bytes=1)
    log.append([use()])
    place.closed(1).write_text("precious")
    with pytest.raises(LedgerError, match="move that one away"):
        log.append([use("2")])


def test_a_full_file_that_was_spoilt_stops_the_log(place, log):
    log.append([use()])
    place.current.rename(place.closed(1))
    place.closed(1).write_bytes(b"x\n")
    with pytest.raises(LedgerError, match="does not end with an entry"):
        log.append([use("2")])


# Beside the ledger.


@pytest.fixture
def stored(tmp_path, place, log):
    unaudited = set()
    store = open_store(f"sqlite:///{tmp_path}/ledger.db")
    yield lambda: AuditedStore(store, log, unaudited)
    store.close()


def test_receipts_are_in_both(place, stored):
    stored().add([use("1"), use("2")])
    assert [line["receipt"] for line in lines(place)] == ["1", "2"] and stored().last_row() == 2


def test_a_log_that_fails_does_not_keep_receipts_from_the_ledger(place, stored):
    place.folder.mkdir(0o770)
    place.folder.chmod(0o770)
    with pytest.raises(LedgerError):
        stored().add([use("1")])
    assert stored().last_row() == 1


def test_what_is_handed_in_again_is_once_in_both(place, stored):
    place.folder.mkdir(0o770)
    place.folder.chmod(0o770)
    with pytest.raises(LedgerError):
        stored().add([use("1")])
    place.folder.chmod(0o700)
    stored().add([use("1"), use("2")])
    assert ([line["receipt"] for line in lines(place)], stored().last_row()) == (["1", "2"], 2)


def test_no_receipts_are_a_question_whether_all_is_well(place, stored):
    place.folder.mkdir(0o770)
    place.folder.chmod(0o770)
    with pytest.raises(LedgerError):
        stored().add([])


def test_the_ledgers_writer_feeds_the_log_and_tries_again(tmp_path, place, log):
    place.folder.mkdir(0o770)
    place.folder.chmod(0o770)
    unaudited, problems = set(), []
    uri = f"sqlite:///{tmp_path}/ledger.db"
    writer = LedgerWriter(lambda: AuditedStore(open_store(uri), log, unaudited), problems.append, interval=0.01)
    writer.start()
    writer.submit(use("1"))
    writer.flush(10)
    failed = writer.healthy
    place.folder.chmod(0o700)
    writer.submit(use("2"))
    writer.close(10)
    assert (failed, writer.healthy, [line["receipt"] for line in lines(place)]) == (False, True, ["1", "2"])
