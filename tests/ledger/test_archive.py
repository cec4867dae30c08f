from __future__ import annotations

import base64
import io
import json
import threading

import pytest

from valetkey.errors import LedgerError
from valetkey.ledger import Archive, purge_archive
from valetkey.ledger import archive as module
from valetkey.ledger.redaction import LIMIT

REQUEST = {"method": "POST", "url": "https://x.test/v1?key=abc&n=1", "headers": [["Authorization", "Bearer abc"]], "body": b"hi"}
RESPONSE = {"status": 200, "headers": [["set-cookie", "abc"], ["x-request-id", "1"]], "body": b"hello"}
DAY = 1_795_219_200.0  # 2026-11-21


def written(tmp_path, request=REQUEST, response=RESPONSE):
    archive = Archive(tmp_path / "kept", pytest.fail)
    archive.write("1", DAY, request, response)
    archive.close()
    return json.loads((tmp_path / "kept" / "2026-11-21.jsonl").read_text())


def test_a_call_is_a_line(tmp_path):
    record = written(tmp_path)
    assert (record["id"], record["request"]["body"], record["response"]["body"]) == ("1", "hi", "hello")


def test_no_credential_is_kept(tmp_path):
    assert "abc" not in json.dumps(written(tmp_path))


def test_everything_else_is(tmp_path):
    record = written(tmp_path)
    assert record["request"]["url"].endswith("&n=1") and ["x-request-id", "1"] in record["response"]["headers"]


def test_a_call_without_answer_is_kept(tmp_path):
    assert written(tmp_path, response=None)["response"] is None


def test_bytes_are_base64(tmp_path):
    response = written(tmp_path, response=RESPONSE | {"body": b"\xff\x00"})["response"]
    assert base64.b64decode(response["body"]) == b"\xff\x00"


def test_a_large_body_is_cut_and_says_so(tmp_path):
    response = written(tmp_path, response=RESPONSE | {"body": b"x" * (LIMIT + 1)})["response"]
    assert (len(response["body"]), response["truncated"]) == (LIMIT, LIMIT + 1)


def test_the_files_are_private(tmp_path):
    written(tmp_path)
    folder = tmp_path / "kept"
    assert folder.stat().st_mode & 0o77 == 0 and next(folder.iterdir()).stat().st_mode & 0o77 == 0


def test_a_file_with_a_wide_mode_is_narrowed(tmp_path):
    file = tmp_path / "kept" / "2026-11-21.jsonl"
    file.parent.mkdir()
    file.touch()
    file.chmod(0o644)
    written(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_folder_that_cannot_be_written_is_told_once(tmp_path):
    (tmp_path / "kept").touch()
    said = []
    archive = Archive(tmp_path / "kept", said.append)
    for _ in range(3):
        archive.write("1", DAY, REQUEST, RESPONSE)
    archive.close()
    assert len(said) == 1


def test_whole_days_are_purged(tmp_path):
    for day in ("2026-11-19", "2026-11-20", "2026-11-21", "notes"):
        (tmp_path / f"{day}.jsonl").touch()
    assert purge_archive(tmp_path, DAY) == 2 and len(list(tmp_path.iterdir())) == 2


def test_what_redact_finds_is_not_kept(tmp_path):
    archive = Archive(tmp_path / "kept", pytest.fail, redact=lambda text: text.replace("hi", "[gone]"))
    archive.write("1", DAY, REQUEST, RESPONSE)
    archive.close()
    assert json.loads((tmp_path / "kept" / "2026-11-21.jsonl").read_text())["request"]["body"] == "[gone]"


def test_each_day_has_its_file(tmp_path):
    archive = Archive(tmp_path, pytest.fail)
    for day in range(3):
        archive.write(str(day), DAY + 86400 * day, REQUEST, None)
    archive.close()
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["2026-11-21", "2026-11-22", "2026-11-23"]


def test_a_link_in_the_place_of_a_file_is_not_followed(tmp_path):
    (tmp_path / "2026-11-21.jsonl").symlink_to(tmp_path / "elsewhere")
    said = []
    archive = Archive(tmp_path, said.append)
    archive.write("1", DAY, REQUEST, RESPONSE)
    archive.close()
    assert len(said) == 1 and not (tmp_path / "elsewhere").exists()


def test_all_is_well_again_is_told(tmp_path):
    folder, said, told = tmp_path / "kept", [], threading.Semaphore(0)
    folder.touch()

    def say(text):
        said.append(text)
        told.release()

    archive = Archive(folder, say)
    archive.write("1", DAY, REQUEST, RESPONSE)
    assert told.acquire(timeout=30)
    folder.unlink()
    archive.write("2", DAY, REQUEST, RESPONSE)
    archive.close()
    assert "cannot be written" in said[0] and "well again" in said[1]


def test_half_a_line_is_taken_back(tmp_path, monkeypatch):
    archive = Archive(tmp_path, pytest.fail)
    archive.write("1", DAY, REQUEST, RESPONSE)
    archive.close()
    before = (tmp_path / "2026-11-21.jsonl").read_bytes()

    class Failing(io.FileIO):
        def write(self, data):
            if len(data) < 20:
                raise OSError(28, "No space left on device")
            return super().write(data[:20])

    monkeypatch.setattr(module, "open", lambda descriptor, *_, **__: Failing(descriptor, "ab"), raising=False)
    with pytest.raises(OSError, match="No space"):
        module._append(tmp_path, "2026-11-21", b"x" * 50)
    assert (tmp_path / "2026-11-21.jsonl").read_bytes() == before


def test_handing_over_never_waits_for_the_disk(tmp_path, monkeypatch):
    go_on, said = threading.Event(), []
    monkeypatch.setattr(module, "_append", lambda *_: go_on.wait(30))
    archive = Archive(tmp_path, said.append)
    for _ in range(module.WAITING + 10):
        archive.write("1", DAY, REQUEST, RESPONSE)
    found = list(said)
    go_on.set()
    archive.close(30)
    assert len(found) == 1 and "slower than the calls" in found[0]


def test_days_beyond_the_retention_are_deleted(tmp_path):
    for day in ("2020-01-01", "2999-01-01"):
        (tmp_path / f"{day}.jsonl").touch()
    Archive(tmp_path, pytest.fail, retention=86400.0).close()
    assert [path.stem for path in tmp_path.iterdir()] == ["2999-01-01"]


def test_without_retention_everything_stays(tmp_path):
    (tmp_path / "2020-01-01.jsonl").touch()
    Archive(tmp_path, pytest.fail).close()
    assert (tmp_path / "2020-01-01.jsonl").exists()


def test_a_folder_that_is_not_there_has_nothing_to_purge(tmp_path):
    assert purge_archive(tmp_path / "none", DAY) == 0


def test_a_day_that_cannot_be_deleted_is_said(tmp_path):
    (tmp_path / "2020-01-01.jsonl").mkdir()
    with pytest.raises(LedgerError, match="cannot be purged"):
        purge_archive(tmp_path, DAY)
