"""Sends the result of a job to control: `python -m gateway.offline.job_sender FOLDER`.

The process that has made it becomes this one, because a client may take minutes: 15 MiB are held for it then, instead
of the 200 MiB and more that making it took.
"""

import contextlib
import os
import shutil
import sys
import threading
from pathlib import Path

from gateway.offline.job_result import result_chunks, result_head


def become_sender(folder: Path) -> None:
    """Become the process that sends the result in `folder`; standard output is the pipe to control. Raises OSError."""
    os.execv(sys.executable, [sys.executable, "-m", "gateway.offline.job_sender", str(folder)])


def end_with_control() -> None:
    """End the process once control has closed the pipe, which is standard input."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 4096):  # a file object's lock would be held at the process's end
                pass
        os._exit(1)

    threading.Thread(target=wait, name="control", daemon=True).start()


def main() -> None:
    """Entry point; standard input and output are pipes to control."""
    folder = Path(sys.argv[1])
    end_with_control()
    try:
        with contextlib.suppress(BrokenPipeError), os.fdopen(os.dup(1), "wb") as answer:
            answer.write(result_head(folder).line())
            for chunk in result_chunks(folder):
                answer.write(chunk)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
