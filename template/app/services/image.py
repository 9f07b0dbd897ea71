"""Smaller versions of uploaded images. An upload may be broken or malicious."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from math import ceil
from typing import TypeVar

from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from core.threads import ThreadPool

R = TypeVar("R")

FORMATS = ("GIF", "JPEG", "PNG", "WEBP")
MAX_PIXELS = 25_000_000
"""Decoding a WebP takes 15 bytes for each pixel, and other formats less."""
MAX_JPEG_PIXELS = 50_000_000
"""A large JPEG is decoded at a lower resolution."""
MAX_SIDE = 20_000
"""Decoding and shrinking also take memory for each pixel of a row or column."""

MAX_SCANS = 100
"""A progressive JPEG can have thousands of scans. Each one takes as long as a whole image."""

JPEG_FORMATS = ("JPEG", "MPO")
"""A JPEG that contains a second image, as phones write it, has the format MPO in Pillow."""

SCAN_MARKER = b"\xff\xda"
THUMBNAIL_SIZE = (320, 320)
OPTIMIZED_SIZE = (2048, 2048)
QUALITY = 80
SRGB = ImageCms.createProfile("sRGB")
"""The colours that a viewer assumes for an image without a profile."""

# One thread in each process: a large image needs a whole core and some hundred MB. With two, emails
# take twice as long on a machine with two cores.
_thread = ThreadPool(1, thread_name_prefix="image")


class UnusableImage(Exception):
    """The file cannot be used as an image. The message explains the reason to the user."""


class ImageService:
    """Creates smaller images in a thread. Use the instance `image_service`."""

    async def validate(self, data: bytes) -> None:
        """Check an image's format and size without decoding it.

        Args:
            data: The file.

        Raises:
            UnusableImage: The file is not an image, or is too large.
        """
        await _in_thread(_open, data)

    async def create_thumbnail(self, data: bytes) -> bytes:
        """Return a WebP image of at most 320 x 320 pixels.

        Args:
            data: The file.

        Raises:
            UnusableImage: The file is not an image, or is too large or broken.
        """
        return await _in_thread(_shrink, data, THUMBNAIL_SIZE)

    async def optimize(self, data: bytes) -> bytes:
        """Return an upright WebP image of at most 2048 x 2048 pixels.

        The metadata is removed, because it can hold the place where a photo was taken. The colours
        are converted to sRGB, so the image needs no profile.

        Args:
            data: The file.

        Raises:
            UnusableImage: The file is not an image, or is too large or broken.
        """
        return await _in_thread(_shrink, data, OPTIMIZED_SIZE)


async def _in_thread(function: Callable[..., R], *args: object) -> R:
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_thread, function, *args)


def _open(data: bytes) -> Image.Image:
    """Read an image's header, and refuse the image if decoding would take too long."""
    try:
        image = Image.open(BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        formats = ", ".join(FORMATS)
        raise UnusableImage(f"The file is not an image. Upload one of {formats}.") from None
    except Image.DecompressionBombError:
        limit = f"Upload one with at most {MAX_PIXELS:,} pixels."
        raise UnusableImage(f"The image has far too many pixels. {limit}") from None
    except Exception as error:  # a broken header fails in many ways
        raise _broken(error) from error
    _check_size(image)
    if image.format in JPEG_FORMATS and data.count(SCAN_MARKER) > MAX_SCANS:
        raise UnusableImage("The JPEG has too many scans. Save it as a non-progressive JPEG.")
    return image


def _check_size(image: Image.Image) -> None:
    size = f"{image.width} x {image.height}"
    if max(image.size) > MAX_SIDE:
        limit = f"Upload one with at most {MAX_SIDE:,} pixels on each side."
        raise UnusableImage(f"The image is too wide or too tall ({size}). {limit}")
    most = MAX_JPEG_PIXELS if image.format in JPEG_FORMATS else MAX_PIXELS
    if image.width * image.height > most:
        limit = f"Upload one with at most {most:,} pixels."
        raise UnusableImage(f"The image has too many pixels ({size}). {limit}")


def _shrink(data: bytes, size: tuple[int, int]) -> bytes:
    image = _open(data)
    try:
        scale = max(size) / max(image.size)
        smaller = (ceil(image.width * scale), ceil(image.height * scale))
        image.draft("RGB", smaller)  # a JPEG is decoded at a lower resolution
        image = _convert(image)
        image.thumbnail(size)
        image = ImageOps.exif_transpose(image)
        return _encode(_to_srgb(image))
    except Exception as error:  # truncated and forged files fail in many ways
        raise _broken(error) from error


def _convert(image: Image.Image) -> Image.Image:
    """Return the image in a mode that can be shrunk, with the same colours."""
    if image.mode.startswith("I"):
        # Grey with 16 bits. Without the division, light tones become white.
        image = image.point(lambda value: value / 256)
    if image.mode in ("L", "RGB", "RGBA", "CMYK"):
        return image
    return image.convert("RGBA" if image.has_transparency_data else "RGB")


def _to_srgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        # The profile may be broken, or may belong to other colours than the image has.
        with suppress(ImageCms.PyCMSError):
            converted = ImageCms.profileToProfile(image, BytesIO(profile), SRGB, outputMode=mode)
            image = converted or image
    return image.convert("RGB") if image.mode == "CMYK" else image


def _encode(image: Image.Image) -> bytes:
    result = BytesIO()
    image.save(
        result,
        "WEBP",
        quality=QUALITY,
        icc_profile=b"",
        exif=b"",
        xmp=b"",
    )
    return result.getvalue()


def _broken(error: Exception) -> UnusableImage:
    return UnusableImage(f"The image is broken ({error}). Upload an intact file.")


image_service = ImageService()
