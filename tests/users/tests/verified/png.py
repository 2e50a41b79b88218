# Decodes a PNG of 8-bit RGB by its specification, and compares its pixels with those that it should have.
import struct
import sys
import zlib

WIDTH, HEIGHT, PIXEL = 640, 300, 3

data = open(sys.argv[1], "rb").read()
assert data[:8] == b"\x89PNG\r\n\x1a\n"
at, chunks = 8, []
while at < len(data):
    (length,) = struct.unpack(">I", data[at : at + 4])
    kind, body = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
    (crc,) = struct.unpack(">I", data[at + 8 + length : at + 12 + length])
    assert crc == zlib.crc32(kind + body), kind
    chunks.append((kind, body))
    at += 12 + length
assert chunks[0] == (b"IHDR", struct.pack(">IIBBBBB", WIDTH, HEIGHT, 8, 2, 0, 0, 0))
assert chunks[-1] == (b"IEND", b"")
filtered = zlib.decompress(b"".join(body for kind, body in chunks if kind == b"IDAT"))


def paeth(a, b, c):
    distances = [abs(b - c), abs(a - c), abs(a + b - 2 * c)]
    return (a, b, c)[distances.index(min(distances))]


predictions = [
    lambda a, b, c: 0,
    lambda a, b, c: a,
    lambda a, b, c: b,
    lambda a, b, c: (a + b) // 2,
    paeth,
]

line = WIDTH * PIXEL
assert len(filtered) == HEIGHT * (line + 1)
above = bytes(line)
for y in range(HEIGHT):
    start = y * (line + 1)
    predict, row = predictions[filtered[start]], bytearray(filtered[start + 1 : start + 1 + line])
    for x in range(line):
        left, corner = (row[x - PIXEL], above[x - PIXEL]) if x >= PIXEL else (0, 0)
        row[x] = (row[x] + predict(left, above[x], corner)) % 256
    wanted = bytearray()
    for x in range(WIDTH):
        hashed, by = (y * WIDTH + x) * 2654435761 % 2**32, x % 32
        hashed = (hashed << by | hashed >> (32 - by)) % 2**32
        wanted += hashed.to_bytes(4, "big")[:3]
    assert row == wanted, f"row {y}"
    above = row
