"""A Slurm cluster of one node on this machine, for the time of a test."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol")
LONGEST_ARRAY = 4

_CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={control_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MaxArraySize={array_size}
MinJobAge=2
KillWait=5
SchedulerParameters=sched_interval=1,bf_interval=1
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={processors} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE OverTimeLimit=0 State=UP
"""


def missing() -> str:
    """Why there can be no cluster here; empty if there can."""
    if os.geteuid() != 0:
        return "Slurm's daemons need root"
    absent = [name for name in PROGRAMS if _found(name) is None]
    return f"{', '.join(absent)} not installed (Debian: slurm-wlm and munge)" if absent else ""


@contextmanager
def slurm_cluster(processors: int = 2) -> Iterator[dict[str, str]]:
    """Start the daemons in a folder of their own; yields the environment in which Slurm's commands find them."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="slurm-")))
        folder.chmod(0o755)  # else munge refuses to put its socket there
        for name in ("state", "spool"):
            (folder / name).mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o600)
        (folder / "slurm.conf").write_text(
            _CONFIGURATION.format(
                host=socket.gethostname().partition(".")[0],
                control_port=_free_port(),
                node_port=_free_port(),
                folder=folder,
                array_size=LONGEST_ARRAY + 1,
                processors=processors,
            )
        )
        told = {"SLURM_CONF": str(folder / "slurm.conf")}
        places = {"socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        munge = [f"--{option}={folder}/munge.{ending}" for option, ending in places.items()]
        stack.enter_context(_daemon(folder, told, "munged", "--foreground", f"--key-file={key}", *munge))
        _until((folder / "munge.socket").exists, folder)
        stack.enter_context(_daemon(folder, told, "slurmctld", "-D"))
        stack.enter_context(_daemon(folder, told, "slurmd", "-D"))
        _until(lambda: said(told, "sinfo", "--noheader", "--format=%t").strip() == "idle", folder)
        try:
            yield told
        finally:  # what Slurm started for a job outlives its daemons
            said(told, "scancel", f"--user={os.getuid()}")
            _until(lambda: not said(told, "squeue", "--noheader").strip(), folder)


def said(told: dict[str, str], *command: str) -> str:
    """What a command of Slurm prints; empty if it fails."""
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True, check=False, timeout=60)
    return done.stdout if done.returncode == 0 else ""


@contextmanager
def _daemon(folder: Path, told: dict[str, str], name: str, *arguments: str) -> Iterator[None]:
    with (folder / f"{name}.out").open("w") as output:
        process = subprocess.Popen(
            [str(_found(name)), *arguments], env={**os.environ, **told}, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(timeout=60)


def _found(name: str) -> str | None:
    return which(name) or which(name, path="/usr/sbin:/usr/local/sbin:/sbin")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _until(condition: Callable[[], bool], folder: Path, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        outputs = {path.name: path.read_text()[-2000:] for path in folder.glob("*.out")}
        assert time.monotonic() < end, f"the cluster does not answer as it should: {outputs}"
        time.sleep(0.05)
