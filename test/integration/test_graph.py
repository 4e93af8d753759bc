"""The starter of processes: nothing it starts outlives it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from graph_helpers import START_S, start_policy, start_simulator

from salus_ros.errors import SalusError
from salus_ros.nodes.graph import Graph


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return status != "Z"


def wait_until_gone(pid: int, timeout_s: float = START_S) -> bool:
    end_s = time.monotonic() + timeout_s
    while alive(pid) and time.monotonic() < end_s:
        time.sleep(0.05)
    return not alive(pid)


def test_every_node_ends_with_exit_code_zero(graph: Graph) -> None:
    start_simulator(graph)
    start_policy(graph)
    graph.close()
    assert graph.exit_codes == {"policy_node": 0, "sim_node": 0}


def test_an_exception_in_the_block_ends_every_node(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Graph(domain_id=51, log_dir=tmp_path) as graph:
        pid = graph.start("sim").process.pid
        _ = 1 / 0
    assert not alive(pid)


def test_a_node_that_ends_by_itself_is_reported_with_its_own_sentence(graph: Graph) -> None:
    graph.start("sim", {"real_time_factor": -1.0})
    with pytest.raises(
        SalusError, match=r"sim_node ended by itself with exit code 2;(.|\n)*real_time_factor"
    ):
        graph.spin_until(lambda: False, START_S, "the refusal")


def test_a_node_that_hangs_is_killed(graph: Graph) -> None:
    start_simulator(graph)
    pid = graph.processes["sim_node"].process.pid
    graph.processes["sim_node"].signal(signal.SIGSTOP)
    graph.close()
    assert graph.exit_codes["sim_node"] == -signal.SIGKILL
    assert not alive(pid)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_node_survives_its_starter(tmp_path: Path, number: int) -> None:
    script = tmp_path / "starter.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from sensor_msgs.msg import JointState
            from salus_ros.nodes.graph import Graph
            with Graph(domain_id=52, log_dir={str(tmp_path / "logs")!r}) as graph:
                pid = graph.start("sim").process.pid
                joints = graph.listen("joint_states", JointState)
                graph.spin_until(lambda: joints.count > 0, {START_S}, "joint states")
                print(pid, flush=True)
                graph.spin_for(1000.0)
            """
        )
    )
    starter = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.send_signal(number)
    starter.wait(timeout=START_S)
    starter.stdout.close()
    assert wait_until_gone(pid), "the simulator outlived the process that started it"
