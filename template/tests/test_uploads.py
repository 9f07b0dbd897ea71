"""Uploads: real images over HTTP, and files that are refused."""

import struct
import zlib
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from app.models.image import ImageModel, ImageStatus
from app.services.image import image_service
from app.tasks.processing import notify_user, process_file, process_uploaded_image, validate_file
from core.models import BlobModel, UserModel
from core.services.blob import BlobNotFound, blob_service
from core.tasks import JobFailed, PermanentError
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


def bomb(side: int) -> bytes:
    """Return a small PNG file whose header announces a huge image."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
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
        (bomb(20_000), 0, "far too many pixels"),
        (bomb(8_000), 0, "too many pixels (8000 x 8000)"),
        (scans(400), 0, "too many scans"),
        (photo()[:20_000], 1, "broken"),
        (photo("PNG")[:5_000], 1, "broken"),
        (photo("TIFF"), 0, NOT_AN_IMAGE),
    ],
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


async def test_a_large_file_is_refused(client, signed_in):
    response = await client.post("/uploads", files={"file": bytes(26 * 1024 * 1024)})
    assert response.status_code == 413
    assert await BlobModel.count() == 0


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
