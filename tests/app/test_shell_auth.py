"""Passwords, sessions and lockout."""

from __future__ import annotations

import pytest

from app import auth


def test_a_hash_verifies_its_password_alone_and_never_repeats():
    first, second = auth.hash_password("sesame"), auth.hash_password("sesame")
    assert first != second and "sesame" not in first
    assert auth.verify("sesame", first) and auth.verify("sesame", second)
    assert not auth.verify("Sesame", first) and not auth.verify("", first)


def test_the_environment_comes_before_the_file(tmp_path):
    file = tmp_path / "password"
    auth.write_password(file, "from file")
    stored = auth.stored_password({"ATELIER_PASSWORD": "from environment"}, file)
    assert stored is not None and auth.verify("from environment", stored)


def test_without_either_there_is_no_password():
    assert auth.stored_password({}, None) is None


def test_a_written_file_is_private_and_holds_only_the_hash(tmp_path):
    file = tmp_path / "password"
    auth.write_password(file, "sesame")
    auth.write_password(file, "second")
    assert file.stat().st_mode & 0o777 == 0o600
    assert "second" not in file.read_text()
    stored = auth.stored_password({}, file)
    assert stored is not None and auth.verify("second", stored)


def test_a_plain_password_in_a_private_file_works(tmp_path):
    file = tmp_path / "password"
    file.write_text("sesame\n")
    file.chmod(0o600)
    stored = auth.stored_password({}, file)
    assert stored is not None and auth.verify("sesame", stored)


@pytest.mark.parametrize(
    ("prepare", "code"),
    [
        (lambda file: None, "password_file_unreadable"),
        (lambda file: file.mkdir(mode=0o700), "password_file_unreadable"),
        (lambda file: file.symlink_to("/etc/hostname"), "password_file_unreadable"),
        (lambda file: (file.write_text("x"), file.chmod(0o644)), "password_file_open"),
        (lambda file: (file.write_text(" \n"), file.chmod(0o600)), "password_file_empty"),
    ],
)
def test_a_password_file_that_cannot_be_trusted_is_refused(tmp_path, prepare, code):
    file = tmp_path / "password"
    prepare(file)
    with pytest.raises(auth.PasswordFileError) as refused:
        auth.stored_password({}, file)
    assert refused.value.code == code


def test_a_session_ends_with_its_time_and_with_its_process():
    clock = [1000.0]
    sessions = auth.Sessions(clock=lambda: clock[0])
    cookie = sessions.issue()
    assert sessions.valid(cookie)
    assert not auth.Sessions(clock=lambda: clock[0]).valid(cookie)
    clock[0] += auth.SESSION_S + 1
    assert not sessions.valid(cookie)


def test_the_wait_doubles_and_ends():
    clock = [0.0]
    lockout = auth.Lockout(lambda: clock[0])
    waits = []
    for _ in range(auth.FREE_TRIES + 12):
        lockout.failed("1.2.3.4")
        waits.append(lockout.wait_s("1.2.3.4"))
    assert waits[: auth.FREE_TRIES - 1] == [0.0] * (auth.FREE_TRIES - 1)
    assert waits[auth.FREE_TRIES : auth.FREE_TRIES + 3] == [2.0, 4.0, 8.0]
    assert max(waits) == auth.LONGEST_LOCK_S
    assert lockout.wait_s("5.6.7.8") == 0.0
    lockout.succeeded("1.2.3.4")
    assert lockout.wait_s("1.2.3.4") == 0.0


def test_many_addresses_do_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(auth, "MOST_ADDRESSES", 10)
    lockout = auth.Lockout()
    for number in range(100):
        lockout.failed(str(number))
    assert len(lockout._failures) == 10


def test_neither_policy_nor_sessions_show_their_secret():
    from app.security import Policy

    policy = Policy(password=auth.hash_password("sesame"))
    assert "scrypt" not in repr(policy)
    assert policy.sessions.key.hex() not in repr(policy.sessions)
