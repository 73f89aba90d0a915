"""Checks of the service as a whole: one function per check, facts in, finding out."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from common.doctor import findings
from common.doctor.facts import Facts, is_ours
from common.doctor.findings import nothing, ok, problem, warning
from common.doctor.reach import is_loopback
from common.ports import Finding

SCARCE, NONE = 5 * 2**30, 2**29
"""Bytes free under HARDFIRST_HOME below which it is said: a warning, a problem."""
LOCKED = "stop what holds it (a copy, a viewer, a transaction left open), then run this again"


def settings(facts: Facts) -> Finding:
    """Whether `hardfirst serve` would take the settings."""
    if not facts.complaint:
        return ok("settings", "every setting has a value that is allowed")
    evidence, fix = findings.parted(facts.complaint)
    return problem("settings", evidence, fix)


def home(facts: Facts) -> Finding:
    """HARDFIRST_HOME can be written."""
    folder, there = facts.settings.folder, facts.home.there
    if facts.home.problem:
        return problem(
            "home",
            f"HARDFIRST_HOME {folder} cannot be written ({facts.home.problem})",
            "let the user of this process write there, or name another folder in HARDFIRST_HOME",
        )
    return ok("home", f"{folder} can be written" if there else f"{folder} is made at the first start")


def disk(facts: Facts) -> Finding:
    """Room for images, weights and copies of the database."""
    free = facts.home.free
    evidence = f"{free / 2**30:.1f} GB are free under {facts.settings.folder}"
    fix = (
        "free some space, lower HARDFIRST_MEDIA_CACHE_GB "
        f"(now {facts.settings.media_cache_gb:g}) or move HARDFIRST_HOME to a larger disk"
    )
    if free >= SCARCE:
        return ok("disk", evidence)
    return problem("disk", evidence, fix) if free < NONE else warning("disk", evidence, fix)


def database(facts: Facts) -> Finding:
    """The database can be opened, written, and has this version's tables."""
    seen = facts.database
    said = without_password(seen.said, facts.settings.database_url or "")
    if seen.state in ("ok", "none"):
        return ok("database", said if seen.state == "ok" else "none yet: it is made at the first start")
    if seen.state == "locked":
        return problem("database", f"nobody can write now ({said})", LOCKED)
    if seen.state == "old":
        return warning("database", said, "start `hardfirst serve`, which copies the database and then changes it")
    if seen.state == "new":
        return problem(
            "database",
            f"{said}: a newer hardfirst wrote it",
            "install the newer hardfirst, or restore the copy (*.copy) beside the database",
        )
    fix = (
        "correct HARDFIRST_DATABASE_URL, or start its server"
        if facts.settings.database_url
        else "restore a copy (*.copy) beside the database, or move the damaged file away to begin anew"
    )
    return problem("database", f"it cannot be opened ({said})", fix)


def without_password(text: str, url: str) -> str:
    """Drivers repeat the URL they were given."""
    login, at, _ = url.partition("://")[2].rpartition("@")
    secret = login.partition(":")[2]
    return text.replace(url, "the URL").replace(secret, "***") if at and secret else text


def webhook_secret(facts: Facts) -> Finding:
    """The secret that webhooks carry is there, and nobody else reads it."""
    if facts.settings.webhook_secret:
        return ok("webhook secret", f"HARDFIRST_WEBHOOK_SECRET holds {len(facts.settings.webhook_secret)}")
    if facts.home.secret is None:
        if facts.projects:
            fix = "start `hardfirst serve`, which makes one and gives it to the platforms"
            return problem("webhook secret", "the file webhook-secret in HARDFIRST_HOME is gone", fix)
        return ok("webhook secret", "none yet: it is made at the first start")
    path = facts.settings.folder / "webhook-secret"
    if not facts.home.secret & 0o077:
        return ok("webhook secret", f"{path}, for its owner alone")

    def mend() -> str:
        path.chmod(0o600)
        return f"{path} can now be read by its owner alone"

    evidence = f"{path} can be read by others (mode {facts.home.secret:03o})"
    return warning("webhook secret", evidence, f"chmod 600 {path}", mend=mend)


def service(facts: Facts) -> Finding:
    """`hardfirst serve` answers at its port."""
    at = f"port {facts.settings.port}"
    got = facts.here
    if is_ours(got):
        return ok("service", f"hardfirst answers at {at}")
    if got.status == 401:
        fix = "start `hardfirst serve` with the BASIC_AUTH_USER and BASIC_AUTH_PASS of this process"
        return problem("service", f"what answers at {at} does not accept our user name and password", fix)
    if got.status:
        fix = "stop that program, or name another port in HARDFIRST_PORT and HARDFIRST_URL"
        return problem("service", f"another program answers at {at} (status {got.status})", fix)
    return problem("service", f"nothing answers at {at} ({got.error})", "start `hardfirst serve`")


def public_address(facts: Facts) -> Finding:
    """HARDFIRST_URL leads to us."""
    url, got = facts.settings.public_url, facts.outside
    if is_ours(got):
        return ok("public address", f"hardfirst answers at {url}")
    if not is_ours(facts.here):
        return nothing("public address", f"{url}: nothing can be said while the service is not running")
    host = urlsplit(url).hostname or ""
    why = got.error or f"status {got.status}"
    fix = "set HARDFIRST_URL to an address of this service that the platform's machine reaches"
    if is_loopback(host):
        return problem("public address", f"{url} does not lead to this service ({why})", fix)
    evidence = f"{url} does not lead to this service from here ({why}); it may from the platform's machine"
    return warning("public address", evidence, fix)


def torch(facts: Facts) -> Finding:
    """Torch and torchvision work together, on the device that is asked for."""
    seen, wanted = facts.machine, facts.settings.device
    if not seen.torch:
        return problem("torch", f"torch is not there ({seen.error or 'not installed'})", "run `make install` again")
    built = f"torch {seen.torch}" + ("" if seen.cuda else ", built without CUDA")
    if seen.error:
        if "HARDFIRST_DEVICE" in seen.error:
            return problem("torch", f"{built}: {seen.error}", f"set HARDFIRST_DEVICE to one of those{_gpu_hint(facts)}")
        return problem(
            "torch",
            f"{built}: {seen.error}",
            "install torch and torchvision as a pair that fits the GPU's driver: `make install` (`TORCH=cpu` without "
            "a GPU), and compare the driver with `nvidia-smi`",
        )
    where = f"{seen.device} ({seen.name})" if seen.name else seen.device
    if seen.gpu and seen.device == "cpu" and wanted == "auto":
        why = "its driver is too old or not there for this process" if seen.cuda else "torch was built without CUDA"
        fix = (
            f"update the NVIDIA driver to one for CUDA {seen.cuda}, in a container also give it the GPU (gpus: all)"
            if seen.cuda
            else "install torch with CUDA: `make install TORCH=pypi`"
        )
        return problem("torch", f"{built} computes on the CPU though an NVIDIA GPU is there: {why}", fix)
    return ok("torch", f"{built} computes on {where}")


def _gpu_hint(facts: Facts) -> str:
    seen = facts.machine
    if seen.gpu and not seen.cuda:
        return ", or install torch with CUDA: `make install TORCH=pypi`"
    return ", or update the NVIDIA driver" if seen.gpu else ""


def model(facts: Facts) -> Finding:
    """The weights that projects begin with are there, load safely, and are of a known family."""
    name = facts.settings.model
    if facts.base is None:
        plain = "/" not in name and name.startswith("yolo")
        if plain:
            fix = f"nothing is to be done where the internet is reached; else put {name} into {facts.settings.models}"
            return warning("model", f"{name} is not in {facts.settings.models}: it is downloaded at its first use", fix)
        fix = "set HARDFIRST_MODEL to the path of a .pt file, or to an official name such as yolo11n.pt"
        return problem("model", f"HARDFIRST_MODEL is {name!r}, and there is no such file", fix)
    if facts.base.suffix == ".yaml":
        return warning("model", f"{facts.base} is a network without knowledge", "name trained weights (.pt)")
    said = facts.machine.weights.get(str(facts.base))
    if said is None:
        return nothing("model", f"{facts.base} could not be looked at: torch does not work")
    if isinstance(said, str):
        return problem("model", said, "name weights of a YOLO detector (.pt) in HARDFIRST_MODEL")
    return ok("model", f"{facts.base}: a detector of {len(said)} classes")


CHECKS: dict[str, Callable[[Facts], Finding]] = {
    "settings": settings,
    "home": home,
    "disk": disk,
    "database": database,
    "webhook secret": webhook_secret,
    "service": service,
    "public address": public_address,
    "torch": torch,
    "model": model,
}
"""Every check of the service, in the order of the report."""
