"use strict";
/* Image files as the model's pixels, as predict.py makes them: upright, without transparency, resized as a whole with antialiasing. */

const LARGEST_IMAGE = 100_000_000;
const PRECISION = 2 ** 22;

function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  return canvas;
}

/* RGBA bytes of a file that the browser can decode. Colour profiles are left aside, as Pillow does. */
async function decoded(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: "none" });
  } catch {
    throw new Error(`${file.name || "this"} cannot be decoded as an image: give a PNG, JPEG, WebP, GIF or BMP file`);
  }
  const { width, height } = bitmap;
  if (width * height > LARGEST_IMAGE) {
    throw new Error(`${file.name || "this image"} has ${width} x ${height} pixels, more than a page can hold: make it smaller first`);
  }
  const canvas = canvasOf(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  return context.getImageData(0, 0, width, height);
}

/* H x W x channels of RGBA; grey by the weights of ITU-R 601, in Pillow's whole numbers. */
function coloured(image, channels) {
  const count = image.width * image.height;
  const made = new Uint8Array(count * channels);
  for (let at = 0; at < count; at += 1) {
    const [red, green, blue] = [image.data[4 * at], image.data[4 * at + 1], image.data[4 * at + 2]];
    if (channels === 1) {
      made[at] = (red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16;
    } else {
      [made[3 * at], made[3 * at + 1], made[3 * at + 2]] = [red, green, blue];
    }
  }
  return made;
}

/* For every place of the smaller side, the first source and the whole-number weights of the sources: a triangle filter. */
function weightsOf(from, to) {
  const scale = from / to;
  const support = Math.max(scale, 1);
  return Array.from({ length: to }, (_, place) => {
    const centre = (place + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - support + 0.5), 0);
    const last = Math.min(Math.trunc(centre + support + 0.5), from);
    const shares = Array.from({ length: last - first }, (_, at) => Math.max(0, 1 - Math.abs((at + first - centre + 0.5) / support)));
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, weights: shares.map((share) => Math.trunc(0.5 + (share / sum) * PRECISION)) };
  });
}

/* Resize along one axis: `outer` lines of `from` steps with `inner` values each become lines of `to` steps. */
function resizedAlong(pixels, outer, from, inner, to) {
  const made = new Uint8Array(outer * to * inner);
  for (const [place, { first, weights }] of weightsOf(from, to).entries()) {
    for (let line = 0; line < outer; line += 1) {
      for (let value = 0; value < inner; value += 1) {
        let sum = PRECISION / 2;
        for (let at = 0; at < weights.length; at += 1) {
          sum += pixels[(line * from + first + at) * inner + value] * weights[at];
        }
        made[(line * to + place) * inner + value] = Math.min(255, Math.floor(sum / PRECISION));
      }
    }
  }
  return made;
}

/* An image file as the model's pixels: Uint8Array of H x W x C. */
async function pixelsOfFile(file, { height, width, channels }) {
  const image = await decoded(file);
  const wide = resizedAlong(coloured(image, channels), image.height, image.width, channels, width);
  return resizedAlong(wide, 1, image.height, width * channels, height);
}

/* Show the model's pixels on a canvas of the model's size. */
function show(pixels, canvas, { height, width, channels }) {
  canvas.width = width;
  canvas.height = height;
  canvas.classList.toggle("pixels", Math.max(height, width) < 128);
  const image = new ImageData(width, height);
  for (let at = 0; at < height * width; at += 1) {
    const colour = channels === 1 ? Array(3).fill(pixels[at]) : pixels.subarray(3 * at, 3 * at + 3);
    image.data.set([...colour, 255], 4 * at);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/* Average over squares of `factor` x `factor` RGBA pixels: what a scanner of the model's resolution would see. */
function averaged(image, factor, { height, width, channels }) {
  const made = { width, height, data: new Uint8ClampedArray(4 * width * height) };
  for (let row = 0; row < height; row += 1) {
    for (let column = 0; column < width; column += 1) {
      for (let colour = 0; colour < 3; colour += 1) {
        let sum = 0;
        for (let y = row * factor; y < (row + 1) * factor; y += 1) {
          for (let x = column * factor; x < (column + 1) * factor; x += 1) {
            sum += image.data[4 * (y * image.width + x) + colour];
          }
        }
        made.data[4 * (row * width + column) + colour] = sum / factor ** 2;
      }
    }
  }
  return coloured(made, channels);
}
