"""The cluster scripts through their success and failure paths, with stubs for what changes a machine."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.components import need
from tests.scripts.machine import SCRIPTS, Machine, make_machine

if TYPE_CHECKING:
    from pathlib import Path

ROOT = SCRIPTS.parent
SHELL = sorted(
    [*SCRIPTS.glob("*.sh"), *ROOT.glob("docker/*.sh"), *ROOT.glob("docker/*/*.sh"), *ROOT.glob("tests/*.sh")]
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return make_machine(tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights")
    return path


@pytest.mark.parametrize("script", SHELL, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    need(program="shellcheck")
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--shell", "sh", str(script)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


# --- setup-master.sh ---


def test_master_prints_its_address_and_token(machine: Machine) -> None:
    done = machine.run("setup-master.sh")
    assert done.returncode == 0, done.stderr
    assert "Master IP:  10.0.0.7" in done.stdout
    assert "Node Token: K10abc::server:secret" in done.stdout
    assert "setup-worker.sh 10.0.0.7 K10abc::server:secret" in done.stdout
    [installed] = [call for call in machine.calls() if call.startswith("installer")]
    assert installed.startswith("installer server --node-ip 10.0.0.7 --advertise-address 10.0.0.7")


def test_master_is_set_up_once(machine: Machine) -> None:
    first = machine.run("setup-master.sh", "--ip", "10.0.0.9")
    second = machine.run("setup-master.sh", "--ip", "10.0.0.9")
    assert second.returncode == 0
    assert second.stdout == first.stdout
    assert len([call for call in machine.calls() if call.startswith("installer")]) == 1


def test_master_without_a_network_uses_local_files_only(machine: Machine, tmp_path: Path) -> None:
    machine.set("no-network")
    (tmp_path / "images.tar").write_bytes(b"images")
    files = {"K3S_BINARY": str(machine.state / "k3s"), "K3S_INSTALL_SCRIPT": str(machine.state / "installer")}
    done = machine.run("setup-master.sh", "--images", str(tmp_path / "images.tar"), **files)
    assert done.returncode == 0, done.stderr
    assert (machine.data / "agent" / "images" / "images.tar").read_bytes() == b"images"
    assert not [call for call in machine.calls() if call.startswith("curl")]
    assert next(call for call in machine.calls() if call.startswith("installer")).endswith("skip=true")


def test_dry_run_of_master_changes_nothing(machine: Machine) -> None:
    done = machine.run("setup-master.sh", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Master IP:  10.0.0.7" in done.stdout
    assert "+ curl -sfL https://k3s.invalid/install | sh -s - server" in done.stderr
    assert not machine.data.exists()
    assert {call.split()[0] for call in machine.calls()} <= {"ip"}


def test_master_says_that_the_download_failed(machine: Machine) -> None:
    machine.set("no-network")
    done = machine.run("setup-master.sh")
    assert done.returncode == 1
    assert "cannot download the K3s installer" in done.stderr
    assert "Node Token" not in done.stdout


def test_master_says_that_the_installer_failed(machine: Machine) -> None:
    machine.set("installer-fails")
    done = machine.run("setup-master.sh")
    assert done.returncode == 1
    assert "installer failed" in done.stderr


def test_master_gives_up_on_a_cluster_that_does_not_start(machine: Machine) -> None:
    (machine.state / "installer").write_text('cp "$STATE/k3s" "$BIN/k3s"\n')
    done = machine.run("setup-master.sh", POLL_S="0.001")
    assert done.returncode == 1
    assert "the master of the cluster: gave up waiting" in done.stderr


def test_missing_image_archive_is_named(machine: Machine) -> None:
    done = machine.run("setup-master.sh", "--images", "/nowhere.tar")
    assert done.returncode == 1
    assert "no image archive at /nowhere.tar" in done.stderr
    assert not [call for call in machine.calls() if call.startswith("installer")]


def test_only_root_sets_up(machine: Machine) -> None:
    machine.stub("nobody", "")
    (machine.bin / "id").unlink()
    machine.stub("id", "echo 1000")
    done = machine.run("setup-master.sh", TIERWISE_SKIP_ROOT_CHECK="")
    assert done.returncode == 1
    assert "run it as root" in done.stderr


# --- setup-worker.sh ---


def test_worker_joins_without_showing_its_token(machine: Machine) -> None:
    done = machine.run("setup-worker.sh", "10.0.0.7", "K10abc::server:secret")
    assert done.returncode == 0, done.stderr
    [installed] = [call for call in machine.calls() if call.startswith("installer")]
    assert installed == "installer agent url=https://10.0.0.7:6443 token=K10abc::server:secret skip="
    assert "secret" not in done.stdout + done.stderr


def test_worker_reads_its_token_from_standard_input(machine: Machine) -> None:
    done = machine.run("setup-worker.sh", "fd00::7", "-", text="K10abc::server:secret\n")
    assert done.returncode == 0, done.stderr
    assert "url=https://[fd00::7]:6443 token=K10abc::server:secret" in machine.calls()[-1]


def test_worker_joins_once_and_refuses_another_master(machine: Machine) -> None:
    assert machine.run("setup-worker.sh", "10.0.0.7", "token").returncode == 0
    again = machine.run("setup-worker.sh", "10.0.0.7", "token")
    assert again.returncode == 0
    assert "already" in again.stderr
    other = machine.run("setup-worker.sh", "10.0.0.8", "token")
    assert other.returncode == 1
    assert "k3s-agent-uninstall.sh" in other.stderr
    assert len([call for call in machine.calls() if call.startswith("installer")]) == 1


def test_worker_says_that_the_master_does_not_answer(machine: Machine) -> None:
    machine.set("no-network")
    done = machine.run("setup-worker.sh", "10.0.0.7", "token")
    assert done.returncode == 1
    assert "the master does not answer at https://10.0.0.7:6443" in done.stderr


def test_dry_run_of_worker_changes_nothing(machine: Machine) -> None:
    done = machine.run("setup-worker.sh", "--dry-run", "10.0.0.7", "token")
    assert done.returncode == 0
    assert "| sh -s - agent" in done.stderr
    assert machine.calls() == []
    assert not (machine.folder / "etc").exists()


@pytest.mark.parametrize(
    ("script", "arguments", "message"),
    [
        ("setup-master.sh", ["--port"], "unknown argument: --port"),
        ("setup-master.sh", ["--ip"], "--ip needs a value"),
        ("setup-master.sh", ["--ip", "--dry-run"], "--ip needs a value"),
        ("setup-master.sh", ["--ip", "1.2.3.4;reboot"], "not an address"),
        ("setup-worker.sh", [], "MASTER_IP and NODE_TOKEN are needed"),
        ("setup-worker.sh", ["10.0.0.7"], "MASTER_IP and NODE_TOKEN are needed"),
        ("setup-worker.sh", ["10.0.0.7", "token", "more"], "one argument too many"),
        ("setup-worker.sh", ["$(reboot)", "token"], "not an address"),
        ("setup-worker.sh", ["10.0.0.7", "to ken"], "not a node token"),
        ("setup-worker.sh", ["--help-me", "10.0.0.7"], "unknown option"),
        ("deploy.sh", ["--overlay", "prod"], "--overlay: expected"),
        ("deploy.sh", ["--timeout", "soon"], "--timeout: expected seconds"),
        ("deploy.sh", ["--model", "a.onnx", "--from", "b"], "exclude each other"),
        ("deploy.sh", ["now"], "unknown argument: now"),
        ("teardown.sh", ["--namespace", "kube-system"], "not the namespace of a deployment"),
        ("teardown.sh", ["all"], "unknown argument: all"),
    ],
)
def test_wrong_arguments_end_with_2_and_the_usage(
    machine: Machine, script: str, arguments: list[str], message: str
) -> None:
    done = machine.run(script, *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert f"{script} [" in done.stderr
    assert machine.calls() == []


@pytest.mark.parametrize("script", ["setup-master.sh", "setup-worker.sh", "deploy.sh", "teardown.sh"])
def test_help_tells_every_option(machine: Machine, script: str) -> None:
    done = machine.run(script, "--help")
    assert done.returncode == 0
    assert "--dry-run" in done.stdout


# --- deploy.sh ---


def test_deploy_builds_imports_and_applies(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    done = machine.run("deploy.sh", "--model", str(model))
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    order = [
        "docker build",
        "docker save",
        "k3s ctr images import",
        "k3s kubectl create configmap",
        "k3s kubectl apply",
    ]
    order += [
        f"k3s kubectl apply --server-side --force-conflicts -k {ROOT}/kubernetes/overlays/k3s",
        "k3s kubectl rollout",
    ]
    places = [next(i for i, call in enumerate(calls) if call.startswith(step)) for step in order]
    assert places[0] < places[1] < places[2] < places[5] < places[6]
    assert places[3] < places[5]
    secret = (machine.state / "secret").read_text()
    assert "username: tierwise" in secret
    password = secret.split('password: "')[1].split('"')[0]
    assert len(password) == 48
    assert password not in "\n".join(calls)
    assert (machine.data / "agent" / "images" / "tierwise.tar").exists()


def test_deploy_keeps_the_password(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    for _ in range(2):
        assert machine.run("deploy.sh", "--model", str(model), "--no-image").returncode == 0
    assert len([call for call in machine.calls() if call == "k3s kubectl create -f -"]) == 1
    patches = [call for call in machine.calls() if "kubectl patch" in call]
    assert len(patches) == 2
    assert patches[0] == patches[1]


def test_deploy_from_a_rendered_folder_brings_no_model_of_its_own(machine: Machine, tmp_path: Path) -> None:
    machine.install_k3s()
    rendered = tmp_path / "rendered"
    rendered.mkdir()
    (rendered / "kustomization.yaml").write_text("namespace: elsewhere\n")
    done = machine.run("deploy.sh", "--from", str(rendered), "--no-image")
    assert done.returncode == 0, done.stderr
    assert not [call for call in machine.calls() if "configmap" in call or "secret" in call]
    assert machine.calls()[-1].startswith("k3s kubectl rollout status deployment/inference --namespace elsewhere")


def test_deploy_takes_the_image_from_an_archive(machine: Machine, model: Path, tmp_path: Path) -> None:
    machine.install_k3s()
    archive = tmp_path / "image.tar"
    archive.write_bytes(b"image")
    done = machine.run("deploy.sh", "--model", str(model), "--image-archive", str(archive))
    assert done.returncode == 0, done.stderr
    assert f"k3s ctr images import {archive}" in machine.calls()
    assert not [call for call in machine.calls() if call.startswith("docker")]


def test_dry_run_of_deploy_changes_nothing(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    done = machine.run("deploy.sh", "--model", str(model), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "+ docker build" in done.stderr
    assert "+ kubectl apply --server-side --force-conflicts -k" in done.stderr
    changing = (
        "docker build",
        "docker save",
        "k3s ctr",
        "k3s kubectl apply",
        "k3s kubectl create",
        "k3s kubectl patch",
    )
    assert not [call for call in machine.calls() if call.startswith(changing)]
    assert not machine.data.exists()


@pytest.mark.parametrize(
    ("facts", "arguments", "message"),
    [
        (["running"], ["--model", "/nowhere.onnx"], "no model at /nowhere.onnx"),
        (["running"], ["--from", "/nowhere"], "no kustomization.yaml"),
        (["running"], ["--image-archive", "/nowhere.tar"], "no image archive at /nowhere.tar"),
        ([], [], "the cluster does not answer"),
        (["running", "no-engine"], [], "no Docker engine answers"),
        (["running", "build-fails"], [], "the image could not be built"),
        (["running", "not-ready"], ["--no-image"], "the service is not ready"),
    ],
)
def test_deploy_says_what_failed(
    machine: Machine, model: Path, facts: list[str], arguments: list[str], message: str
) -> None:
    machine.install_k3s()
    (machine.state / "running").unlink()
    for fact in facts:
        machine.set(fact)
    chosen = arguments if "--from" in arguments or "--model" in arguments else ["--model", str(model), *arguments]
    done = machine.run("deploy.sh", *chosen)
    assert done.returncode == 1
    assert message in done.stderr


def test_deploy_without_a_cluster_says_what_to_run_first(machine: Machine, model: Path) -> None:
    done = machine.run("deploy.sh", "--model", str(model))
    assert done.returncode == 1
    assert "run setup-master.sh first" in done.stderr


def test_deploy_refuses_a_model_that_no_configmap_takes(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    model.write_bytes(bytes(900_001))
    done = machine.run("deploy.sh", "--model", str(model))
    assert done.returncode == 1
    assert "--delivery pvc" in done.stderr


# --- teardown.sh ---


def test_teardown_deletes_the_namespace(machine: Machine) -> None:
    machine.install_k3s()
    for _ in range(2):
        done = machine.run("teardown.sh", "--yes")
        assert done.returncode == 0, done.stderr
    assert "k3s kubectl delete namespace tierwise --ignore-not-found --timeout 180s" in machine.calls()


def test_teardown_of_the_cluster_runs_its_uninstaller(machine: Machine) -> None:
    machine.install_k3s()
    machine.stub("k3s-agent-uninstall.sh", 'rm "$BIN/k3s"')
    done = machine.run("teardown.sh", "--cluster", "--yes")
    assert done.returncode == 0, done.stderr
    assert machine.calls()[-1].startswith("k3s-agent-uninstall.sh")
    assert machine.run("teardown.sh", "--cluster", "--yes", "--dry-run").returncode == 0


def test_teardown_asks_first(machine: Machine) -> None:
    machine.install_k3s()
    done = machine.run("teardown.sh")
    assert done.returncode == 1
    assert "say --yes" in done.stderr
    assert machine.calls() == []


def test_teardown_says_that_the_cluster_does_not_answer(machine: Machine) -> None:
    machine.install_k3s()
    (machine.state / "running").unlink()
    done = machine.run("teardown.sh", "--yes")
    assert done.returncode == 1
    assert "the cluster does not answer" in done.stderr
