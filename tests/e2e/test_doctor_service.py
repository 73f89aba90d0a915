"""`hardfirst doctor` beside a real service and a real Label Studio: well, stopped, and refused private addresses."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from ls_backend.local_process import free_port
from ls_backend.local_server import LocalLabelStudio
from tests.service import Service

pytestmark = pytest.mark.e2e
CONFIG = (
    '<View><Image name="image" value="$image"/><RectangleLabels name="label" toName="image">'
    '<Label value="Car"/><Label value="Dog"/></RectangleLabels></View>'
)


def picture(shade: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (96, 64), (shade, 80, 160)).save(out, "PNG")
    return out.getvalue()


def project(server: LocalLabelStudio, images: int) -> int:
    with server.client() as http:
        made = http.post("/api/projects", json={"title": "well", "label_config": CONFIG}).raise_for_status()
        number = int(made.json()["id"])
        files = [("file", (f"{n}.png", picture(n), "image/png")) for n in range(images)]
        http.post(f"/api/projects/{number}/import", files=files).raise_for_status()
    return number


def doctor(service: Service, *arguments: str) -> tuple[int, dict[str, Any]]:
    """(exit code, 'about/name' -> finding)."""
    command = [sys.executable, "-m", "common.cli", "doctor", *arguments, "--json"]
    done = subprocess.run(command, env=service.environment(), capture_output=True, text=True, check=False)
    assert service.server.token not in done.stdout + done.stderr
    found = json.loads(done.stdout)["findings"]
    return done.returncode, {f"{f['about']}/{f['name']}": f for f in found}


def bad(found: dict[str, Any]) -> list[str]:
    return [name for name, f in found.items() if f["state"] in ("problem", "warning")]


def test_a_service_at_work_is_well_and_one_that_was_stopped_is_not(
    label_studio: LocalLabelStudio, shared: Path, tmp_path: Path
) -> None:
    weights = {"HARDFIRST_MODEL": str(shared / "weights" / "yolo11n-rebuilt.pt")}
    number = project(label_studio, 6)
    with Service(tmp_path / "home", label_studio, weights) as service:
        service.run("connect", "label-studio", "--project", str(number))
        service.await_version(number, "hardfirst@")
        code, found = doctor(service)
        key = service.key(number)
        assert (code, bad(found)) == (0, [])
        looked = ("worker", "inbox", "serving model", "labels", "images", "backend", "webhook", "model version")
        assert {name: found[f"{key}/{name}"]["state"] for name in looked} == dict.fromkeys(looked, "ok")

        with label_studio.client() as http:
            (hook,) = http.get("/api/webhooks", params={"project": number}).json()
            http.patch(f"/api/webhooks/{hook['id']}", json={**hook, "headers": {}}).raise_for_status()
            lost = [{"image": "/data/upload/0/nothing.png"}]
            http.post(f"/api/projects/{number}/import", json=lost).raise_for_status()
        code, found = doctor(service, "--fix")
        assert found[f"{key}/webhook"]["state"] == "ok"
        service.wait(lambda: f"{key}/images" in bad(doctor(service)[1]), "the image that is missing to be told", 60)
    code, found = doctor(service, "label-studio", "--project", key)
    assert code == 1
    assert {"/service", f"{key}/worker", f"{key}/backend"} <= set(bad(found))


def listed(server: LocalLabelStudio, url: str) -> tuple[int, int]:
    """(project, status of the answer) where a person adds the backend in Label Studio."""
    number = project(server, 1)
    with server.client() as http:
        return number, http.post("/api/ml", json={"project": number, "url": url, "title": "hardfirst"}).status_code


def private(service: Service, number: int) -> dict[str, Any]:
    return dict(doctor(service, "--project", service.key(number))[1][f"{service.key(number)}/private addresses"])


def test_refused_private_addresses_are_found_however_many_of_the_two_settings_are_missing(
    label_studio_environment: Path, tmp_path: Path
) -> None:
    def studio(**settings: str) -> LocalLabelStudio:
        return LocalLabelStudio(tmp_path / "data", environment=label_studio_environment, port=port, settings=settings)

    port = free_port()
    server = studio()
    with server, Service(tmp_path / "home", server, {}) as service:
        number, status = listed(server, service.url)
        assert (status, private(service, number)["state"]) == (201, "ok")
        server.stop()
        with studio(ML_BLOCK_LOCAL_IP="true", SSRF_PROTECTION_ENABLED="true") as closed:
            refused = private(service, number)
            other, status = listed(closed, service.url)
            assert (status, private(service, other)["state"]) == (403, "warning")
        with studio(ML_BLOCK_LOCAL_IP="false", SSRF_PROTECTION_ENABLED="true") as half:
            other, status = listed(half, service.url)
            assert (status, private(service, other)["state"]) == (403, "warning")
    assert refused["state"] == "problem"
    assert "ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false" in refused["fix"]
