"""Pictures of the book's pages as small grey images, made by the browser, and their distance.

Kept small and grey so that they fit into the repository, and so that the smoothing of letters does not count.
"""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

WIDTH = 320  # px of a kept picture
CELL = 8  # px: pictures are compared by the mean of such squares, in which a letter is a shade
# The page hands its own screenshot back as luminance, scaled down.
SHRINK = """async ([data, width]) => {
  const image = await createImageBitmap(await (await fetch('data:image/png;base64,' + data)).blob());
  const height = Math.round(image.height * width / image.width);
  const canvas = new OffscreenCanvas(width, height), pen = canvas.getContext('2d');
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(image, 0, 0, width, height);
  const { data: rgba } = pen.getImageData(0, 0, width, height);
  const grey = new Uint8Array(width * height);
  for (let i = 0; i < grey.length; i++)
    grey[i] = Math.round(0.2126 * rgba[4 * i] + 0.7152 * rgba[4 * i + 1] + 0.0722 * rgba[4 * i + 2]);
  let text = '';
  for (let i = 0; i < grey.length; i += 4096) text += String.fromCharCode(...grey.subarray(i, i + 4096));
  return [height, btoa(text)];
}"""
# Fonts differ from machine to machine: the width of one sentence in each kind of letters tells them apart.
FONTS = """() => {
  const pen = new OffscreenCanvas(10, 10).getContext('2d'), style = getComputedStyle(document.documentElement);
  const fonts = [getComputedStyle(document.body).fontFamily, style.getPropertyValue('--pst-font-family-monospace')];
  return fonts.map(font => {
    pen.font = '16px ' + font;
    return Math.round(pen.measureText('Induction heads complete A B ... A with B, 0123456789.').width);
  });
}"""


def grey_picture(blank_page, screenshot: bytes) -> np.ndarray:
    """A screenshot as luminance [height, 320], 0 to 255. `blank_page` is any page that may use data addresses."""
    height, data = blank_page.evaluate(SHRINK, [base64.b64encode(screenshot).decode(), WIDTH])
    return np.frombuffer(base64.b64decode(data), np.uint8).reshape(height, WIDTH)


def distances(one: np.ndarray, other: np.ndarray) -> tuple[float, float]:
    """(mean, largest) difference of the means of squares of 8 pixels, in per cent of black to white.

    Raises:
        ValueError: pictures of different sizes.
    """
    if one.shape != other.shape:
        raise ValueError(f"pictures of {one.shape} and {other.shape} pixels cannot be compared")
    difference = np.abs(_squares(one) - _squares(other)) / 2.55
    return float(difference.mean()), float(difference.max())


def _squares(picture: np.ndarray) -> np.ndarray:
    rows, columns = (side - side % CELL for side in picture.shape)
    cut = picture[:rows, :columns].astype(float)
    return cut.reshape(rows // CELL, CELL, columns // CELL, CELL).mean(axis=(1, 3))


def to_png(picture: np.ndarray) -> bytes:
    """A grey PNG of 8 bits a pixel."""
    height, width = picture.shape
    lines = b"".join(b"\0" + row.tobytes() for row in picture)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part: tuple[bytes, bytes]) -> bytes:
    name, data = part
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def from_png(data: bytes) -> np.ndarray:
    """What `to_png` wrote.

    Raises:
        ValueError: not a grey PNG of 8 bits written by `to_png`.
    """
    width, height, bits, kind = struct.unpack(">IIBB", data[16:26])
    if data[:8] != b"\x89PNG\r\n\x1a\n" or (bits, kind) != (8, 0):
        raise ValueError("not a picture that to_png wrote: approve it again")
    size = struct.unpack(">I", data[33:37])[0]
    return np.frombuffer(zlib.decompress(data[41 : 41 + size]), np.uint8).reshape(height, 1 + width)[:, 1:]
