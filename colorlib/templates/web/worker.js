// What takes long: reads a photo, asks the network about a small copy, paints at full size.
// The same steps as `colorize` in notebooks/07_together.ipynb; Lab, gamut and rounding as in colorlib/color.py.
import * as ort from "./ort.js";

const MOST = 64; // megapixels: then a photo takes about a gigabyte
const STRIPE = 250_000; // pixels between two looks at what else was asked for
const SCREEN = 1024; // long side of what is painted first
const here = (name) => new URL(name, import.meta.url).href;

class Plain extends Error {} // whose words are for the reader

ort.env.wasm.numThreads = 1; // more would need headers that plain servers do not send
ort.env.wasm.wasmPaths = { wasm: here("ort-wasm-simd-threaded.wasm") };
const network = Promise.all([
  fetch(here("model.json")).then((answer) => answer.json()),
  ort.InferenceSession.create(here("model.onnx")),
]).catch(() => {
  throw new Plain("The network cannot be loaded: is every file of build/web there?");
});

let grey, colour; // contexts of the page's two canvases
let photo; // the last that was read
let temperature = 1;
let asked = 0, reading = 0, painting = 0; // numbers of the latest; an earlier one stops
let before = Promise.resolve(); // settles with all that was asked for earlier

onmessage = async ({ data }) => {
  const earlier = before;
  const own = answer(data);
  before = Promise.allSettled([earlier, own]);
  try {
    await own;
  } catch (error) {
    await earlier; // what it says would hide this
    const full = error instanceof RangeError || /memory|alloc/i.test(error.message);
    const words = full ? "This photo needs more memory than the browser has." : `That failed: ${error.message}`;
    postMessage({ error: [error instanceof Plain ? error.message : words, Boolean(photo?.painted)] });
  }
};

async function answer(data) {
  if (data.canvases) {
    [grey, colour] = data.canvases.map((canvas) => canvas.getContext("2d", { willReadFrequently: true }));
    await network;
  } else if (data.photo) {
    if (await read(data.photo)) await paint();
  } else if (data.temperature) {
    temperature = data.temperature;
    if (photo) await paint();
  } else {
    await save(data.save);
  }
}

/** Let messages in and the canvases be shown. */
const pause = () => new Promise((go) => setTimeout(go));

/** Work through the rows of a picture; false: something newer was asked for. */
async function inStripes({ width, height }, isLatest, work) {
  const rows = Math.max(1, Math.floor(STRIPE / width));
  for (let top = 0; top < height; top += rows) {
    work(top, Math.min(height, top + rows));
    await pause();
    if (!isLatest()) return false;
  }
  return true;
}

async function read(file) {
  const mine = ++asked;
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image" }).catch(() => {
    throw new Plain(`${file.name} is no picture that this browser can read.`);
  });
  const { width, height } = bitmap;
  if (width * height > MOST * 1e6) {
    bitmap.close();
    throw new Plain(`${file.name} has more than ${MOST} megapixels: make it smaller first.`);
  }
  if (mine < reading) return false;
  reading = mine;
  painting++;
  photo = undefined;
  for (const { canvas } of [grey, colour]) [canvas.width, canvas.height] = [width, height];
  grey.fillRect(width - 1, height - 1, 1, 1);
  if (!grey.getImageData(width - 1, height - 1, 1, 1).data[3]) {
    throw new Plain(`${file.name} is larger than this browser's canvas: make it smaller first.`);
  }
  postMessage({ size: [width, height, file.name] });
  const found = { width, height, level: new Float32Array(width * height), alpha: new Uint8Array(width * height) };
  const whole = await inStripes(found, () => mine === reading, (top, bottom) => {
    const stripe = new OffscreenCanvas(width, bottom - top).getContext("2d", { willReadFrequently: true });
    stripe.drawImage(bitmap, 0, -top);
    const image = stripe.getImageData(0, 0, width, bottom - top);
    readRows(found, image.data, top);
    grey.putImageData(image, 0, top);
    postMessage({ done: ["Reading the photo", (0.3 * bottom) / height] });
  });
  bitmap.close();
  if (whole) photo = found;
  return whole;
}

async function paint() {
  const mine = ++painting;
  const isLatest = () => mine === painting;
  const { width, height } = photo;
  const started = performance.now();
  photo.painted = false;
  postMessage({ done: ["Painting", 0.3] });
  await pause();
  const lines = await ask(photo);
  if (!isLatest()) return;
  const first = (photo.first ??= shrunk(photo, SCREEN / Math.max(width, height)));
  const sketch = new OffscreenCanvas(first.width, first.height);
  sketch.getContext("2d").putImageData(paintRows(first, lines, 0, first.height), 0, 0);
  colour.drawImage(sketch, 0, 0, width, height);
  const whole = await inStripes(photo, isLatest, (top, bottom) => {
    colour.putImageData(paintRows(photo, lines, top, bottom), 0, top);
    postMessage({ done: ["Painting", 0.3 + (0.7 * bottom) / height] });
  });
  if (!whole) return;
  photo.painted = true;
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  postMessage({ done: [`${width} × ${height} pixels, painted in ${seconds} s`] });
}

async function save(type) {
  if (!photo?.painted) return;
  postMessage({ done: ["Writing the file", 0] });
  const page = new OffscreenCanvas(photo.width, photo.height);
  const context = page.getContext("2d");
  if (type === "image/jpeg") {
    context.fillStyle = "#fff"; // what is transparent would become black
    context.fillRect(0, 0, page.width, page.height);
  }
  context.drawImage(colour.canvas, 0, 0);
  const saved = await page.convertToBlob({ type, quality: 0.95 });
  postMessage({ saved, done: [`Saved: ${(saved.size / 1e6).toFixed(1)} MB`] });
}

/** Ask the network: its lines for a picture at this temperature, and how much of them is the picture's. */
async function ask(picture) {
  const [{ build }, session] = await network;
  const small = (picture.small ??= shrunk(picture, build.image_size / Math.min(picture.width, picture.height)));
  const [width, height] = [small.width, small.height].map((side) => Math.max(64, 32 * Math.ceil(side / 32)));
  const padded = new Float32Array(width * height);
  for (let y = 0, at = 0; y < height; y++) {
    const row = Math.min(y, small.height - 1) * small.width;
    for (let x = 0; x < width; x++) padded[at++] = small.level[row + Math.min(x, small.width - 1)];
  }
  const { answer } = await session.run({
    lightness: new ort.Tensor("float32", padded, [1, 1, height, width]),
    temperature: new ort.Tensor("float32", [temperature], []),
  });
  const [, , rows, stride] = answer.dims;
  const [wide, high] = [small.width, small.height].map((side) => Math.ceil(side / 4));
  return { data: answer.data, plane: rows * stride, stride, width: wide, height: high };
}

/** A smaller picture, antialiased as torch does it: by triangles as wide as two of the new pixels. */
function shrunk(picture, scale) {
  if (scale >= 1) return picture;
  const [width, height] = [picture.width, picture.height].map((side) => Math.max(4, Math.round(side * scale)));
  const flat = new Float32Array(picture.width * height);
  eachTap(picture.height, height, (to, from, weight) => {
    for (let x = 0; x < picture.width; x++) {
      flat[to * picture.width + x] += weight * picture.level[from * picture.width + x];
    }
  });
  const level = new Float32Array(width * height);
  eachTap(picture.width, width, (to, from, weight) => {
    for (let y = 0; y < height; y++) level[y * width + to] += weight * flat[y * picture.width + from];
  });
  return { width, height, level, alpha: new Uint8Array(level.length).fill(255) };
}

function eachTap(many, few, give) {
  const scale = many / few;
  for (let to = 0; to < few; to++) {
    const middle = (to + 0.5) * scale;
    const [low, high] = [Math.max(0, Math.floor(middle - scale)), Math.min(many, Math.ceil(middle + scale))];
    const weights = [];
    for (let from = low; from < high; from++) {
      weights.push(Math.max(0, 1 - Math.abs(from + 0.5 - middle) / scale));
    }
    const sum = weights.reduce((a, b) => a + b);
    weights.forEach((weight, i) => give(to, low + i, weight / sum));
  }
}

const LINEAR = Float64Array.from({ length: 256 }, (_, byte) => {
  const value = byte / 255;
  return value > 0.04045 ? ((value + 0.055) / 1.055) ** 2.4 : value / 12.92;
});
const FINE = 65536; // steps of linear light, a twentieth of a byte where the curve is steepest
const BYTE = Uint8Array.from({ length: FINE + 1 }, (_, step) => {
  const value = step / FINE;
  return Math.round(255 * (value > 0.0031308 ? 1.055 * value ** (1 / 2.4) - 0.055 : 12.92 * value));
});

/** Keep lightness, L/50 - 1, and opacity of some rows of RGBA, and make them grey. */
function readRows({ level, alpha, width }, rgba, top) {
  for (let from = 0, to = top * width; from < rgba.length; from += 4, to++) {
    const y = 0.212671 * LINEAR[rgba[from]] + 0.71516 * LINEAR[rgba[from + 1]] + 0.072169 * LINEAR[rgba[from + 2]];
    const root = y > (6 / 29) ** 3 ? Math.cbrt(y) : (y * 841) / 108 + 4 / 29;
    level[to] = (116 * root - 16) / 50 - 1;
    alpha[to] = rgba[from + 3];
    rgba.fill(BYTE[Math.round(FINE * y)], from, from + 3);
  }
}

/** Paint some rows: ab/110 = slope * level + height, with the lines enlarged bilinearly. */
function paintRows({ level, alpha, width, height }, lines, top, bottom) {
  const image = new ImageData(width, bottom - top);
  const [left, right, share] = [new Uint32Array(width), new Uint32Array(width), new Float64Array(width)];
  for (let x = 0; x < width; x++) [left[x], right[x], share[x]] = place(x, width, lines.width);
  const row = [0, 1, 2, 3].map(() => new Float64Array(lines.width));
  const [slopeA, slopeB, heightA, heightB] = row;
  const at = (line, x) => line[left[x]] + (line[right[x]] - line[left[x]]) * share[x];
  for (let y = top, to = 0, from = top * width; y < bottom; y++) {
    const [upper, lower, down] = place(y, height, lines.height);
    row.forEach((line, number) => {
      for (let x = 0; x < line.length; x++) {
        const [one, other] = [upper, lower].map((r) => lines.data[number * lines.plane + r * lines.stride + x]);
        line[x] = one + (other - one) * down;
      }
    });
    for (let x = 0; x < width; x++, from++, to += 4) {
      const value = level[from];
      const a = 110 * Math.max(-1, Math.min(1, at(slopeA, x) * value + at(heightA, x)));
      const b = 110 * Math.max(-1, Math.min(1, at(slopeB, x) * value + at(heightB, x)));
      paintPixel(image.data, to, (value * 50 + 66) / 116, a / 500, b / 200);
      image.data[to + 3] = alpha[from];
    }
  }
  return image;
}

/** Where a pixel of many lies among few: the two beside it, and how near it is to the second. */
function place(number, many, few) {
  const middle = Math.max(0, ((number + 0.5) * few) / many - 0.5);
  const low = Math.min(Math.floor(middle), few - 1);
  return [low, Math.min(low + 1, few - 1), middle - low];
}

const rgb = new Float64Array(3);
const cube = (root) => (root > 6 / 29 ? root * root * root : ((root - 4 / 29) * 108) / 841);

/** Put a colour's linear light into rgb; say whether sRGB holds it. */
function fits(y, a, b) {
  const X = 0.95047 * cube(y + a), Y = cube(y), Z = 1.08883 * cube(y - b);
  const red = (rgb[0] = 3.2404813432 * X - 1.5371515163 * Y - 0.4985363262 * Z);
  const green = (rgb[1] = -0.96925495 * X + 1.8759900015 * Y + 0.0415559266 * Z);
  const blue = (rgb[2] = 0.0556466391 * X - 0.2040413384 * Y + 1.0573110696 * Z);
  return Math.min(red, green, blue) >= -5e-6 && Math.max(red, green, blue) <= 1 + 5e-5;
}

/** Write a colour as bytes; its chroma shrinks until sRGB holds it, L and hue stay. */
function paintPixel(bytes, to, y, a, b) {
  if (!fits(y, a, b)) {
    let scale = 0;
    for (let step = 0.5; step > 1e-4 * 2; step /= 2) if (fits(y, a * (scale + step), b * (scale + step))) scale += step;
    fits(y, a * scale, b * scale);
  }
  for (let i = 0; i < 3; i++) bytes[to + i] = BYTE[Math.round(FINE * Math.max(0, Math.min(1, rgb[i])))];
}
