"""The script that installs system packages, with a stand-in for apt: what it asks for, says and leaves behind."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "system-packages.sh"
TOOLS = ("sh", "chmod", "cat", "env", "grep", "head", "readlink", "rm", "sleep", "tail", "tee", "touch")

APT = """#!/bin/sh
echo "$@" >>"$LOG"
for last; do :; done
case "$1 $last" in
*" none-such") echo "Reading..."; echo "E: Unable to locate package none-such"; exit 100 ;;
update*) [ -z "${OFFLINE:-}" ] || exit 100 ;;
*" slow") touch "$LOG.slow"; exec sleep 600 ;;
install*) cat "$POLICY_RC_D" >>"$LOG" || true ;;
esac
"""
SYSTEMCTL = """#!/bin/sh
echo "systemctl $@" >>"$LOG"
case "$1" in is-enabled) [ "$2" = a-server ] ;; is-active) exit 3 ;; esac
"""


@dataclass(frozen=True)
class Machine:
    """Programs on PATH, and where things are written."""

    bin: Path
    log: Path
    policy: Path

    def has(self, name: str, code: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(code)
        (self.bin / name).chmod(0o755)

    @property
    def env(self) -> dict[str, str]:
        return {"PATH": str(self.bin), "LOG": str(self.log), "POLICY_RC_D": str(self.policy)}

    def run(self, *packages: str, **env: str) -> subprocess.CompletedProcess[str]:
        result = subprocess.run(
            [SCRIPT, *packages], env=self.env | env, capture_output=True, text=True, check=False, timeout=60
        )
        assert result.returncode == 0, "whatever is missing, the demo goes on"
        return result

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Root on a Debian without a policy."""
    (tmp_path / "bin").mkdir()
    for tool in TOOLS:
        (tmp_path / "bin" / tool).symlink_to(shutil.which(tool) or tool)
    made = Machine(tmp_path / "bin", tmp_path / "log", tmp_path / "policy-rc.d")
    made.has("apt-get", APT)
    made.has("id", "#!/bin/sh\necho 0\n")
    return made


def test_one_package_that_cannot_be_had_does_not_keep_the_others_away(machine: Machine) -> None:
    result = machine.run("none-such", "a-tool")
    assert [call for call in machine.calls() if call.startswith("install")] == [
        f"install -y -qq --no-install-recommends {name}" for name in ("none-such", "a-tool")
    ]
    assert result.stderr == "apt could not install none-such: E: Unable to locate package none-such\n"


def test_what_is_there_is_not_asked_for(machine: Machine) -> None:
    machine.has("a-tool", "")
    machine.run("a-tool")
    assert machine.calls() == []


def test_without_a_network_apt_goes_by_what_it_knows(machine: Machine) -> None:
    result = machine.run("a-tool", OFFLINE="1")
    assert "apt could not update its lists" in result.stderr
    assert any(call.endswith(" a-tool") for call in machine.calls())


def test_no_server_is_started_while_packages_are_installed(machine: Machine) -> None:
    machine.run("a-tool", "none-such")
    assert "exit 101" in machine.calls(), "the policy during the installation"
    assert not machine.policy.exists()


def test_somebody_elses_policy_stays(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/sh\nexit 104\n")
    machine.run("a-tool")
    assert "exit 104" in machine.calls()
    assert machine.policy.read_text() == "#!/bin/sh\nexit 104\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_installation_leaves_no_policy(machine: Machine, number: signal.Signals) -> None:
    # A shell in the background starts programs with Ctrl-C ignored, and a shell script cannot change that.
    listen = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([SCRIPT, "slow"], env=machine.env, start_new_session=True, preexec_fn=listen) as script:  # noqa: PLW1509 -- no threads yet
        try:
            deadline = time.monotonic() + 30
            while not machine.log.with_name("log.slow").exists():
                assert time.monotonic() < deadline
                assert script.poll() is None
            assert machine.policy.exists()
            os.killpg(script.pid, number)
            assert script.wait(timeout=30) == 128 + number
        finally:
            if script.poll() is None:
                os.killpg(script.pid, signal.SIGKILL)
    assert not machine.policy.exists()


def test_a_policy_left_behind_by_a_killed_installation_is_removed_by_the_next(machine: Machine) -> None:
    with subprocess.Popen([SCRIPT, "slow"], env=machine.env, start_new_session=True) as script:
        deadline = time.monotonic() + 30
        while not machine.log.with_name("log.slow").exists() and time.monotonic() < deadline:
            assert script.poll() is None
        os.killpg(script.pid, signal.SIGKILL)
    assert machine.policy.exists()
    machine.run("a-tool")
    assert not machine.policy.exists()


def test_a_server_is_not_started_at_the_next_boot_either(machine: Machine) -> None:
    machine.has("systemctl", SYSTEMCTL)
    result = machine.run("a-server", "a-tool")
    assert "systemctl disable --now a-server" in machine.calls()
    assert "systemctl disable --now a-tool" not in machine.calls()
    assert "a-server is installed, and not started" in result.stdout


@pytest.mark.parametrize("asks", [True, False])
def test_without_root_it_says_what_to_type(machine: Machine, *, asks: bool) -> None:
    machine.has("id", "#!/bin/sh\necho 1000\n")
    if asks:
        machine.has("sudo", "#!/bin/sh\nexit 1\n")
    result = machine.run("a-tool", "b-tool")
    assert machine.calls() == []
    assert "may not be used without a password: a-tool b-tool" in result.stderr
    assert "sudo apt-get install a-tool b-tool" in result.stderr


def test_sudo_without_a_password_is_used(machine: Machine) -> None:
    machine.has("id", "#!/bin/sh\necho 1000\n")
    machine.has("sudo", '#!/bin/sh\necho "sudo $@" >>"$LOG"\nshift\n"$@"\n')
    machine.run("a-tool")
    assert "sudo -n env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends a-tool" in (
        machine.calls()
    )
    assert not machine.policy.exists()


def test_without_apt_it_says_so(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    assert "apt is not here to install it: a-tool" in machine.run("a-tool").stderr


@pytest.mark.parametrize("name", ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"])
def test_any_browser_of_the_family_will_do(machine: Machine, name: str) -> None:
    machine.has(name, "#!/bin/sh\nexec /opt/it\n")
    machine.run("chromium")
    assert machine.calls() == []


def test_a_browser_that_is_a_snap_will_not_do(machine: Machine) -> None:
    machine.has("chromium-browser", '#!/bin/sh\nexec /snap/bin/chromium "$@"\n')
    machine.has("snap", "")
    (machine.bin / "chromium").symlink_to(machine.bin / "snap")
    machine.run("chromium")
    assert any(call.endswith(" chromium") for call in machine.calls())
