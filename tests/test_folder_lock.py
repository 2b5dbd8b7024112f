"""One run at a time in a folder, whoever else is forked or forbids locks."""

import errno
import os

import pytest

from kakehashi.training import folder_lock
from kakehashi.training.folder_lock import lock_folder, unlock_folder

pytestmark = pytest.mark.skipif(folder_lock.fcntl is None, reason="this system knows no locks of folders")


def locks_in_another_process(folder):
    """Whether another process can take a folder."""
    child = os.fork()
    if child == 0:
        try:
            lock_folder(folder)
        except ValueError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


@pytest.fixture
def held(tmp_path):
    """A folder that this process holds."""
    assert lock_folder(tmp_path)
    yield tmp_path
    unlock_folder(tmp_path)


def test_a_folder_that_one_process_holds_is_refused_to_others_until_it_lets_go(held):
    assert not locks_in_another_process(held)
    assert not lock_folder(held), "it is held already"
    unlock_folder(held)
    assert locks_in_another_process(held)
    assert list(held.iterdir()) == []


def test_a_forked_worker_that_outlives_the_run_holds_nothing(held):
    alive, end = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(end)
        os.read(alive, 1)
        os._exit(0)
    unlock_folder(held)
    is_free = locks_in_another_process(held)
    os.close(end)
    os.waitpid(worker, 0)
    assert is_free


def test_where_nothing_can_be_locked_runs_go_on(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EBADF, "Bad file descriptor")

    with monkeypatch.context() as patch:
        patch.setattr(folder_lock.fcntl, "flock", refuse)
        assert not lock_folder(tmp_path)
    monkeypatch.setattr(folder_lock, "fcntl", None)
    assert not lock_folder(tmp_path)


def test_the_error_names_the_folder(held, monkeypatch):
    # As another process would see it.
    monkeypatch.setattr(folder_lock, "_held", {})
    with pytest.raises(ValueError, match=f"`output_dir` must be used by one run at a time, got {held}, in use by ano"):
        lock_folder(held)
