"""The cluster scripts through their success and failure paths, with stubs for what changes a machine."""

from __future__ import annotations

import json
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest
from tests.components import need
from tests.deploy.kustomize import find, pods
from tests.deploy.manifest_checks import problems
from tests.deploy.manifest_references import containers
from tests.deploy.schemas import OLDEST, VERSIONS, schema_problems
from tests.scripts.machine import SCRIPTS, Machine, make_machine

from tierwise.deploy.options import DeployOptions
from tierwise.deploy.render import render
from tierwise.models.fetch import fetch_model

if TYPE_CHECKING:
    from pathlib import Path

ROOT = SCRIPTS.parent
SHELL = sorted(
    [*SCRIPTS.glob("*.sh"), *ROOT.glob("docker/*.sh"), *ROOT.glob("docker/*/*.sh"), *ROOT.glob("tests/**/*.sh")]
)

SECRETS = ("tierwise-mqtt", "tierwise-influxdb", "tierwise-influxdb-admin", "tierwise-grafana")


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


def test_master_finds_k3s_where_sudo_leaves_it_out_of_path(machine: Machine, tmp_path: Path) -> None:
    elsewhere = tmp_path / "usr-local-bin"
    elsewhere.mkdir()
    done = machine.run("setup-master.sh", BIN=str(elsewhere), K3S_BIN_DIR=str(elsewhere), POLL_S="0.001")
    assert done.returncode == 0, done.stderr
    assert "Node Token: K10abc" in done.stdout


def test_master_tells_workers_its_version(machine: Machine) -> None:
    done = machine.run("setup-master.sh")
    assert "sudo INSTALL_K3S_VERSION=v1.31.5+k3s1 scripts/setup-worker.sh 10.0.0.7" in done.stdout


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
        ("deploy.sh", ["--no-image", "--", "--build-arg", "A=b"], "--build-arg A=b would do nothing"),
        ("deploy.sh", ["--no-image", "--image-only", "a.tar"], "--image-only builds an image"),
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


def nodes(**images: str) -> str:
    """What ``kubectl get nodes`` prints for ready nodes with one image each."""
    return "".join(f"{name} True docker.io/library/pause:3 docker.io/library/{i}\n" for name, i in images.items())


def test_deploy_builds_imports_and_applies(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    done = machine.run("deploy.sh", "--model", str(model))
    assert done.returncode == 0, done.stderr
    calls = machine.calls()
    order = [
        "docker build",
        "docker tag tierwise:edge tierwise:edge-0123456789ab",
        "docker save",
        "k3s ctr images import",
        "k3s kubectl kustomize",
        "k3s kubectl apply --server-side --force-conflicts -f",
        "k3s kubectl rollout",
    ]
    places = [next(i for i, call in enumerate(calls) if call.startswith(step)) for step in order]
    assert places == sorted(places)
    assert (machine.data / "agent" / "images" / "tierwise.tar").exists()
    objects = machine.applied()
    assert problems(objects) == []
    assert schema_problems(objects, VERSIONS[-1]) == []
    password = find(objects, "Secret", "tierwise-mqtt")["stringData"]["password"]
    assert len(password) == 48
    assert password not in "\n".join(calls)
    assert len({find(objects, "Secret", name)["stringData"]["password"] for name in SECRETS}) == len(SECRETS)


def test_deploy_gives_the_init_container_the_checksum_of_the_model(
    machine: Machine, model: Path, tmp_path: Path
) -> None:
    machine.install_k3s()
    assert machine.run("deploy.sh", "--model", str(model), "--no-image").returncode == 0
    objects = machine.applied()
    settings = find(objects, "ConfigMap", "tierwise-settings")
    carried = find(objects, "ConfigMap", "tierwise-model")
    [volume] = [volume for volume in pods(objects)["volumes"] if volume["name"] == "model-source"]
    assert volume["configMap"]["name"] == carried["metadata"]["name"]
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.onnx").write_text(carried["data"]["model.onnx"])
    [fetched] = fetch_model(str(folder), tmp_path / "pod", sha256=settings["data"]["MODEL_SHA256"])
    assert fetched.read_bytes() == model.read_bytes()


def test_second_deploy_changes_nothing_and_keeps_the_passwords(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    applied = []
    for _ in range(3):
        assert machine.run("deploy.sh", "--model", str(model)).returncode == 0
        applied.append(machine.applied())
    assert [item["kind"] for item in applied[0]].count("Secret") == len(SECRETS)
    assert [item for item in applied[0] if item["kind"] != "Secret"] == applied[1] == applied[2]


def test_missing_password_is_made_alone(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    for name in SECRETS[:-1]:
        machine.set(name)
    assert machine.run("deploy.sh", "--model", str(model), "--no-image").returncode == 0
    assert [i["metadata"]["name"] for i in machine.applied() if i["kind"] == "Secret"] == [SECRETS[-1]]


def test_no_password_is_replaced_where_the_cluster_does_not_tell(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    machine.set("no-answer")
    done = machine.run("deploy.sh", "--model", str(model), "--no-image")
    assert done.returncode == 1
    assert "whether the secret tierwise-mqtt is there" in done.stderr
    assert not (machine.state / "applied").exists()


def test_new_model_replaces_the_pods(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    templates = []
    for content in (b"weights", b"others"):
        model.write_bytes(content)
        assert machine.run("deploy.sh", "--model", str(model), "--no-image").returncode == 0
        templates.append(pods(machine.applied()))
    assert templates[0] != templates[1]


def test_new_image_replaces_the_pods_and_the_same_one_does_not(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    seen = []
    for identity in ("a" * 64, "b" * 64, "b" * 64):
        machine.tell("image-id", identity)
        assert machine.run("deploy.sh", "--model", str(model)).returncode == 0
        seen.append({container["image"] for container in containers(pods(machine.applied()))})
    assert seen == [{"tierwise:edge-" + "a" * 12}, {"tierwise:edge-" + "b" * 12}, {"tierwise:edge-" + "b" * 12}]


def test_no_image_keeps_the_one_that_runs(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    machine.tell("running-image", "tierwise:edge-abcdef")
    machine.tell("nodes", nodes(master="tierwise:edge-abcdef"))
    assert machine.run("deploy.sh", "--model", str(model), "--no-image").returncode == 0
    assert {c["image"] for c in containers(pods(machine.applied()))} == {"tierwise:edge-abcdef"}
    assert not [call for call in machine.calls() if call.startswith(("docker", "k3s ctr"))]


def test_nodes_without_the_image_stop_a_deployment_at_once(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    listed = nodes(master="tierwise:edge-0123456789ab", worker1="tierwise:edge-old", worker2="other:1")
    machine.tell("nodes", listed + "worker3 Unknown docker.io/library/pause:3\n")
    done = machine.run("deploy.sh", "--model", str(model))
    assert done.returncode == 1
    for name, lacks in {"master": False, "worker1": True, "worker2": True, "worker3": False}.items():
        copy = f"sudo scp {machine.data}/agent/images/tierwise.tar {name}:"
        assert (copy in done.stderr) == lacks
    assert "setup-worker.sh --images tierwise.tar" in done.stderr
    assert not (machine.state / "applied").exists()
    machine.tell("nodes", nodes(master="tierwise:edge-0123456789ab", worker1="tierwise:edge-0123456789ab"))
    assert machine.run("deploy.sh", "--model", str(model)).returncode == 0


def test_image_is_built_once_and_goes_to_every_machine(machine: Machine, model: Path, tmp_path: Path) -> None:
    """The three commands of docs/deploy.md, in their order; the archive is made without a cluster."""
    archive = tmp_path / "tierwise.tar"
    done = machine.run("deploy.sh", "--image-only", str(archive))
    assert done.returncode == 0, done.stderr
    assert "tierwise:edge-0123456789ab is in" in done.stderr
    assert {call.split()[0] for call in machine.calls()} == {"docker"}
    assert machine.run("setup-worker.sh", "--images", str(archive), "10.0.0.7", "token").returncode == 0
    assert (machine.data / "agent" / "images" / "tierwise.tar").read_bytes() == archive.read_bytes()
    machine.tell("nodes", nodes(worker="tierwise:edge-0123456789ab"))
    done = machine.run("deploy.sh", "--model", str(model), "--image-archive", str(archive))
    assert done.returncode == 0, done.stderr
    assert f"k3s ctr images import {archive}" in machine.calls()
    assert len([call for call in machine.calls() if call.startswith("docker build")]) == 1
    assert {c["image"] for c in containers(pods(machine.applied()))} == {"tierwise:edge-0123456789ab"}


def test_archive_of_another_image_is_refused(machine: Machine, model: Path, tmp_path: Path) -> None:
    machine.install_k3s()
    archive = tmp_path / "plain.tar"
    (tmp_path / "manifest.json").write_text('[{"RepoTags":["tierwise:edge"]}]')
    with tarfile.open(archive, "w") as packed:
        packed.add(tmp_path / "manifest.json", "manifest.json")
    done = machine.run("deploy.sh", "--model", str(model), "--image-archive", str(archive))
    assert done.returncode == 1
    assert "make it with deploy.sh --image-only" in done.stderr


def test_joined_worker_takes_a_new_image_without_a_restart(machine: Machine, tmp_path: Path) -> None:
    archive = tmp_path / "tierwise.tar"
    archive.write_bytes(b"image")
    alone = machine.run("setup-worker.sh", "--images", str(archive))
    assert alone.returncode == 2  # no worker yet
    assert machine.run("setup-worker.sh", "10.0.0.7", "token").returncode == 0
    for arguments in ([], ["10.0.0.7", "token"]):
        done = machine.run("setup-worker.sh", "--images", str(archive), *arguments)
        assert done.returncode == 0, done.stderr
    assert machine.calls().count(f"k3s ctr images import {archive}") == 2
    assert (machine.data / "agent" / "images" / "tierwise.tar").read_bytes() == b"image"


def rendered(folder: Path, *, name: str = "tierwise", tag: str, namespace: str = "elsewhere") -> Path:
    """As much of a folder of "tierwise deploy" as deploy.sh reads, and a Deployment."""
    folder.mkdir()
    pod = {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "a", "image": "tierwise:edge"}]}}
    spec = {"selector": {"matchLabels": {"app": "a"}}, "template": pod}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "inference"}, "spec": spec}
    (folder / "deployment.yaml").write_text(json.dumps(deployment))
    (folder / "kustomization.yaml").write_text(
        f"apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nnamespace: {namespace}\n"
        f"resources:\n- deployment.yaml\nimages:\n- name: tierwise\n  newName: {name}\n  newTag: '{tag}'\n"
    )
    return folder


def test_deploy_from_a_rendered_folder_brings_nothing_of_its_own(machine: Machine, tmp_path: Path) -> None:
    machine.install_k3s()
    done = machine.run("deploy.sh", "--from", str(rendered(tmp_path / "rendered", tag="edge")), "--no-image")
    assert done.returncode == 0, done.stderr
    assert [item["kind"] for item in machine.applied()] == ["Deployment"]
    assert machine.calls()[-1].startswith("k3s kubectl rollout status deployment/inference --namespace elsewhere")


def test_deploy_builds_the_image_that_the_folder_wants(machine: Machine, tmp_path: Path) -> None:
    machine.install_k3s()
    folder = rendered(tmp_path / "rendered", tag="cloud")
    options = ["--build-arg", "TORCH_INDEX=https://torch.invalid/cpu", "--secret", "id=ca,src=/ca.crt"]
    done = machine.run("deploy.sh", "--from", str(folder), "--", *options)
    assert done.returncode == 0, done.stderr
    [build] = [call for call in machine.calls() if call.startswith("docker build")]
    assert "--target cloud --tag tierwise:cloud " in build
    assert " ".join(options) in build
    assert pods(machine.applied())["containers"][0]["image"] == "tierwise:cloud-0123456789ab"


def test_deploy_takes_what_tierwise_deploy_writes(machine: Machine, anomaly_detector: Path, tmp_path: Path) -> None:
    machine.install_k3s()
    render(DeployOptions(model=anomaly_detector, out=tmp_path / "out", tier="cloud", namespace="cloud-site"))
    done = machine.run("deploy.sh", "--from", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    objects = machine.applied()
    assert problems(objects) == []
    assert {c["image"] for c in containers(pods(objects))} == {"tierwise:cloud-0123456789ab"}
    assert find(objects, "Deployment", "inference")["metadata"]["namespace"] == "cloud-site"
    assert machine.calls()[-1].startswith("k3s kubectl rollout status deployment/inference --namespace cloud-site")


def test_image_of_a_registry_is_not_built(machine: Machine, tmp_path: Path) -> None:
    machine.install_k3s()
    folder = rendered(tmp_path / "rendered", name="registry.local:5000/team/tierwise", tag="1.2")
    machine.tell("running-image", "registry.local:5000/team/tierwise:1.2-rc1")
    done = machine.run("deploy.sh", "--from", str(folder))
    assert done.returncode == 0, done.stderr
    assert not [call for call in machine.calls() if call.startswith(("docker", "k3s ctr"))]
    assert pods(machine.applied())["containers"][0]["image"] == "registry.local:5000/team/tierwise:1.2"
    (tmp_path / "image.tar").touch()
    for refused in (["--image-only", "x.tar"], ["--image-archive", str(tmp_path / "image.tar")]):
        done = machine.run("deploy.sh", "--from", str(folder), *refused)
        assert done.returncode == 1
        assert "push it to its registry" in done.stderr


def test_image_says_what_it_was_built_from(machine: Machine, tmp_path: Path) -> None:
    machine.stub("git", 'case "$*" in *describe*) echo v1.2-3-gabc ;; *rev-parse*) echo abcdef ;; esac')
    assert machine.run("deploy.sh", "--image-only", str(tmp_path / "a.tar")).returncode == 0
    (machine.bin / "git").unlink()
    assert machine.run("deploy.sh", "--image-only", str(tmp_path / "b.tar")).returncode == 0
    with_git, without = [call for call in machine.calls() if call.startswith("docker build")]
    assert "--build-arg VERSION=v1.2-3-gabc --build-arg REVISION=abcdef" in with_git
    assert "--build-arg VERSION=dev --build-arg REVISION=unknown" in without


def test_newer_kubectl_on_path_builds_where_that_of_k3s_cannot(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    machine.set("old-kubectl")
    done = machine.run("deploy.sh", "--model", str(model), "--overlay", "minimal", "--no-image")
    assert done.returncode == 1
    assert "put a newer one (1.27) on PATH" in done.stderr
    assert not (machine.state / "applied").exists()
    machine.stub("kubectl", 'exec "$REAL_KUBECTL" "$@"')
    done = machine.run("deploy.sh", "--model", str(model), "--overlay", "minimal", "--no-image")
    assert done.returncode == 0, done.stderr
    assert any(call.startswith("k3s kubectl apply") for call in machine.calls())
    assert schema_problems(machine.applied(), OLDEST) == []


def test_dry_run_of_deploy_changes_nothing(machine: Machine, model: Path) -> None:
    machine.install_k3s()
    done = machine.run("deploy.sh", "--model", str(model), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "+ docker build" in done.stderr
    assert "+ k3s ctr images import" in done.stderr
    assert "+ kubectl apply --server-side --force-conflicts -f" in done.stderr
    changing = ("docker build", "docker tag", "docker save", "k3s ctr images", "k3s kubectl apply")
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


def test_teardown_forgets_the_images_that_nobody_runs(machine: Machine) -> None:
    machine.install_k3s()
    machine.tell("images", "docker.io/library/tierwise:edge-abc\ndocker.io/library/mosquitto:2.0\n")
    archive = machine.data / "agent" / "images" / "tierwise.tar"
    archive.parent.mkdir(parents=True)
    archive.touch()
    machine.tell("pods", "pod/inference-elsewhere\n")
    assert machine.run("teardown.sh", "--yes").returncode == 0
    assert archive.exists()
    (machine.state / "pods").unlink()
    assert machine.run("teardown.sh", "--yes").returncode == 0
    assert not archive.exists()
    removed = [call for call in machine.calls() if call.startswith("k3s ctr images rm")]
    assert removed == ["k3s ctr images rm docker.io/library/tierwise:edge-abc"]


def test_namespace_that_will_not_go_stops_a_teardown_but_not_that_of_the_cluster(machine: Machine) -> None:
    machine.install_k3s()
    machine.set("stuck")
    machine.stub("k3s-uninstall.sh", 'rm "$BIN/k3s"')
    done = machine.run("teardown.sh", "--yes")
    assert done.returncode == 1
    assert "the namespace tierwise has not gone" in done.stderr
    done = machine.run("teardown.sh", "--yes", "--cluster")
    assert done.returncode == 0, done.stderr
    assert "the namespace tierwise has not gone" in done.stderr
    assert machine.calls()[-1].startswith("k3s-uninstall.sh")


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
