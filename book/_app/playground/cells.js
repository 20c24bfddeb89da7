"use strict";

// The cells: one sheet of pictures, decoded once, and coloured as each laboratory would.

// Returns the bytes of all pictures of a sheet, planes of red, green and blue, cell by cell.
function fromSheet(pixels, columns, count) {
  const area = SIDE * SIDE, bytes = new Uint8Array(count * 3 * area);
  for (let cell = 0; cell < count; cell++) {
    const left = cell % columns * SIDE, top = Math.floor(cell / columns) * SIDE;
    for (let i = 0; i < area; i++) {
      const from = 4 * ((top + Math.floor(i / SIDE)) * columns * SIDE + left + i % SIDE);
      for (let c = 0; c < 3; c++) bytes[(3 * cell + c) * area + i] = pixels[from + c];
    }
  }
  return bytes;
}

// The same cells in the colours of another laboratory, as hemafl_lib.partition.restain_images: densities are
// unmixed into two dyes, their amounts scaled, and mixed again (Ruifrok and Johnston 2001). `strength` 0 changes
// nothing, 1 is the laboratory's own way.
function restain(bytes, { blue, eosin, gain }, dyes, strength) {
  if (strength === 0) return bytes;
  const amounts = [blue ** strength, eosin ** strength, 1], area = SIDE * SIDE;
  const light = gain.map((value) => value ** strength);
  // Mixing: how much of the old density in channel i goes into the new density of channel o.
  const mixing = [0, 1, 2].map((o) => [0, 1, 2].map((i) => (
    [0, 1, 2].reduce((sum, dye) => sum + dyes.inverse[i][dye] * amounts[dye] * dyes.colours[dye][o], 0))));
  const density = Float64Array.from({ length: 256 }, (_, value) => -Math.log((value + 1) / 256));
  const result = new Uint8Array(bytes.length);
  for (let from = 0; from < bytes.length; from += 3 * area) {
    for (let i = from; i < from + area; i++) {
      const r = density[bytes[i]], g = density[bytes[i + area]], b = density[bytes[i + 2 * area]];
      for (let o = 0; o < 3; o++) {
        const value = Math.exp(-(mixing[o][0] * r + mixing[o][1] * g + mixing[o][2] * b)) * light[o] * 256 - 1;
        result[i + o * area] = Math.max(0, Math.min(255, Math.round(value)));
      }
    }
  }
  return result;
}

// All cells in the first `stains` ways of staining, one after the other: cell number n in way s is picture
// s * count + n.
function inAllStains(bytes, data, stains, strength) {
  const all = new Uint8Array(stains * bytes.length);
  for (let s = 0; s < stains; s++) all.set(restain(bytes, data.stains[s], data.dyes, strength), s * bytes.length);
  return all;
}

// Decodes the sheet that the page was built with, to bytes as `fromSheet` returns them.
async function decodeSheet({ sheet, columns, label }) {
  const file = new Blob([Uint8Array.from(atob(sheet), (character) => character.charCodeAt(0))], { type: "image/webp" });
  const bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  return fromSheet(context.getImageData(0, 0, bitmap.width, bitmap.height).data, columns, label.length);
}
