"""Uploads a folder to the Hub in one commit, and says in one line what went wrong if it does not get there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)
from huggingface_hub.utils import validate_repo_id

from kakehashi.training.publish.inspection import PUBLISHED_FILES

_BRANCH = re.compile(r"(?!.*(\.\.|//|@\{|\.lock$))[\w][\w./-]*(?<![./])")
_REASONS = {
    401: "the token is not valid there",
    403: "the token may not write there",
    404: "there is no such repository, or the token may not see it",
    413: "a file is too large",
    429: "too many requests; wait a little",
}


def check_repo_id(repo_id: str) -> None:
    """Checks that a name is `user/name` as the Hub allows it.

    Raises:
        ValueError: If it is not.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"the repository must be called user/name, got {repo_id!r}: {reason}") from error
    if repo_id.count("/") != 1:
        raise ValueError(f"the repository must be called user/name, got {repo_id!r}")


def check_revision(revision: str | None) -> None:
    """Checks that a branch can have this name.

    Raises:
        ValueError: If it cannot.
    """
    if revision is not None and not _BRANCH.fullmatch(revision):
        raise ValueError(f"`--revision` must be the name of a branch, such as v1, got {revision!r}")


def check_login(repo_id: str) -> None:
    """Asks the Hub who is asking, so that nobody waits for a folder that could not be pushed.

    Args:
        repo_id: Repository that is to be pushed to, for the message.

    Raises:
        ValueError: If there is no token, or the Hub does not know it.
        OSError: If the Hub cannot be reached.
    """
    api = HfApi(library_name="kakehashi")
    with _readable_errors(repo_id, api.endpoint):
        api.whoami()


def push_folder(folder: Path, repo_id: str, *, private: bool | None = None, revision: str | None = None) -> str:
    """Uploads a folder in one commit: the repository shows all of it or what it showed before.

    Files that arrived before a connection broke are kept by the Hub and not sent again by the next call. What an
    earlier version had and this one has not, such as a third shard, is removed.

    Args:
        folder: A folder that was inspected.
        repo_id: Repository, `user/name`; made if it is not there.
        private: Whether a new repository is private; `None` leaves it to the Hub.
        revision: Branch to push to, made if it is not there; `None` means the main one.

    Returns:
        Address of the commit.

    Raises:
        ValueError: If there is no token, or the Hub refuses it, the name or the files.
        OSError: If the Hub cannot be reached, or the connection breaks.
    """
    check_repo_id(repo_id)
    check_revision(revision)
    check_login(repo_id)
    api = HfApi(library_name="kakehashi")
    with _readable_errors(repo_id, api.endpoint):
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=revision,
            commit_message="Publish with kakehashi",
            delete_patterns=list(PUBLISHED_FILES),
        )
    return commit.commit_url


@contextmanager
def _readable_errors(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turns whatever the client raises into one line; the address is part of it, a token never is."""
    try:
        yield
    except LocalTokenNotFoundError as error:
        raise ValueError("there is no token for the Hub here: run `hf auth login`, or set HF_TOKEN") from error
    except (HTTPError, OfflineModeIsEnabled) as error:
        raise _explain(error, repo_id, endpoint) from error
    except RuntimeError as error:
        # The client wraps what happens to one large file.
        cause = error.__cause__
        if not isinstance(cause, (HTTPError, OSError)):
            raise
        raise _explain(cause, repo_id, endpoint) from error


def _explain(error: BaseException, repo_id: str, endpoint: str) -> Exception:
    if isinstance(error, OfflineModeIsEnabled):
        return OSError(f"{repo_id} was not pushed: this machine is told to stay offline by HF_HUB_OFFLINE")
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        reason = _REASONS.get(status) or error.server_message or f"it answered with status {status}"
        return ValueError(f"{endpoint} did not accept {repo_id}: {reason}. Nothing of it was changed")
    return OSError(
        f"{repo_id} was not pushed: no connection to {endpoint}, or it broke ({type(error).__name__}). Nothing of it "
        "was changed; the same command goes on with the files that are missing"
    )
