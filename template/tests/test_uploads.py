"""Uploads: real images over HTTP, and files that are refused."""

import asyncio
import struct
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image, ImageCms

from app.models.image import ImageModel, ImageStatus
from app.services.image import image_service
from app.settings import app_settings
from app.tasks.processing import (
    IN_ALL,
    PER_USER,
    notify_user,
    process_file,
    process_upload,
    process_uploaded_image,
    validate_file,
)
from app.tasks.worker import worker
from core.config import ROOT
from core.context import TaskContext
from core.models import BlobModel, DeadLetterModel, UserModel
from core.services.blob import BlobNotFound, blob_service
from core.services.limits import Limits
from core.tasks import ChainJob, JobFailed, PermanentError
from core.testing import eventually

SIZE = (2400, 1600)
ORIENTATION = 0x0112
CAMERA_MAKER = 0x010F
SCAN_MARKER = b"\xff\xda"
NO_ID = "000000000000000000000000"
NOT_AN_IMAGE = "not an image. Upload one of GIF, JPEG, PNG, WEBP"


def photo(kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """Return a photo from a camera that was held sideways."""
    image = Image.linear_gradient("L").resize(SIZE).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[CAMERA_MAKER] = "Maker of the camera"
    file = BytesIO()
    image.save(file, kind, exif=exif)
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    length = struct.pack(">I", len(data))
    checksum = struct.pack(">I", zlib.crc32(kind + data))
    return length + kind + data + checksum


def bomb(width: int, height: int) -> bytes:
    """Return a small PNG file whose header announces a huge image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [
        chunk(b"IHDR", header),
        chunk(b"IDAT", zlib.compress(bytes(1000))),
        chunk(b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def scans(count: int) -> bytes:
    """Return a small progressive JPEG with many scans. Each one takes as long as the image."""
    file = BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(SCAN_MARKER)
    return content[:last] + content[last:-2] * count + content[-2:]


def with_second_image(content: bytes) -> bytes:
    """Return a JPEG with a second image, as many phones write. Pillow calls it MPO."""
    file = BytesIO()
    image = Image.new("L", (64, 64))
    image.save(file, "MPO", save_all=True, append_images=[image])
    header = file.getvalue()
    start = header.index(b"\xff\xe2")  # the list of images
    length = int.from_bytes(header[start + 2 : start + 4])
    return content[:2] + header[start : start + 2 + length] + content[2:]


def png(image: Image.Image, *chunks: bytes, at_end: bool = False) -> bytes:
    """Return a PNG with further chunks before or after its pixels."""
    file = BytesIO()
    image.save(file, "PNG")
    content = file.getvalue()
    position = content.index(b"IEND" if at_end else b"IDAT") - 4
    return content[:position] + b"".join(chunks) + content[position:]


def text_bombs() -> list[bytes]:
    """Return chunks of a PNG with 200 MB of text, which take 200 KB."""
    text = zlib.compress(bytes(10_000_000), 9)
    return [chunk(b"zTXt", b"Comment\0\0" + text) for _ in range(20)]


def long(width: int, height: int) -> bytes:
    """Return a PNG with white pixels that are really there. It is small, because they are equal."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = b"\0" + b"\xff" * (3 * width)
    pixels = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = [chunk(b"IHDR", header), chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def large_frame() -> bytes:
    """Return a GIF of 1 x 1 pixel whose frame is larger."""
    file = BytesIO()
    Image.new("L", (1, 1)).save(file, "GIF")
    content = bytearray(file.getvalue())
    frame = content.index(b",\0\0\0\0\1\0\1\0")
    content[frame + 5 : frame + 9] = struct.pack("<HH", 16_000, 5_000)
    return bytes(content)


async def upload(client, content: bytes, name: str = "photo.jpg") -> str:
    response = await client.post("/uploads", files={"file": (name, content)})
    assert response.status_code == 202
    return response.json()["id"]


async def wait_for_end(client, upload_id: str) -> dict[str, Any]:
    async def ended() -> dict[str, Any] | None:
        pipeline = (await client.get(f"/uploads/{upload_id}/pipeline")).json()
        return None if pipeline["status"] in ("pending", "running") else pipeline

    pipeline = await eventually(ended)
    assert pipeline
    return pipeline


async def store(user: UserModel, content: bytes) -> str:
    """Store an image without its pipeline, and return its id."""
    blob = await blob_service.upload(content, "photo.jpg")
    image = ImageModel(name="photo.jpg", owner=str(user.id), blob_id=str(blob.id))
    await image.insert()
    return str(image.id)


async def test_an_image_is_processed_and_its_owner_notified(
    client, signed_in, user, mailbox, running_worker
):
    pipeline = await wait_for_end(client, await upload(client, photo()))

    assert pipeline["status"] == pipeline["image"] == "completed"
    assert pipeline["stages"] == [
        {"task": "validate_file", "status": "completed"},
        {"task": "process_file", "status": "completed"},
        {"task": "notify_user", "status": "completed"},
    ]
    (mail,) = mailbox.messages
    assert (mail["To"], mail["Subject"]) == (user.email, "photo.jpg: completed")


async def test_the_results_are_upright_and_without_metadata(client, signed_in):
    pipeline = await wait_for_end(client, await upload(client, photo()))

    for name, size in (("thumbnail", (213, 320)), ("optimized", (1365, 2048))):
        response = await client.get(urlsplit(pipeline[name]).path)
        assert response.headers["content-type"] == "image/webp"
        image = Image.open(BytesIO(response.content))
        image.load()
        assert (image.format, image.size) == ("WEBP", size)
        assert not image.getexif()
        # The black top of the gradient is now on the right.
        grey = image.convert("L")
        corners = [grey.getpixel((0, 0)), grey.getpixel((size[0] - 1, 0))]
        assert corners == pytest.approx([255, 0], abs=5)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("GIF", "P"), ("WEBP", "RGB"), ("JPEG", "CMYK"), ("PNG", "I;16")],
)
async def test_each_format_is_processed_once(client, signed_in, kind, mode):
    upload_id = await upload(client, photo(kind, mode))
    pipeline = await wait_for_end(client, upload_id)
    assert (pipeline["image"], pipeline["error"]) == ("completed", None)

    again = await process_uploaded_image(upload_id)
    assert again == {"status": "completed", "image_id": upload_id}
    assert await BlobModel.count() == 3


@pytest.mark.parametrize(
    ("content", "stage", "error"),
    [
        (b"", 0, NOT_AN_IMAGE),
        (b"%PDF-1.7 and so on", 0, NOT_AN_IMAGE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 0, NOT_AN_IMAGE),
        (bomb(20_000, 20_000), 0, "far too many pixels"),
        (bomb(8_000, 8_000), 0, "too many pixels (8000 x 8000)"),
        (bomb(50_000_000, 1), 0, "too tall (50000000 x 1)"),
        (bomb(1, 20_001), 0, "too tall (1 x 20001)"),
        (large_frame(), 0, "too many pixels (16000 x 5000)"),
        (scans(400), 0, "too many scans"),
        (with_second_image(scans(400)), 0, "too many scans"),
        (png(Image.new("L", (9, 9)), *text_bombs()), 0, "broken"),
        (png(Image.new("L", (9, 9)), *text_bombs(), at_end=True), 1, "broken"),
        (photo()[:20_000], 1, "broken"),
        (photo("PNG")[:5_000], 1, "broken"),
        (photo("TIFF"), 0, NOT_AN_IMAGE),
        (photo("AVIF"), 0, NOT_AN_IMAGE),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else None,
)
async def test_unusable_files_fail_with_a_reason(client, signed_in, content, stage, error):
    pipeline = await wait_for_end(client, await upload(client, content))

    expected = ["completed"] * stage + ["failed"] + ["aborted"] * (2 - stage)
    assert [each["status"] for each in pipeline["stages"]] == expected
    assert (pipeline["status"], pipeline["image"]) == ("failed", "failed")
    assert error in pipeline["error"]


async def test_process_uploaded_image_on_a_real_worker(db, user, running_worker):
    job = await process_uploaded_image.enqueue(await store(user, photo()))
    assert (await job.result(timeout=30))["status"] == "completed"

    job = await process_uploaded_image.enqueue(await store(user, b"broken"))
    with pytest.raises(JobFailed, match="PermanentError"):
        await job.result(timeout=30)


async def test_waiting_images_of_one_user_do_not_delay_an_email(user, mailbox, running_worker):
    done = await store(user, photo())
    await process_file(done)
    content = blank("RGB", (5_000, 5_000), "PNG")
    images = [[await store(user, content)] for _ in range(60)]
    with TaskContext.use(actor=str(user.id)):
        await process_uploaded_image.enqueue_many(images)

    async def count_waiting() -> int:
        return (await worker.queue.engine.stats()).scheduled

    async def most_wait() -> bool:
        return await count_waiting() > 40

    await eventually(most_wait)
    job = await notify_user.enqueue(done)
    assert (await job.result(timeout=30))["status"] == "sent"
    assert await count_waiting() > 0


@pytest.mark.parametrize("task", [process_uploaded_image, process_file, validate_file])
async def test_images_of_many_users_leave_slots_for_emails(user, mailbox, monkeypatch, task):
    done = await store(user, photo())
    await process_file(done)
    started = []

    async def never_end(data: bytes) -> bytes:
        started.append(data)
        return await asyncio.Future()

    def has_started(count: int) -> bool:
        return len(started) == count

    assert PER_USER.concurrency == 1
    monkeypatch.setattr(image_service, "optimize", never_end)
    monkeypatch.setattr(image_service, "validate", never_end)
    image_id = await store(user, b"")
    for number in range(8):
        with TaskContext.use(actor=f"user-{number}"):
            await task.enqueue_many([[image_id]] * 20)
        await eventually(partial(has_started, min(number + 1, IN_ALL.concurrency)))
    job = await notify_user.enqueue(done)
    assert (await job.result(timeout=30))["status"] == "sent"
    assert len(started) == IN_ALL.concurrency


async def test_each_stage(db, user, mailbox):
    image_id = await store(user, photo())
    assert (await notify_user(image_id))["status"] == "skipped"  # it is not processed yet
    assert await validate_file(image_id) == image_id
    assert await process_file(image_id) == image_id
    assert await notify_user(image_id) == {"status": "sent", "user_email": user.email}
    (mail,) = mailbox.messages
    assert "http://127.0.0.1:8000/blobs/" in mail.get_body(("plain",)).get_content()


async def test_an_image_that_does_not_exist(db):
    result = await process_uploaded_image(NO_ID)
    assert result == {"status": "skipped", "reason": "image_not_found"}
    with pytest.raises(PermanentError, match="does not exist"):
        await validate_file(NO_ID)


async def test_grey_with_16_bits_keeps_its_tones(db):
    image = Image.linear_gradient("L").convert("I")
    image = image.point(lambda value: value * 257).convert("I;16")
    file = BytesIO()
    image.save(file, "PNG")

    thumbnail = await image_service.create_thumbnail(file.getvalue())
    grey = Image.open(BytesIO(thumbnail)).convert("L")
    tones = [grey.getpixel((128, y)) for y in (0, 128, 255)]
    assert tones == pytest.approx([0, 128, 255], abs=6)


def swapped_profile() -> bytes:
    """Return a colour profile in which red is blue, and blue is red."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    red, blue = profile.index(b"rXYZ"), profile.index(b"bXYZ")
    profile[red : red + 4], profile[blue : blue + 4] = b"bXYZ", b"rXYZ"
    return bytes(profile)


async def optimize(image: Image.Image, kind: str, **options: Any) -> Image.Image:
    file = BytesIO()
    image.save(file, kind, **options)
    return Image.open(BytesIO(await image_service.optimize(file.getvalue())))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
async def test_colours_are_converted_to_srgb_and_the_profile_is_dropped(kind):
    image = Image.new("RGB", (50, 50), (250, 10, 10))
    result = await optimize(image, kind, icc_profile=swapped_profile())
    assert result.getpixel((25, 25)) == pytest.approx((10, 10, 250), abs=12)
    assert "icc_profile" not in result.info

    for profile in (b"", b"not a profile", swapped_profile()[:200]):
        result = await optimize(image, kind, icc_profile=profile)
        assert result.getpixel((25, 25)) == pytest.approx((250, 10, 10), abs=12)
        assert "icc_profile" not in result.info


async def test_a_conversion_keeps_the_orientation_and_the_transparency():
    image = Image.new("RGBA", (50, 30), (250, 10, 10, 0))
    image.paste((250, 10, 10, 255), (0, 0, 25, 30))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    result = await optimize(image, "PNG", exif=exif, icc_profile=swapped_profile())
    assert result.size == (30, 50)
    assert result.getpixel((15, 10)) == pytest.approx((10, 10, 250, 255), abs=12)
    assert result.getchannel("A").getpixel((15, 45)) == 0


async def test_a_profile_for_other_colours_is_ignored():
    result = await optimize(Image.new("L", (50, 50), 90), "PNG", icc_profile=swapped_profile())
    assert result.getpixel((25, 25)) == pytest.approx((90, 90, 90), abs=4)


@pytest.mark.parametrize("kind", ["GIF", "JPEG", "PNG", "WEBP"])
async def test_results_contain_pixels_only(kind):
    exif = Image.Exif()
    exif[CAMERA_MAKER] = "Maker"
    result = BytesIO()
    image = Image.new("RGB", (50, 50), "red")
    metadata = {"exif": exif, "icc_profile": swapped_profile(), "xmp": b"<x:xmpmeta/>"}
    image.save(result, kind, comment=b"by Ada", **metadata if kind != "GIF" else {})

    for create in (image_service.create_thumbnail, image_service.optimize):
        content = await create(result.getvalue())
        assert content[8:12] == b"WEBP"
        assert chunk_names(content) <= {b"VP8 ", b"VP8L", b"VP8X", b"ALPH"}


def chunk_names(webp: bytes) -> set[bytes]:
    names, position = set(), 12
    while position < len(webp):
        names.add(webp[position : position + 4])
        length = int.from_bytes(webp[position + 4 : position + 8], "little")
        position += 8 + length + length % 2
    return names


async def test_only_the_first_frame_of_an_animation_is_used():
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "blue", "lime")]
    for kind in ("GIF", "PNG", "WEBP"):
        result = await optimize(frames[0], kind, save_all=True, append_images=frames[1:])
        assert result.getpixel((20, 20)) == pytest.approx((254, 0, 0), abs=12)
        assert getattr(result, "n_frames", 1) == 1


def blank(mode: str, size: tuple[int, int], kind: str, **options: Any) -> bytes:
    """Return a small file with a large image."""
    file = BytesIO()
    Image.new(mode, size).save(file, kind, **options)
    return file.getvalue()


MEASURE = """
import asyncio, re, sys
from pathlib import Path
from app.services.image import UnusableImage, image_service

def highest():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

data = sys.stdin.buffer.read()
before = highest()
try:
    asyncio.run(image_service.optimize(data))
except UnusableImage as error:
    print(error, file=sys.stderr)
print((highest() - before) // 1024)
"""
"""A program that prints the megabytes that an image takes, in a process that takes no others."""


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is read from /proc")
@pytest.mark.parametrize(
    ("content", "megabytes"),
    [
        (lambda: long(25_000_000, 1), 20),
        (lambda: long(1, 2_000_000), 20),
        (lambda: long(20_000, 1_250), 250),
        (lambda: blank("RGBA", (5_000, 5_000), "PNG"), 350),
        (lambda: blank("RGBA", (5_000, 5_000), "WEBP"), 500),
        (lambda: blank("RGB", (20_000, 2_500), "JPEG", progressive=True), 250),
    ],
    ids=["wide", "high", "PNG", "transparent PNG", "WEBP", "JPEG"],
)
def test_no_image_takes_much_memory(content, megabytes):
    command = [sys.executable, "-c", MEASURE]
    done = subprocess.run(command, input=content(), capture_output=True, cwd=ROOT, check=True)
    assert int(done.stdout) < megabytes, done.stderr


async def test_a_missing_file_fails(db, user):
    image_id = await store(user, photo())
    image = await ImageModel.get(image_id)
    assert image
    await blob_service.delete(image.blob_id)
    with pytest.raises(BlobNotFound):
        await process_uploaded_image(image_id)


@pytest.mark.parametrize(
    ("stored", "shown"),
    [
        (ImageStatus.COMPLETED, "completed"),
        (ImageStatus.FAILED, "failed"),
        (ImageStatus.PENDING, "failed"),
    ],
)
async def test_the_status_outlives_the_records_of_the_jobs(client, signed_in, user, stored, shown):
    image_id = await store(user, photo())
    image = await ImageModel.get(image_id)
    assert image
    image.pipeline_id = "expired"
    image.status = stored
    await image.save()

    pipeline = (await client.get(f"/uploads/{image_id}/pipeline")).json()
    assert (pipeline["status"], pipeline["image"]) == (shown, shown)


async def test_uploads_are_private(client, signed_in, stranger):
    upload_id = await upload(client, b"")
    assert (await stranger.get(f"/uploads/{upload_id}/pipeline")).status_code == 404
    client.cookies.clear()
    assert (await client.get(f"/uploads/{upload_id}/pipeline")).status_code == 401
    assert (await client.post("/uploads", files={"file": b""})).status_code == 401


async def test_the_name_of_a_file_is_cleaned(client, signed_in):
    names = {"a\u2028b\u202ec.png": "abc.png", "x" * 300: "x" * 200, "\u2028": "image"}
    for name, stored in names.items():
        response = await client.post("/uploads", files={"file": (name, b"1")})
        image = await ImageModel.get(response.json()["id"])
        assert image
        assert image.name == stored


async def test_a_large_file_is_refused(client, signed_in):
    response = await client.post("/uploads", files={"file": bytes(26 * 1024 * 1024)})
    assert response.status_code == 413
    assert await BlobModel.count() == 0


async def test_uploads_are_limited(client, signed_in, monkeypatch):
    monkeypatch.setattr("app.routes.uploads.UPLOADING", Limits("2 per hour", "100 per hour"))
    responses = [await client.post("/uploads", files={"file": b"1"}) for _ in range(3)]
    assert [response.status_code for response in responses] == [202, 202, 429]
    assert int(responses[-1].headers["Retry-After"]) > 0


async def test_the_files_of_a_user_have_a_quota(client, signed_in, stranger, monkeypatch):
    content = photo()
    monkeypatch.setattr(app_settings, "storage_quota", 2 * len(content))
    first = await upload(client, content)
    await upload(client, content[: len(content) // 2])
    refused = await client.post("/uploads", files={"file": content})
    assert refused.status_code == 409
    assert "Delete an upload first." in refused.json()["detail"]
    await upload(stranger, content)

    await wait_for_end(client, first)
    assert (await client.delete(f"/uploads/{first}")).status_code == 204
    await upload(client, content)


async def test_simultaneous_uploads_do_not_exceed_the_quota(client, signed_in, user, monkeypatch):
    monkeypatch.setattr(app_settings, "storage_quota", 2500)
    attempts = [client.post("/uploads", files={"file": bytes(1000)}) for _ in range(8)]
    statuses = [response.status_code for response in await asyncio.gather(*attempts)]
    assert set(statuses) <= {202, 409}
    assert statuses.count(202) <= 2
    assert await BlobModel.find(BlobModel.owner == str(user.id)).count() <= 2


async def test_originals_expire_and_results_stay(client, signed_in):
    await wait_for_end(client, await upload(client, photo()))
    blobs = {blob.name: blob for blob in await BlobModel.find_all().to_list()}
    assert len(blobs) == 3
    original = blobs.pop("photo.jpg")
    assert original.expires_at == original.created_at + timedelta(days=7)
    assert all(blob.expires_at is None for blob in blobs.values())


async def test_a_deleted_upload_leaves_nothing(client, signed_in, stranger, settings):
    upload_id = await upload(client, photo())
    await wait_for_end(client, upload_id)
    assert (await stranger.delete(f"/uploads/{upload_id}")).status_code == 404
    assert (await client.delete(f"/uploads/{upload_id}")).status_code == 204
    assert (await client.delete(f"/uploads/{upload_id}")).status_code == 404
    assert await ImageModel.count() == await BlobModel.count() == 0
    assert list(Path(settings.blob_url).iterdir()) == []


async def test_an_upload_that_waits_is_deleted_with_its_jobs(client, signed_in, running_worker):
    upload_id = await upload(client, photo())
    image = await ImageModel.get(upload_id)
    assert image
    run = process_upload.job(image.pipeline_id or "")
    assert (await client.delete(f"/uploads/{upload_id}")).status_code == 204
    await eventually(lambda: ended(run))
    assert await DeadLetterModel.count() == await BlobModel.count() == 0


async def ended(run: ChainJob[Any]) -> bool:
    return (await run.status()).is_final


async def test_a_file_is_read_after_the_log_in(client, user):
    sent = []

    async def send() -> AsyncIterator[bytes]:
        for _ in range(25):
            sent.append(1)
            yield bytes(1024 * 1024)

    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = await client.post("/uploads", content=send(), headers=headers)
    assert response.status_code == 401
    assert not sent


@pytest.mark.parametrize(
    "form",
    [
        {"files": {"other": b""}},
        {"data": {"file": "text"}},
        {"files": [("file", b""), ("file", b"")]},
        {"json": {"file": "text"}},
    ],
)
async def test_a_form_without_one_file_is_refused(client, signed_in, form):
    response = await client.post("/uploads", **form)
    assert response.status_code in (400, 422)
    assert isinstance(response.json()["detail"], str)


async def test_only_uploads_are_large(client, signed_in):
    name = "a" * 2 * 1024 * 1024
    form = {"email": "ada@example.com", "password": name, "display_name": name}
    assert (await client.post("/signup", json=form)).status_code == 413
    response = await client.post("/uploads", files={"file": bytes(24 * 1024 * 1024)})
    assert response.status_code == 202
