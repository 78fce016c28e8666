"""Temporary files of attempts are removed, including those of killed pods."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from services.processor.scratch import LOCK, PREFIX, Scratch


async def test_the_directory_of_an_attempt_is_removed_with_what_is_in_it(tmp_path: Path) -> None:
    scratch = Scratch(str(tmp_path))
    folder = Path(scratch.attempt())
    folder.mkdir()
    (folder / "source").write_text("x")
    await scratch.discard(str(folder))
    assert not folder.exists()
    scratch.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_new_pod_removes_what_a_killed_one_left_and_spares_the_living(tmp_path: Path) -> None:
    living = Scratch(str(tmp_path))
    killed = (
        "import os, signal, sys; from services.processor.scratch import Scratch;"
        "s = Scratch(sys.argv[1]); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", killed, str(tmp_path)], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    new = Scratch(str(tmp_path))
    assert len(list(tmp_path.iterdir())) == 2
    assert living.folder.is_dir()
    living.remove()
    new.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_somebody_made_for_a_pod_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    trap = tmp_path / f"{PREFIX}trap"
    trap.mkdir()
    (trap / LOCK).symlink_to(precious)
    (tmp_path / f"{PREFIX}link").symlink_to(tmp_path)
    Scratch(str(tmp_path)).remove()
    assert precious.read_text() == "x"
    assert trap.is_dir()


def test_pods_that_start_at_the_same_moment_leave_each_other_alone(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as threads:
        pods = list(threads.map(lambda _: Scratch(str(tmp_path)), range(200)))
    assert all(pod.folder.is_dir() for pod in pods)
    for pod in pods:
        pod.remove()
