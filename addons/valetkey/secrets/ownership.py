"""Who besides us could have written a file, or can read it: a question to its owner and mode."""

from __future__ import annotations

import os
import stat


def foreign_owner(status: os.stat_result) -> str | None:
    """Why a file is not ours: it belongs neither to this user nor to root. None when it does."""
    if status.st_uid in (0, os.geteuid()):
        return None
    return f"belongs to another user (uid {status.st_uid})"


def writable(status: os.stat_result) -> str | None:
    """Why others than its owner could change a file or folder, None when nobody could.

    The group counts only where it is not our own: with a umask of 002 each user has a group alone. In a folder like /tmp (with
    the sticky bit) others can add files, but not change ours.
    """
    mode = stat.S_IMODE(status.st_mode)
    theirs = 0o002 | (0o020 if status.st_gid != os.getegid() else 0)
    if mode & theirs and not (stat.S_ISDIR(status.st_mode) and mode & stat.S_ISVTX):
        return f"may be changed by others (mode {mode:04o})"
    return None
