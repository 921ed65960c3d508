// What is done to pixels: decoding, window and inversion, heat as colour, letterboxing undone.

// Every 24th part of matplotlib's inferno from a quarter up: the colours of the report's overlays.
const COLOURS = (
  "57106e 64156e 71196e 7d1e6d 8a226a 972766 a32c61 b0315b bc3754 c73e4c d24644 db503b e45a31 " +
  "eb6628 f1731d f68013 f98e09 fb9d07 fcac11 fbbc21 f9cb35 f5db4c f2ea69 f3f68a fcffa4"
)
  .split(" ")
  .map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

export const PLAIN = { level: 50, width: 100, invert: false };

/** The pixels of a PNG in base64, exactly as they are in the file. */
export async function decode(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const bitmap = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = sheet(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

export function sheet(width, height) {
  const canvas = document.createElement("canvas");
  return Object.assign(canvas, { width, height });
}

/** What each of 256 greys becomes; level and width in percent of the whole range. */
export function toneTable({ level, width, invert }) {
  const low = 2.55 * (level - width / 2);
  const table = new Uint8ClampedArray(256);
  for (let grey = 0; grey < 256; grey++) table[grey] = ((grey - low) * 100) / width;
  return invert ? table.map((grey) => 255 - grey) : table;
}

/** Pixels through a table, onto a canvas of their size. */
export function toned(pixels, tone, canvas) {
  const table = toneTable(tone);
  const out = new ImageData(pixels.width, pixels.height);
  const [from, to] = [pixels.data, out.data];
  for (let k = 0; k < from.length; k += 4) {
    to[k] = table[from[k]];
    to[k + 1] = table[from[k + 1]];
    to[k + 2] = table[from[k + 2]];
    to[k + 3] = 255;
  }
  canvas.getContext("2d").putImageData(out, 0, 0);
  return canvas;
}

/** Heat as a canvas: inferno, and the fainter the less heat there is; and its highest value. */
export function heatLayer(pixels) {
  const out = new ImageData(pixels.width, pixels.height);
  let highest = 0;
  for (let k = 0; k < pixels.data.length; k += 4) {
    const heat = pixels.data[k] / 255;
    highest = Math.max(highest, heat);
    const at = heat * (COLOURS.length - 1);
    const below = Math.min(Math.floor(at), COLOURS.length - 2);
    for (let c = 0; c < 3; c++) out.data[k + c] = COLOURS[below][c] + (at - below) * (COLOURS[below + 1][c] - COLOURS[below][c]);
    out.data[k + 3] = 255 * heat ** 0.8;
  }
  const canvas = sheet(pixels.width, pixels.height);
  canvas.getContext("2d").putImageData(out, 0, 0);
  return { canvas, highest };
}

/**
 * The part of the network's input that holds the picture, the rest being black borders.
 * The same arithmetic as `resize` of data/pictures/images.py.
 */
export function pictureInside([height, width], picture, letterbox) {
  if (!letterbox) return { left: 0, top: 0, width, height };
  const factor = Math.min(height / picture.height, width / picture.width);
  const inner = { width: Math.max(1, Math.round(picture.width * factor)), height: Math.max(1, Math.round(picture.height * factor)) };
  return { left: Math.floor((width - inner.width) / 2), top: Math.floor((height - inner.height) / 2), ...inner };
}
