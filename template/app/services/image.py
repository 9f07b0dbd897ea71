"""Images: smaller ones, made of what people upload, which may be anything."""

import asyncio
from collections.abc import Callable
from io import BytesIO
from typing import TypeVar

from PIL import Image, ImageOps, UnidentifiedImageError

from core.threads import ThreadPool

R = TypeVar("R")

FORMATS = ("GIF", "JPEG", "PNG", "WEBP")
MOST_PIXELS = 50_000_000
MOST_SCANS = 100
"""Of a progressive JPEG, which may say that it has thousands, each of which takes as long as the whole picture."""
SCAN = b"\xff\xda"
THUMBNAIL, LARGEST = (320, 320), (2048, 2048)
QUALITY = 80

# Not as many as jobs run at once: each one may take some hundred MB.
_threads = ThreadPool(2, thread_name_prefix="image")


class UnusableImage(Exception):
    """This is no image that can be used; the message says why."""


class ImageService:
    """Makes images of images, in threads. Each method raises UnusableImage."""

    async def validate(self, data: bytes) -> None:
        """Look at type and size, without decoding it."""
        await _in_thread(_open, data)

    async def create_thumbnail(self, data: bytes) -> bytes:
        """A WebP image of at most 320 pixels each way."""
        return await _in_thread(_shrink, data, THUMBNAIL)

    async def optimize(self, data: bytes) -> bytes:
        """A WebP image of at most 2048 pixels each way, upright, and without what a camera writes into it."""
        return await _in_thread(_shrink, data, LARGEST)


async def _in_thread(function: Callable[..., R], *args: object) -> R:
    return await asyncio.get_running_loop().run_in_executor(_threads, function, *args)


def _open(data: bytes) -> Image.Image:
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise UnusableImage(f"it is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise UnusableImage("it has far too many pixels") from None
    except Exception as error:  # a broken header ends in many ways
        raise UnusableImage(f"it is broken: {error}") from error
    if image.width * image.height > MOST_PIXELS:
        raise UnusableImage(f"{image.width} x {image.height} pixels are too many")
    if image.format == "JPEG" and data.count(SCAN) > MOST_SCANS:
        raise UnusableImage("it has far too many scans")
    return image


def _shrink(data: bytes, size: tuple[int, int]) -> bytes:
    image = _open(data)
    result = BytesIO()
    try:
        image.draft("RGB", size)  # JPEG: decode no more than is needed
        if image.mode.startswith(
            "I"
        ):  # 16 bits of grey, of which convert() would cut off the upper ones
            image = image.point(lambda value: value / 256)
        if image.mode not in ("L", "RGB", "RGBA"):
            image = image.convert(
                "RGBA" if image.has_transparency_data else "L" if image.mode[0] == "I" else "RGB"
            )
        image.thumbnail(size)
        image = ImageOps.exif_transpose(image)
        image.save(
            result, "WEBP", quality=QUALITY, icc_profile=image.info.get("icc_profile"), exif=b""
        )
    except Exception as error:  # truncated and forged files end in many ways
        raise UnusableImage(f"it is broken: {error}") from error
    return result.getvalue()


image_service = ImageService()
