"""Where things lie in a pod; `mlfn.worker.pod.entry`, which can import nothing, has its own copies."""

from __future__ import annotations

TASK = "/mlfn/task"
"""The Secret: assignment, tasks, payload and the files of parameters."""

WORKER = "/mlfn/worker/mlfn.zip"
"""mlfn itself."""

FOLDER = "/mlfn/run"
"""Where a pod may write; below it the run's working folder, its journal and its artifacts."""

TERMINATION = "/dev/termination-log"

SSH_KEYS = "/mlfn/ssh"
"""The keys by which the main pod of an execution starts ranks in the others."""

SSH_PORT = 2222
