"""A pseudo-terminal for the tests of commands."""

import os
import re
import select
import subprocess


def on_a_terminal(*words, width=80):
    """Run a program in a terminal of some width; give its exit status and all that it writes."""
    import pty  # here, as Windows has none

    ours, theirs = pty.openpty()
    env = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8"}
    for name in ("NO_COLOR", "CI"):
        env.pop(name, None)
    child = subprocess.Popen(words, stdin=theirs, stdout=theirs, stderr=theirs, env=env)
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], 300)[0]:
        try:
            part = os.read(ours, 65536)
        except OSError:  # how Linux says that the other end is closed
            break
        if not part:
            break
        written += part
    os.close(ours)
    return child.wait(300), written.decode()


def without_colours(text):
    """Take the escape codes of colours out of a text."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text).replace("\r\n", "\n")
