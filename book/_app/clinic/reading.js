// Turns what a person drops into pixels or a model, or into one sentence that says why not.
"use strict";

// What a person can put right; its message is one sentence.
class Refusal extends Error {}

const MOST_PIXELS = 40e6;
const MOST_BYTES = 100e6;
const LEAST_SIDE = 8;
const DISPLAY = 512;    // the longer side of the copy that is shown

const text = (bytes, from, to) => String.fromCharCode(...bytes.subarray(from, to));
const big = (bytes, at, count) => bytes.subarray(at, at + count).reduce((sum, byte) => sum * 256 + byte, 0);
const little = (bytes, at, count) => big(bytes.slice(at, at + count).reverse(), 0, count);

// Each kind of picture that the page reads: how its bytes begin, its size as its head declares it, and whether
// it holds several pictures.
const KINDS = {
  PNG: {
    begins: (b) => text(b, 1, 4) === "PNG",
    size: (b) => [big(b, 16, 4), big(b, 20, 4)],
    several: (b) => pngChunks(b).includes("acTL"),
  },
  JPEG: { begins: (b) => b[0] === 0xff && b[1] === 0xd8, size: jpegSize, several: () => false },
  BMP: {
    begins: (b) => text(b, 0, 2) === "BM",
    size: (b) => [little(b, 18, 4) | 0, Math.abs(little(b, 22, 4) | 0)],
    several: () => false,
  },
  WebP: { begins: (b) => text(b, 0, 4) === "RIFF" && text(b, 8, 12) === "WEBP", size: webpSize, several: (b) => text(b, 12, 16) === "VP8X" && (b[20] & 2) > 0 },
  GIF: { begins: (b) => text(b, 0, 3) === "GIF", size: (b) => [little(b, 6, 2), little(b, 8, 2)], several: (b) => gifPictures(b) > 1 },
};

// What people may well try, and why it is refused.
const OTHERS = [
  [(b) => ["II*\0", "MM\0*"].includes(text(b, 0, 4)), "is a TIFF picture, which browsers do not read; save it as PNG"],
  [(b) => text(b, 4, 8) === "ftyp", "is a HEIC or AVIF picture or a film; save it as PNG or JPEG"],
  [(b) => text(b, 0, 4) === "%PDF", "is a PDF document; save the picture in it as PNG"],
  [(b) => text(b, 128, 132) === "DICM", "is a DICOM file; export the picture as PNG"],
  [(b) => text(b, 0, 2) === "PK", "is an archive or a document; take the pictures out of it"],
  [(b) => /^\s*</.test(text(b, 0, 100)), "is a drawing or a page of text (SVG, HTML), not a photograph; save the picture as PNG"],
];

function pngChunks(bytes) {
  const names = [];
  for (let at = 8; at + 8 <= bytes.length && names[names.length - 1] !== "IDAT"; at += 12 + big(bytes, at, 4)) {
    names.push(text(bytes, at + 4, at + 8));
  }
  return names;
}

function jpegSize(bytes) {
  for (let at = 2; at + 9 < bytes.length && bytes[at] === 0xff;) {
    const marker = bytes[at + 1];
    if (marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker)) return [big(bytes, at + 7, 2), big(bytes, at + 5, 2)];
    at += marker === 0xff ? 1 : 2 + big(bytes, at + 2, 2);
  }
  return [0, 0];
}

function webpSize(bytes) {
  const kind = text(bytes, 12, 16);
  if (kind === "VP8X") return [1 + little(bytes, 24, 3), 1 + little(bytes, 27, 3)];
  if (kind === "VP8L") return [1 + (little(bytes, 21, 2) & 0x3fff), 1 + ((little(bytes, 21, 4) >>> 14) & 0x3fff)];
  return [little(bytes, 26, 2) & 0x3fff, little(bytes, 28, 2) & 0x3fff];
}

function gifPictures(bytes) {
  const colours = (flags) => ((flags & 0x80) > 0 ? 3 * 2 ** ((flags & 7) + 1) : 0);
  let at = 13 + colours(bytes[10]);
  let pictures = 0;
  while (at < bytes.length && bytes[at] !== 0x3b) {
    if (bytes[at] === 0x2c) {
      pictures += 1;
      at += 11 + colours(bytes[at + 9]);
    } else {
      at += 2;
    }
    while (bytes[at] > 0) at += 1 + bytes[at];
    at += 1;
  }
  return pictures;
}

function checkSize(name, width, height) {
  if (!(width > 0 && height > 0)) throw new Refusal(`${name} does not say how large it is; save it anew as PNG.`);
  if (width * height > MOST_PIXELS) {
    throw new Refusal(`${name} has ${Math.round((width * height) / 1e6)} million pixels and at most 40 are read; cut out the single cell.`);
  }
}

// Raises a Refusal unless the bytes begin as one small enough picture that the page reads.
function checkHead(name, bytes) {
  if (bytes.length === 0) throw new Refusal(`${name} is empty or a folder; drop the pictures themselves.`);
  const kind = Object.keys(KINDS).find((each) => KINDS[each].begins(bytes));
  if (!kind) {
    const other = OTHERS.find(([begins]) => begins(bytes));
    throw new Refusal(`${name} ${other ? other[1] : "is no picture that this page reads; give PNG, JPEG, WebP or BMP"}.`);
  }
  checkSize(name, ...KINDS[kind].size(bytes));
  if (KINDS[kind].several(bytes)) throw new Refusal(`${name} holds several pictures (an animation); save the one that you mean as PNG.`);
}

// Decodes a file: its pixels in full size, turned as its camera held it, transparent places white.
async function decode(file) {
  const { name } = file;
  if (file.size > MOST_BYTES) throw new Refusal(`${name} is larger than 100 MB; cut out the single cell.`);
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Refusal(`${name} cannot be read; it is a folder, or it was moved or changed: choose it again.`);
  }
  checkHead(name, bytes);
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes]), { colorSpaceConversion: "none", imageOrientation: "from-image" });
  } catch {
    throw new Refusal(`${name} is damaged or of a kind that this browser does not read; save it anew as PNG.`);
  }
  const { width, height } = bitmap;
  checkSize(name, width, height);    // a head may say less than what follows
  if (Math.min(width, height) < LEAST_SIDE) throw new Refusal(`${name} has ${width} x ${height} pixels, too few to show a cell.`);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, width, height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return { canvas, width, height, pixels: context.getImageData(0, 0, width, height).data };
}

// A copy of at most 512 pixels a side, for the screen.
function displayCopy({ canvas, width, height }) {
  const factor = Math.min(1, DISPLAY / Math.max(width, height));
  const copy = document.createElement("canvas");
  copy.width = Math.max(1, Math.round(width * factor));
  copy.height = Math.max(1, Math.round(height * factor));
  const context = copy.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(canvas, 0, 0, copy.width, copy.height);
  return copy;
}
