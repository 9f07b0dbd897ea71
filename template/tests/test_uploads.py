"""Uploads: real images over HTTP, and what becomes of those that are none."""

import struct
import zlib
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from PIL import Image

from app.models.image import ImageModel, ImageStatus
from app.services.image import image_service
from app.tasks.processing import notify_user, process_file, process_uploaded_image, validate_file
from core.models import BlobModel
from core.services.blob import BlobNotFound, blob_service
from core.tasks import JobFailed, PermanentError
from core.testing import eventually

SIZE = (2400, 1600)
ORIENTATION = 0x0112


def photo(kind: str = "JPEG", mode: str = "RGB") -> bytes:
    """A picture that a camera held sideways has taken."""
    image = Image.linear_gradient("L").resize(SIZE).convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    exif[0x010F] = "Maker of the camera"
    file = BytesIO()
    image.save(file, kind, exif=exif)
    return file.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG file that says it is a huge image."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(1000)))
        + chunk(b"IEND", b"")
    )


def scans(count: int) -> bytes:
    """A small progressive JPEG that says the same again and again, each time as slow as the first."""
    file = BytesIO()
    Image.new("L", (64, 64)).save(file, "JPEG", progressive=True)
    content = file.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * count + content[-2:]


async def upload(client, content: bytes, name: str = "photo.jpg") -> str:
    response = await client.post("/uploads", files={"file": (name, content)})
    assert response.status_code == 202
    return response.json()["id"]


async def ended(client, upload_id: str) -> dict[str, Any]:
    async def look() -> dict[str, Any] | None:
        pipeline = (await client.get(f"/uploads/{upload_id}/pipeline")).json()
        return None if pipeline["status"] in ("pending", "running") else pipeline

    pipeline = await eventually(look)
    assert pipeline
    return pipeline


async def test_an_image_is_processed_and_its_owner_told(
    client, signed_in, user, mailbox, running_worker
):
    pipeline = await ended(client, await upload(client, photo()))

    assert {stage["task"]: stage["status"] for stage in pipeline["stages"]} == {
        "validate_file": "completed",
        "process_file": "completed",
        "notify_user": "completed",
    }
    for name, size in (("thumbnail", (213, 320)), ("optimized", (1365, 2048))):
        response = await client.get(urlsplit(pipeline[name]).path)
        assert response.headers["content-type"] == "image/webp"
        image = Image.open(BytesIO(response.content))
        image.load()
        assert (image.format, image.size) == ("WEBP", size)  # upright
        assert not image.getexif()
        corners = [image.convert("L").getpixel((x, 0)) for x in (0, size[0] - 1)]
        assert corners == pytest.approx([255, 0], abs=5)  # its top is on the right
    (mail,) = mailbox.messages
    assert (mail["To"], mail["Subject"]) == (user.email, "photo.jpg: completed")


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("GIF", "P"), ("WEBP", "RGB"), ("JPEG", "CMYK"), ("PNG", "I;16")],
)
async def test_kinds_of_images(client, signed_in, kind, mode):
    upload_id = await upload(client, photo(kind, mode))
    pipeline = await ended(client, upload_id)
    assert (pipeline["image"], pipeline["error"]) == ("ready", None)
    assert await process_uploaded_image(upload_id) == {"status": "completed", "image_id": upload_id}
    assert await BlobModel.count() == 3  # once more is no more


@pytest.mark.parametrize(
    ("content", "stage", "error"),
    [
        (b"", 0, "none of GIF, JPEG, PNG, WEBP"),
        (b"%PDF-1.7 and so on", 0, "none of GIF, JPEG, PNG, WEBP"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 0, "none of GIF, JPEG, PNG, WEBP"),
        (bomb(20_000), 0, "far too many pixels"),
        (bomb(8_000), 0, "8000 x 8000 pixels are too many"),
        (scans(400), 0, "far too many scans"),
        (photo()[:20_000], 1, "broken"),
        (photo("PNG")[:5_000], 1, "broken"),
        (photo("TIFF"), 0, "none of GIF, JPEG, PNG, WEBP"),
    ],
)
async def test_what_cannot_be_used_is_told(client, signed_in, content, stage, error):
    pipeline = await ended(client, await upload(client, content))

    expected = ["completed"] * stage + ["failed"] + ["aborted"] * (2 - stage)
    assert [each["status"] for each in pipeline["stages"]] == expected
    assert (pipeline["status"], pipeline["image"]) == ("failed", "failed")
    assert error in pipeline["error"]


async def test_process_uploaded_image_on_a_real_worker(db, user, running_worker):
    blob = await blob_service.upload(photo(), "photo.jpg")
    image = await ImageModel(name="photo.jpg", owner=str(user.id), blob_id=str(blob.id)).insert()
    assert (await (await process_uploaded_image.enqueue(str(image.id))).result(timeout=20))[
        "status"
    ] == "completed"

    broken = await blob_service.upload(b"nothing", "photo.jpg")
    image = await ImageModel(name="photo.jpg", owner=str(user.id), blob_id=str(broken.id)).insert()
    job = await process_uploaded_image.enqueue(str(image.id))
    with pytest.raises(JobFailed, match="PermanentError"):
        await job.result(timeout=20)
    nobodys = await process_uploaded_image("000000000000000000000000")
    assert nobodys == {"status": "skipped", "reason": "image_not_found"}


async def test_each_stage(db, user, mailbox):
    blob = await blob_service.upload(photo(), "photo.jpg")
    image = await ImageModel(name="photo.jpg", owner=str(user.id), blob_id=str(blob.id)).insert()
    image_id = str(image.id)
    assert (await notify_user(image_id))["status"] == "skipped"  # there is nothing to see yet
    assert await validate_file(image_id) == image_id
    assert await process_file(image_id) == image_id
    assert await notify_user(image_id) == {"status": "sent", "user_email": user.email}
    (mail,) = mailbox.messages
    assert "http://127.0.0.1:8000/blobs/" in mail.get_body(("plain",)).get_content()
    with pytest.raises(PermanentError, match="there is no image"):
        await validate_file("000000000000000000000000")


async def test_16_bits_of_grey_are_no_white(db):
    file = BytesIO()
    Image.linear_gradient("L").convert("I").point(lambda value: value * 257).convert("I;16").save(
        file, "PNG"
    )
    small = Image.open(BytesIO(await image_service.create_thumbnail(file.getvalue()))).convert("L")
    assert [small.getpixel((128, y)) for y in (0, 128, 255)] == pytest.approx([0, 128, 255], abs=6)


async def test_a_file_that_vanished_is_told(client, signed_in):
    upload_id = await upload(client, photo(), "photo.jpg")
    (blob,) = await BlobModel.find(BlobModel.name == "photo.jpg").to_list()
    await ended(client, upload_id)
    image = await ImageModel.get(upload_id)
    assert image
    await blob_service.delete(str(blob.id))
    image.status = ImageStatus.WAITING
    with pytest.raises(BlobNotFound):
        await process_uploaded_image(str((await image.save()).id))


async def test_uploads_are_their_owners(client, signed_in, stranger):
    upload_id = await upload(client, b"")
    assert (await stranger.get(f"/uploads/{upload_id}/pipeline")).status_code == 404
    client.cookies.clear()
    assert (await client.get(f"/uploads/{upload_id}/pipeline")).status_code == 401
    assert (await client.post("/uploads", files={"file": b""})).status_code == 401


async def test_too_much_is_refused(client, signed_in):
    response = await client.post("/uploads", files={"file": bytes(26 * 1024 * 1024)})
    assert response.status_code == 413
    assert await BlobModel.count() == 0
