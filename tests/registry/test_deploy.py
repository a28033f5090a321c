"""The policies that ship: well-formed, no wider than they say, and enough for what each role does on a real server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from registry import transfer
from registry.adapters import Registry
from registry.audit import AuditLog
from registry.bucket import Bucket
from registry.captures import CaptureWriter, FeedbackRecord
from registry.captures.pseudonyms import Pseudonyms
from registry.captures.remains import forget
from registry.errors import Unavailable
from registry.files import Files
from registry.gc import collect
from registry.jobs import Jobs
from registry.pins import Pins
from registry.s3 import S3Store
from registry.store import Store
from tests.registry.folders import PROFILE, write_folder
from tests.rgw import Rgw, make_bucket

DEPLOY = Path(__file__).parents[2] / "deploy"
ROLES = sorted(path.stem for path in (DEPLOY / "iam").glob("*.json"))
KNOWN = {
    "s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:ListBucket",
    "s3:ListBucketMultipartUploads", "s3:ListMultipartUploadParts",
}  # fmt: skip
LOG = "t/{tenant}/a/x/log/00000000000000000001.json"


def statements(path: Path, bucket: str = "b", tenant: str = "acme") -> list[dict[str, Any]]:
    text = path.read_text().replace("BUCKET", bucket).replace("TENANT", tenant)
    policy = json.loads(text)
    assert policy["Version"] == "2012-10-17"
    found: list[dict[str, Any]] = policy["Statement"]
    return found


@pytest.mark.parametrize("name", [*(f"iam/{role}" for role in ROLES), "bucket-policy"])
def test_policies_are_well_formed(name: str) -> None:
    path = DEPLOY / f"{name}.json"
    found = statements(path)
    assert len({each["Sid"] for each in found}) == len(found)
    for each in found:
        assert set(each["Action"]) <= KNOWN
        for resource in each["Resource"]:
            assert resource.startswith("arn:aws:s3:::b")
            segments = resource.removeprefix("arn:aws:s3:::b").split("/")[1:]
            assert all(segment == "*" or "*" not in segment for segment in segments), "one star for each part of a key"
            assert segments != ["*"], "nobody needs everything"
        assert each["Effect"] == ("Deny" if path.stem == "bucket-policy" else "Allow")


@pytest.mark.parametrize("role", ROLES)
def test_no_role_may_touch_another_tenant_or_delete_history(role: str) -> None:
    allowed = [
        (action, resource)
        for each in statements(DEPLOY / "iam" / f"{role}.json")
        for action in each["Action"]
        for resource in each["Resource"]
    ]
    for action, resource in allowed:
        key = resource.removeprefix("arn:aws:s3:::b").removeprefix("/")
        shared = ("", "registry.json", "bases/*", "keys/*")
        assert key in shared or key.startswith("t/acme/") or (role == "keykeeper" and key.startswith("keys/"))
        if action == "s3:DeleteObject":
            assert "/log/" not in resource
    text = (DEPLOY / "README.md").read_text()
    assert f"iam/{role}.json" in text


class Place:
    """A bucket of its own with a registry that serves x@v1, seen by its owner and by somebody who may do nothing."""

    def __init__(self, rgw: Rgw, bucket: str) -> None:
        make_bucket(rgw, bucket)
        self._rgw = rgw
        self._bucket = bucket
        self.other = rgw.another_user(bucket)
        self.owner = Registry(self.store(rgw), "acme", actor="owner")
        session = boto3.session.Session(rgw.access_key, rgw.secret_key, region_name="us-east-1")
        self.client = session.client("s3", endpoint_url=rgw.endpoint)

    def store(self, user: Rgw) -> Store:
        session = boto3.session.Session(user.access_key, user.secret_key)
        bucket = Bucket(self._bucket, endpoint=user.endpoint, session=session)
        return S3Store(bucket, large_bytes=5 << 20, part_bytes=5 << 20)

    def grant(self, *policies: str) -> Registry:
        """Replace what the other may do; a role's policy names no principal, a bucket's must.

        The owner needs a statement too: in Ceph, whoever writes an object owns it.
        """
        everything = [f"arn:aws:s3:::{self._bucket}", f"arn:aws:s3:::{self._bucket}/*"]
        whole = {"Effect": "Allow", "Principal": _user("test"), "Action": ["s3:*"], "Resource": everything}
        found = [each for policy in policies for each in statements(DEPLOY / policy, self._bucket)]
        mine = [{"Principal": _user(self._bucket)} | each for each in found]
        policy = {"Version": "2012-10-17", "Statement": [whole, *mine]}
        self.client.put_bucket_policy(Bucket=self._bucket, Policy=json.dumps(policy))
        return Registry(self.store(self.other), "acme", actor="other")


def _user(name: str) -> dict[str, list[str]]:
    return {"AWS": [f"arn:aws:iam:::user/{name}"]}


@pytest.fixture(scope="module")
def place(rgw: Rgw, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    place = Place(rgw, "roles")
    place.owner.register_base(PROFILE)
    place.owner.publish("x", write_folder(tmp_path_factory.mktemp("one"), seed=1), aliases={"prod": None})
    yield place
    place.client.close()


def refused(action: Callable[[], object]) -> None:
    with pytest.raises(Unavailable, match="AccessDenied"):
        action()


@pytest.mark.s3
def test_a_gateway_reads_and_observes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = place.grant("iam/gateway.json")
    assert registry.pull("x", tmp_path / "pulled").number == 1
    assert [entry.adapter for entry in registry.list()] == ["x"]
    Pins(registry.store, "acme", registry.clock).hold("g1", {"x": ()}, 1.0)
    Pins(registry.store, "acme", registry.clock).release("g1")
    note = FeedbackRecord(request_id="r", time=0.0, adapter="x", rating=1)
    CaptureWriter(registry.store, "acme", "g1").feedback(note)
    assert list(registry.store.list("keys/")) == []
    monkeypatch.setattr(transfer, "LARGE_BYTES", 5 << 20)
    (tmp_path / "rows.jsonl").write_bytes(b'{"text": "many words", "label": "x"}\n' * 200_000)
    files = Files(registry.store, "acme")
    file = files.put(tmp_path / "rows.jsonl", filename="rows.jsonl", purpose="fine-tune")
    assert files.fetch(file.id, tmp_path / "back") == file
    files.delete(file.id)
    Jobs(registry.store, "acme").submit("ftjob-1", {"kind": "fine-tune"})
    refused(lambda: registry.alias("x", "prod", None))
    refused(lambda: registry.publish("x", write_folder(tmp_path / "two", seed=2)))
    place.owner.store.put("t/other/a/x/HEAD", b"")
    refused(lambda: registry.store.get("t/other/a/x/HEAD"))


@pytest.mark.s3
@pytest.mark.parametrize("role", ["gateway", "eraser"])
def test_who_may_forget_forgets(place: Place, role: str) -> None:
    owner = CaptureWriter(place.owner.store, "acme", "g1")
    for number, user in enumerate([f"ada-{role}", "bob"]):
        named = Pseudonyms(place.owner.store, "acme").of(user)
        owner.feedback(FeedbackRecord(request_id=f"{role}{number}", time=0.0, adapter="x", rating=1, users=(named,)))
    registry = place.grant(f"iam/{role}.json")
    assert forget(registry, f"ada-{role}").feedback == 1
    AuditLog(registry.store, "acme", "here").record("tests", "captures.forget", {})
    refused(lambda: registry.store.delete("t/acme/erasures/x"))
    refused(lambda: registry.store.put("t/acme/datasets/x.jsonl", b""))


@pytest.mark.s3
def test_a_publisher_publishes(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "LARGE_BYTES", 5 << 20)
    registry = place.grant("iam/publisher.json")
    folder = write_folder(tmp_path / "two", seed=2)
    (folder / "large.txt").write_text("many words " * 1_000_000)
    version = registry.publish("x", folder)
    assert registry.verify("x").num_versions == version.number
    refused(lambda: registry.store.delete(version.blob_key(version.manifest.files[0].sha256)))
    refused(lambda: registry.store.delete(LOG.format(tenant="acme")))
    refused(lambda: Registry(registry.store, "other").publish("x", folder, profile=PROFILE))


@pytest.mark.s3
def test_a_promoter_moves_aliases_and_brings_no_bytes(place: Place, tmp_path: Path) -> None:
    registry = place.grant("iam/promoter.json")
    registry.alias("x", "canary", "v1")
    assert registry.resolve("x@canary").number == 1
    refused(lambda: registry.publish("x", write_folder(tmp_path / "three", seed=3)))


@pytest.mark.s3
def test_a_collector_sweeps_blobs_and_no_history(place: Place, tmp_path: Path) -> None:
    registry = place.grant("iam/collector.json")
    gone = place.owner.publish("x", write_folder(tmp_path / "four", seed=4))
    place.owner.delete("x", gone.name.partition("@")[2])
    (report,) = collect(registry, ["x"], grace_s=0.0)
    assert any(finding.goes for finding in report.blobs)
    weights = gone.manifest.file("adapter_model.safetensors")
    assert weights is not None
    assert not place.owner.store.exists(gone.blob_key(weights.sha256))
    refused(lambda: registry.store.delete(LOG.format(tenant="acme")))
    refused(lambda: registry.store.put("t/acme/a/x/blobs/forged", b""))


@pytest.mark.s3
def test_the_bucket_keeps_logs_from_its_owner_too(place: Place) -> None:
    found = statements(DEPLOY / "bucket-policy.json", "roles")
    text = json.dumps({"Version": "2012-10-17", "Statement": found})
    place.client.put_bucket_policy(Bucket="roles", Policy=text)
    store = place.owner.store
    for kind in ("a/x", "jobs/j", "monitor/x"):
        key = f"t/acme/{kind}/log/{'9' * 20}.json"
        assert store.create(key, b"{}") or store.exists(key)
        refused(lambda key=key: store.delete(key))  # type: ignore[misc]
    store.delete("t/acme/a/x/blobs/nothing")
    place.client.delete_bucket_policy(Bucket="roles")
    store.delete(f"t/acme/a/x/log/{'9' * 20}.json")


@pytest.mark.s3
def test_unfinished_uploads_are_forgotten(place: Place) -> None:
    rules = json.loads((DEPLOY / "lifecycle.json").read_text())
    place.client.put_bucket_lifecycle_configuration(Bucket="roles", LifecycleConfiguration=rules)
    (rule,) = place.client.get_bucket_lifecycle_configuration(Bucket="roles")["Rules"]
    assert rule["Status"] == "Enabled"
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
